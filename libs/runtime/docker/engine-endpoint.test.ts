import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createServer } from "node:tls";
import { sharedDockerd, tempDir, waitFor } from "@berth/test-harness";
import { dockerEndpoint } from "./engine-endpoint.ts";
import { isUnreachable } from "./engine-errors.ts";
import { openTestEngine } from "./engine-test-kit.ts";

describe("where dockerd is, by the DOCKER_* variables", () => {
  test("unix sockets, TCP and versions", () => {
    assert.deepEqual(dockerEndpoint({}), { url: "unix:///var/run/docker.sock", socketPath: "/var/run/docker.sock" });
    assert.deepEqual(dockerEndpoint({ DOCKER_HOST: "unix:///d.sock", DOCKER_API_VERSION: "1.41" }), {
      url: "unix:///d.sock",
      socketPath: "/d.sock",
      apiVersion: "v1.41",
    });
    assert.deepEqual(dockerEndpoint({ DOCKER_HOST: "tcp://10.0.0.1" }), { url: "tcp://10.0.0.1", host: "10.0.0.1", port: 2375 });
    assert.deepEqual(dockerEndpoint({ DOCKER_HOST: "tcp://[::1]:99" }), { url: "tcp://[::1]:99", host: "::1", port: 99 });
  });

  test("mistakes name their variable", () => {
    assert.throws(() => dockerEndpoint({ DOCKER_HOST: "unix://relative.sock" }), /DOCKER_HOST .*absolute/);
    assert.throws(() => dockerEndpoint({ DOCKER_HOST: "ssh://host" }), /DOCKER_HOST/);
    assert.throws(() => dockerEndpoint({ DOCKER_API_VERSION: "latest" }), /DOCKER_API_VERSION/);
    assert.throws(
      () => dockerEndpoint({ DOCKER_HOST: "tcp://h", DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: "/absent" }),
      /DOCKER_CERT_PATH.*ca\.pem/,
    );
  });

  test("TLS with a client certificate carries calls, streams and events; an untrusted server is refused", { timeout: 60_000 }, async () => {
    await using dockerd = await sharedDockerd();
    await using folder = await tempDir("tls");
    await makeCertificates(folder.path);
    const read = (file: string): Buffer => readFileSync(join(folder.path, file));
    const server = createServer(
      { ca: read("ca.pem"), cert: read("cert.pem"), key: read("key.pem"), requestCert: true, rejectUnauthorized: true },
      (client) => {
        const upstream = connect(dockerd.host.replace("unix://", ""));
        client.pipe(upstream).pipe(client);
        client.on("error", () => upstream.destroy()).on("close", () => upstream.destroy());
        upstream.on("error", () => client.destroy()).on("close", () => client.destroy());
      },
    );
    server.unref();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const trusted = dockerEndpoint({ DOCKER_HOST: url, DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: folder.path, DOCKER_API_VERSION: "1.41" });
    {
      await using kit = await openTestEngine(dockerd.host, { endpoint: trusted });
      await kit.engine.watch({});
      await waitFor(() => kit.told.some(([name]) => name === "up"));
      const id = await kit.container(["sh", "-c", "sleep 1000"]);
      await kit.engine.start({ id });
      assert.equal((await kit.engine.exec({ id, argv: ["echo", "over tls"], timeoutMs: 20_000 })).output, "over tls\n");
      await waitFor(() => kit.containerEvents(id).some(({ action }) => action === "start"));
    }
    const { tls, ...plain } = trusted;
    const stranger = await openTestEngine(dockerd.host, { endpoint: { ...plain, tls: { verify: true } } });
    await assert.rejects(stranger.engine.ping(), isUnreachable);
    stranger.engine.close();
    await new Promise((resolve) => server.close(resolve));
  });
});

async function makeCertificates(folder: string): Promise<void> {
  const openssl = (...args: string[]): void => void execFileSync("openssl", args, { cwd: folder, stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  openssl("req", "-x509", ...key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=test ca");
  openssl("req", "-new", ...key.slice(0, 5), "-keyout", "key.pem", "-out", "cert.csr", "-subj", "/CN=dockerd");
  await writeFile(join(folder, "names"), "subjectAltName=IP:127.0.0.1\n");
  openssl(
    "x509",
    "-req",
    "-in",
    "cert.csr",
    "-CA",
    "ca.pem",
    "-CAkey",
    "ca-key.pem",
    "-CAcreateserial",
    "-days",
    "2",
    "-extfile",
    "names",
    "-out",
    "cert.pem",
  );
}
