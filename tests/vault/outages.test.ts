import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { freePort, skipWithout, tempDir, waitFor } from "@berth/test-harness";
import { type Fault, startFaultProxy } from "./fault-proxy.ts";
import { forever, type ObservedService, observedService, startVaultFixture, type VaultFixture } from "./vault-fixture.ts";

const SECRETS = { FIRST: "vault://secret/app/one", SECOND: "vault://secret/app/two", THIRD: "vault://secret/app/three" };
const SEALED: Fault = { kind: "status", status: 503, body: '{"errors":["Vault is sealed"],"sealed":true,"initialized":true}' };

const launchMany = (observed: ObservedService, count: number): Promise<PromiseSettledResult<unknown>[]> =>
  Promise.allSettled(
    Array.from({ length: count }, (_, index) =>
      observed.service.resolveEnvironment({ taskKey: `task-${index}`, environment: SECRETS }, forever()),
    ),
  );
const isLogin = (line: string): boolean => line.includes("/login/");

describe("Vault in trouble", { skip: skipWithout("vaultdev") }, () => {
  let vault: VaultFixture;
  before(async () => {
    vault = await startVaultFixture();
  });
  after(() => vault[Symbol.asyncDispose]());

  it("lets launches wait while Vault is sealed, with one probe at a time and one login at the end", async () => {
    await using proxy = await startFaultProxy(vault.server.address);
    await using observed = observedService(vault.environment({ VAULT_ADDR: proxy.address, EXECUTOR_VAULT_SECRET_CACHE: "60s" }));
    proxy.fault = () => SEALED;
    const launched = launchMany(observed, 50);
    await waitFor(() => proxy.seen.filter((line) => line.includes("sys/health")).length >= 3);
    const sealedLogins = proxy.seen.filter(isLogin).length;
    assert.equal(observed.service.status().state, "sealed");
    assert.ok(observed.waiting.every((reason) => /is sealed/.test(reason)));
    assert.equal(new Set(observed.waiting).size, 1);

    proxy.fault = () => ({ kind: "none" });
    const results = await launched;

    assert.ok(results.every(({ status }) => status === "fulfilled"));
    assert.equal(sealedLogins, 1, "fifty launches at a sealed Vault try one login");
    assert.equal(proxy.seen.filter(isLogin).length, 2);
    assert.equal(observed.service.status().state, "open");
    assert.equal(observed.lines.filter(({ message }) => /Vault is away/.test(message)).length, 1);
  });

  it("gives up after EXECUTOR_VAULT_WAIT and says that Vault is sealed", async () => {
    await using sealed = await startVaultFixture();
    await using observed = observedService(sealed.environment({ EXECUTOR_VAULT_WAIT: "300ms" }));
    assert.equal((await sealed.server.call("PUT", "sys/seal")).status, 204);

    const [result] = await launchMany(observed, 1);

    assert.equal(result?.status, "rejected");
    const { message, recoverable } = (result as PromiseRejectedResult).reason as { message: string; recoverable: boolean };
    assert.match(message, /variable FIRST from vault:\/\/secret\/app\/one: Vault at http:\S+ is sealed.*; gave up after 300ms/);
    assert.equal(recoverable, true);
    assert.equal(observed.service.status().state, "sealed");
  });

  it("lets a launch go that is given up while it waits", async () => {
    await using proxy = await startFaultProxy(vault.server.address);
    await using observed = observedService(vault.environment({ VAULT_ADDR: proxy.address }));
    proxy.fault = () => SEALED;
    const kill = new AbortController();
    const launched = observed.service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, kill.signal);
    launched.catch(() => {});
    await waitFor(() => observed.waiting.length > 0);

    kill.abort(new Error("the task was killed"));

    await assert.rejects(launched, /the task was killed/);
  });

  it("waits for a Vault that is not there, and goes on when it is", async () => {
    const port = await freePort();
    await using observed = observedService(vault.environment({ VAULT_ADDR: `http://127.0.0.1:${port}` }));
    const launched = launchMany(observed, 20);
    await waitFor(() => observed.service.status().state === "unreachable");
    assert.match(observed.waiting[0] ?? "", /cannot be reached \(ECONNREFUSED\)/);
    assert.ok(observed.service.status().counters.logins <= 1);

    await using late = await startVaultFixture();
    // It is to be found only when its users and secrets are in it: until then it would refuse a login for good.
    await using _found = await startFaultProxy(late.server.address, port);
    const results = await launched;

    assert.ok(results.every(({ status }) => status === "fulfilled"));
    assert.equal(await late.logins(), 1);
  });

  it("is not held up by a Vault that hangs: other calls settle, the launch ends in time", async () => {
    await using proxy = await startFaultProxy(vault.server.address);
    await using observed = observedService(vault.environment({ VAULT_ADDR: proxy.address, EXECUTOR_VAULT_WAIT: "500ms" }));
    proxy.fault = () => ({ kind: "hang" });
    const launched = launchMany(observed, 1);

    assert.equal(observed.service.status().state, "open");
    const plain = await observed.service.resolveEnvironment({ taskKey: "other", environment: { PLAIN: "1" } }, forever());
    assert.deepEqual(plain.environment, { PLAIN: "1" });
    const [result] = await launched;
    assert.match(((result as PromiseRejectedResult).reason as Error).message, /Vault at http:\S+ has not answered; gave up after 500ms/);
  });

  it("waits out a slow Vault", async () => {
    await using proxy = await startFaultProxy(vault.server.address);
    await using observed = observedService(vault.environment({ VAULT_ADDR: proxy.address, EXECUTOR_VAULT_SECRET_CACHE: "60s" }));
    proxy.fault = () => ({ kind: "slow", ms: 700 });

    const results = await launchMany(observed, 20);

    assert.ok(results.every(({ status }) => status === "fulfilled"));
    assert.equal(proxy.seen.filter(isLogin).length, 1);
    assert.equal(proxy.seen.length, 5);
  });

  it("repeats a single path that answers 500 VAULT_MAX_RETRIES times and holds up no other", async () => {
    await using proxy = await startFaultProxy(vault.server.address);
    await using observed = observedService(vault.environment({ VAULT_ADDR: proxy.address, VAULT_MAX_RETRIES: "1" }));
    proxy.fault = (path) =>
      path.endsWith("/app/one") && !path.includes("mounts")
        ? { kind: "status", status: 500, body: '{"errors":["backend broke"]}' }
        : { kind: "none" };

    const broken = observed.service.resolveEnvironment({ taskKey: "broken", environment: SECRETS }, forever());
    const healthy = observed.service.resolveEnvironment({ taskKey: "healthy", environment: { KEY: "vault://kv1/app/db" } }, forever());

    assert.equal((await healthy).environment.KEY, "kv1-value-of-db");
    await assert.rejects(broken, /variable FIRST from vault:\/\/secret\/app\/one: Vault at http:\S+ answered 500: backend broke/);
    assert.equal(proxy.seen.filter((line) => line.endsWith("/secret/data/app/one")).length, 2);
  });

  it("holds the whole host back when Vault asks for fewer requests", async () => {
    await using proxy = await startFaultProxy(vault.server.address);
    await using observed = observedService(vault.environment({ VAULT_ADDR: proxy.address }));
    let refusals = 0;
    proxy.fault = (path) => {
      if (!path.includes("/secret/data/") || refusals >= 2) return { kind: "none" };
      refusals += 1;
      return { kind: "status", status: 429, body: '{"errors":["rate limit quota exceeded"]}', headers: { "retry-after": "1" } };
    };

    const results = await launchMany(observed, 10);

    assert.ok(results.every(({ status }) => status === "fulfilled"));
    assert.ok(observed.waiting.some((reason) => /asks for fewer requests/.test(reason)));
    assert.ok(proxy.seen.filter((line) => line.includes("/secret/data/")).length <= 8);
  });

  it("tries a login that is refused once per backoff step, however many launches there are", async () => {
    await vault.forget();
    await using observed = observedService(vault.environment({ VAULT_PASSWORD: "wrong-horse-battery" }));

    const first = await launchMany(observed, 30);
    const second = await launchMany(observed, 30);

    for (const result of [...first, ...second]) {
      const { message } = (result as PromiseRejectedResult).reason as Error;
      assert.match(message, /Vault does not let user svc log in \(invalid username or password\); check VAULT_USERNAME/);
      assert.doesNotMatch(message, /wrong-horse/);
    }
    assert.ok((await vault.logins()) <= 2);
    assert.ok(observed.service.status().counters.logins <= 2);
  });

  it("survives 403 for everything without a storm of logins", async () => {
    await using proxy = await startFaultProxy(vault.server.address);
    await using observed = observedService(vault.environment({ VAULT_ADDR: proxy.address }));
    for (const words of ["permission denied", "2 errors occurred:\\n\\t* permission denied\\n\\t* invalid token\\n\\n"]) {
      proxy.fault = (path) => (isLogin(path) ? { kind: "none" } : { kind: "status", status: 403, body: `{"errors":["${words}"]}` });
      const results = await launchMany(observed, 30);
      assert.ok(results.every(({ status }) => status === "rejected"));
    }
    assert.ok(proxy.seen.filter(isLogin).length <= 3, `${proxy.seen.filter(isLogin).length} logins`);
  });

  it("logs in once when the token was revoked under it", async () => {
    await using observed = observedService(vault.environment({ EXECUTOR_VAULT_SECRET_CACHE: "0" }));
    await launchMany(observed, 1);
    const accessor = observed.service.status().token?.accessor;
    await vault.forget();
    const { status } = await vault.server.call("POST", "auth/token/revoke-accessor", { accessor });
    assert.equal(status, 204);

    const results = await launchMany(observed, 50);

    assert.ok(results.every((result) => result.status === "fulfilled"));
    assert.equal(await vault.logins(), 1);
    assert.notEqual(observed.service.status().token?.accessor, accessor);
    assert.ok(observed.lines.some(({ message }) => /was revoked or has ended/.test(message)));
  });

  it("renews around half of the lifetime, and replaces the token before its maximum", async () => {
    await using short = await startVaultFixture({ tokenTtl: "2s", tokenMaxTtl: "5s" });
    await using observed = observedService(short.environment());
    await launchMany(observed, 1);
    const first = observed.service.status().token?.accessor;

    await waitFor(() => observed.service.status().counters.tokenRenewals >= 1);
    await waitFor(() => observed.service.status().token?.accessor !== first);
    const { token, counters } = observed.service.status();
    assert.ok((token?.expiresAt ?? 0) > Date.now());
    assert.equal(counters.logins, 2);
    assert.ok(
      !observed.lines.some(({ message }) => /was revoked or has ended/.test(message)),
      "the first token was replaced before it ended",
    );
    assert.ok((await launchMany(observed, 1)).every(({ status }) => status === "fulfilled"));
  });

  it("follows a standby to the active node, but not for ever", async () => {
    await using proxy = await startFaultProxy(vault.server.address);
    await using observed = observedService(vault.environment({ VAULT_ADDR: proxy.address, EXECUTOR_VAULT_WAIT: "500ms" }));
    const to = (address: string, path: string): Fault => ({
      kind: "status",
      status: 307,
      body: "",
      headers: { location: `${address}${path}` },
    });
    proxy.fault = (path) => to(vault.server.address, path);
    const [followed] = await launchMany(observed, 1);
    assert.equal(followed?.status, "fulfilled");

    proxy.fault = (path) => to(proxy.address, path);
    const lost = observed.service.resolveEnvironment({ taskKey: "task", environment: { KEY: "vault://kv1/app/db" } }, forever());
    await assert.rejects(lost, /answered (status )?307.*; gave up after 500ms/);
  });

  it("says what is wrong with a certificate, and accepts it with VAULT_CACERT and VAULT_TLS_SERVER_NAME", async () => {
    await using folder = await tempDir("tls");
    const [key, certificate] = [join(folder.path, "key.pem"), join(folder.path, "cert.pem")];
    const subject = ["-subj", "/CN=vault.test", "-addext", "subjectAltName=DNS:vault.test"];
    await promisify(execFile)("openssl", [
      "req",
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-days",
      "1",
      "-keyout",
      key,
      "-out",
      certificate,
      ...subject,
    ]);
    await using plain = await startFaultProxy(vault.server.address);
    const server = createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (incoming, outgoing) => {
      void fetch(`${plain.address}${incoming.url}`, {
        method: incoming.method ?? "GET",
        headers: { "X-Vault-Token": String(incoming.headers["x-vault-token"] ?? "") },
        ...(incoming.method === "GET" ? {} : { body: incoming as never, duplex: "half" }),
      } as RequestInit).then(async (answer) => outgoing.writeHead(answer.status).end(await answer.text()));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
      {
        await using observed = observedService(vault.environment({ VAULT_ADDR: address }));
        const [result] = await launchMany(observed, 1);
        assert.match(
          ((result as PromiseRejectedResult).reason as Error).message,
          /TLS connection to Vault at https:\S+ fails \(DEPTH_ZERO_SELF_SIGNED_CERT\); check VAULT_CACERT/,
        );
      }
      await using observed = observedService(
        vault.environment({ VAULT_ADDR: address, VAULT_CACERT: certificate, VAULT_TLS_SERVER_NAME: "vault.test" }),
      );
      const [result] = await launchMany(observed, 1);
      assert.equal(result?.status, "fulfilled");
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
