/** Syslog over TLS: real certificates, rsyslog and node:tls as receivers. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer as createPlainServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createServer, type TlsOptions as ServerOptions, type TLSSocket } from "node:tls";
import { freePort, startProcess, type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { LogRelay } from "./relay.ts";
import type { SinkStatistics, TlsOptions } from "./types.ts";

let folder: TempDir;
const at = (name: string): string => join(folder.path, name);

before(async () => {
  folder = await tempDir("tls");
  authority("ca");
  authority("other");
  certificate("server", "ca", "DNS:logs.example,IP:127.0.0.1");
  certificate("named", "ca", "DNS:logs.example");
  certificate("expired", "ca", "IP:127.0.0.1", "-1");
  certificate("client", "ca", "DNS:client.example");
  certificate("stranger", "other", "DNS:client.example");
  writeFileSync(at("broken.pem"), "no certificate\n");
});
after(() => folder?.remove());

function openssl(...args: string[]): void {
  execFileSync("openssl", args, { cwd: folder.path, stdio: "pipe" });
}

function authority(name: string): void {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
  openssl("req", "-x509", ...key, "-subj", `/CN=${name}`, "-days", "2", "-out", `${name}.pem`);
}

function certificate(name: string, by: string, names: string, days = "2"): void {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
  openssl("req", "-new", ...key, "-subj", `/CN=${name}`, "-out", `${name}.csr`);
  writeFileSync(at(`${name}.ext`), `subjectAltName=${names}\n`);
  const signed = ["-CA", `${by}.pem`, "-CAkey", `${by}.key`, "-CAcreateserial", "-extfile", `${name}.ext`];
  openssl("x509", "-req", "-in", `${name}.csr`, ...signed, "-days", days, "-out", `${name}.pem`);
}

/** A task whose lines go to a TLS syslog receiver. */
async function send(address: string, tls: TlsOptions): Promise<{ relay: LogRelay; write(lines: string[]): void; sink(): SinkStatistics }> {
  const events = { positions: () => undefined, output: () => {}, problem: () => {}, log: () => {} };
  const relay = new LogRelay({ docker: { url: "unix:///nowhere", socketPath: "/nowhere" } }, events);
  const sinks = [{ type: "syslog", transport: "tls", address, tls } as const];
  relay.follow({ taskKey: "t", source: { kind: "pushed" }, sinks, fields: { ServiceName: "svc" }, hostname: "host1" });
  await waitFor(() => relay.stats().tasks.length === 1);
  return {
    relay,
    write: (lines) => relay.push({ taskKey: "t", stream: "stdout", bytes: Buffer.from(lines.map((line) => `${line}\n`).join("")) }),
    sink: () => relay.stats().tasks[0]?.sinks[0] as SinkStatistics,
  };
}

/** A receiver that reads RFC 5424 with octet counts. */
async function receiver(options: ServerOptions): Promise<{ address: string; messages: string[]; stop(): Promise<void> }> {
  const sockets = new Set<TLSSocket>();
  const messages: string[] = [];
  const server = createServer(options, (socket) => {
    sockets.add(socket);
    let rest = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      for (;;) {
        const space = rest.indexOf(" ");
        const length = Number(rest.toString("latin1", 0, space));
        if (space < 0 || rest.length < space + 1 + length) return;
        messages.push(rest.toString("utf8", space + 1, space + 1 + length));
        rest = rest.subarray(space + 1 + length);
      }
    });
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const stop = async (): Promise<void> => {
    const closed = once(server, "close");
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  return { address: `127.0.0.1:${port}`, messages, stop };
}

const own = (name: string): ServerOptions => ({ cert: readFileSync(at(`${name}.pem`)), key: readFileSync(at(`${name}.key`)) });

test("rsyslog that demands a client certificate takes every message", async () => {
  const port = await freePort();
  const config = `global(workDirectory="${folder.path}" defaultNetstreamDriver="ossl" parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriverCAFile="${at("ca.pem")}" defaultNetstreamDriverCertFile="${at("server.pem")}" defaultNetstreamDriverKeyFile="${at("server.key")}")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/name" permittedPeer=["client.example"])
template(name="t" type="string" string="%pri%|%hostname%|%app-name%|%msg%\\n")
ruleset(name="r") { action(type="omfile" file="${at("out")}" template="t" flushOnTXEnd="on") }
input(type="imtcp" address="127.0.0.1" port="${port}" ruleset="r")
`;
  writeFileSync(at("rsyslog.conf"), config);
  await using _server = await startProcess({
    name: "rsyslogd",
    command: "/usr/sbin/rsyslogd",
    args: ["-n", "-iNONE", "-f", at("rsyslog.conf")],
    ready: () => listens(port),
  });
  const address = `127.0.0.1:${port}`;
  const lines = Array.from({ length: 3_000 }, (_, number) => `zażółć ${number}`);
  const got = (): string[] => (existsSync(at("out")) ? readFileSync(at("out"), "utf8").trimEnd().split("\n") : []);

  const { relay, write, sink } = await send(address, { ca: at("ca.pem"), cert: at("client.pem"), key: at("client.key") });
  write(lines);
  await waitFor(() => got().length >= 3_000, { what: "all messages" });

  assert.deepEqual(
    got(),
    lines.map((line) => `14|host1|svc|${line}`),
  );
  assert.equal(sink().problem, undefined);
  relay.close();

  const without = await send(address, { ca: at("ca.pem") });
  without.write(["nothing"]);
  await waitFor(() => /client certificate/.test(without.sink().problem ?? ""));
  assert.equal(got().length, 3_000);
  without.relay.close();
});

async function listens(port: number): Promise<boolean> {
  return readFileSync("/proc/net/tcp", "latin1").includes(`0100007F:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`);
}

describe("what is wrong is told with what to do, and nothing is lost", () => {
  const cases: Array<[what: string, server: () => ServerOptions, tls: () => TlsOptions, problem: RegExp]> = [
    ["a CA that did not sign", () => own("server"), () => ({ ca: at("other.pem") }), /signed by no CA of .*other\.pem/],
    ["no CA where the system's does not do", () => own("server"), () => ({}), /name its CA's file in syslogCa/],
    [
      "another name",
      () => own("named"),
      () => ({ ca: at("ca.pem") }),
      /is for DNS:logs\.example, not for 127\.0\.0\.1: set syslogServerName/,
    ],
    [
      "a name that it has not",
      () => own("server"),
      () => ({ ca: at("ca.pem"), serverName: "x.example" }),
      /is for DNS:logs\.example, IP Address:127\.0\.0\.1, not for x\.example/,
    ],
    ["a certificate that is over", () => own("expired"), () => ({ ca: at("ca.pem") }), /has expired: renew it/],
    [
      "a client certificate that is missing",
      () => ({ ...own("server"), requestCert: true, ca: readFileSync(at("ca.pem")) }),
      () => ({ ca: at("ca.pem") }),
      /demands a client certificate: set syslogCert and syslogKey/,
    ],
    [
      "one that is missing, in TLS 1.2",
      () => ({ ...own("server"), requestCert: true, ca: readFileSync(at("ca.pem")), maxVersion: "TLSv1.2" }),
      () => ({ ca: at("ca.pem") }),
      /demands a client certificate/,
    ],
    [
      "one that the receiver's CA did not sign",
      () => ({ ...own("server"), requestCert: true, ca: readFileSync(at("ca.pem")) }),
      () => ({ ca: at("ca.pem"), cert: at("stranger.pem"), key: at("stranger.key") }),
      /(does|may) not accept the client certificate .*stranger\.pem/,
    ],
    ["a file that is not there", () => own("server"), () => ({ ca: at("none.pem") }), /the CA file .*none\.pem cannot be read: ENOENT/],
    ["a file that is no PEM", () => own("server"), () => ({ ca: at("broken.pem") }), /the CA file .*broken\.pem is no PEM file/],
    ["a certificate without its key", () => own("server"), () => ({ ca: at("ca.pem"), cert: at("client.pem") }), /its key is not set/],
    [
      "a key of another certificate",
      () => own("server"),
      () => ({ ca: at("ca.pem"), cert: at("client.pem"), key: at("stranger.key") }),
      /client\.pem, .*stranger\.key cannot be used: .*the key must/,
    ],
  ];
  for (const [what, server, tls, problem] of cases) {
    test(what, async () => {
      const receiving = await receiver(server());
      const { relay, write, sink } = await send(receiving.address, tls());
      write(["one", "two"]);
      await waitFor(() => problem.test(sink().problem ?? ""), { what: `${problem}` }).catch((error: Error) => {
        throw new Error(`${error.message}; told: ${sink().problem}`);
      });

      assert.equal(receiving.messages.length, 0);
      assert.deepEqual(sink().dropped, {});
      relay.close();
      await receiving.stop();
    });
  }

  test("a receiver that speaks no TLS", async () => {
    const server = createPlainServer((socket) =>
      socket
        .on("error", () => {})
        .resume()
        .end("hello\n"),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { relay, write, sink } = await send(`127.0.0.1:${(server.address() as { port: number }).port}`, { ca: at("ca.pem") });
    write(["one"]);
    await waitFor(() => /speaks no TLS/.test(sink().problem ?? ""));
    relay.close();
    server.close();
    await once(server, "close");
  });
});

test("the receiver's name is the one that is set; a client certificate is given; broken connections lose nothing", async () => {
  const receiving = await receiver({ ...own("named"), requestCert: true, ca: readFileSync(at("ca.pem")) });
  const { relay, write, sink } = await send(receiving.address, {
    ca: at("ca.pem"),
    cert: at("client.pem"),
    key: at("client.key"),
    serverName: "logs.example",
  });
  write(["one", "two"]);
  await waitFor(() => receiving.messages.length === 2);

  assert.match(receiving.messages[1] ?? "", /^<14>1 \S+ host1 svc - stdout - two$/);
  assert.equal(sink().sent, 2);
  relay.close();
  await receiving.stop();
});

test("a file that is mended counts from the next connection on", async () => {
  const receiving = await receiver(own("server"));
  const { relay, write, sink } = await send(receiving.address, { ca: at("later.pem") });
  write(["one", "two"]);
  await waitFor(() => /later\.pem cannot be read/.test(sink().problem ?? ""));

  copyFileSync(at("ca.pem"), at("later.pem"));

  await waitFor(() => receiving.messages.length === 2);
  await waitFor(() => sink().problem === undefined);
  assert.deepEqual(sink().dropped, {});
  relay.close();
  await receiving.stop();
});
