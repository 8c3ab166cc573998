import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { appendFileSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { inspect } from "node:util";
import { maskingDestination, SecretRegistry } from "@berth/redact";
import { type ForbiddenValue, leaksInFiles, leaksInText } from "@berth/redact/proof";
import { skipWithout, startRedis, tempDir, waitFor } from "@berth/test-harness";
import { VaultLane, vaultSettingsFrom } from "@berth/vault";
import { pino } from "pino";
import { startFaultProxy } from "./fault-proxy.ts";
import { PASSWORD, startVaultFixture } from "./vault-fixture.ts";

describe("everything that a run writes", { skip: skipWithout("vaultdev") }, () => {
  it("holds no secret, whatever goes wrong, and the token only in its file", async () => {
    await using folder = await tempDir("leak");
    await using redis = await startRedis({ args: ["--requirepass", "redis-password-of-the-test"] });
    await using vault = await startVaultFixture();
    await using proxy = await startFaultProxy(vault.server.address);
    const state = join(folder.path, "state");
    await mkdir(state);
    const keyFile = join(folder.path, "key");
    await writeFile(keyFile, `k:${randomBytes(32).toString("base64")}`, { mode: 0o600 });
    const logFile = join(state, "berthd.log");
    const tokenFile = join(state, "token");
    const secrets = new SecretRegistry();
    const log = pino({ level: "debug" }, maskingDestination(secrets, { write: (line) => appendFileSync(logFile, line) }));
    const lane = VaultLane.open({
      settings: vaultSettingsFrom({
        ...vault.environment({ VAULT_ADDR: proxy.address, VAULT_TOKEN_FILE: tokenFile, EXECUTOR_VAULT_WAIT: "3s", VAULT_MAX_RETRIES: "0" }),
        ...{ REDIS_URL: redis.url.replace("//", "//:redis-password-of-the-test@"), EXECUTOR_FLEET_KEY_FILE: keyFile },
      }),
      ...{ secrets, log },
    });
    const shown: string[] = [];
    const attempt = async (taskKey: string, environment: Record<string, string>): Promise<void> => {
      try {
        const resolution = await lane.resolveEnvironment({ taskKey, environment, onWaiting: (waiting) => shown.push(waiting.reason) });
        // What a careless caller may log.
        log.info({ resolution }, `resolved ${JSON.stringify(resolution.environment)}`);
      } catch (error) {
        shown.push(inspect(error, { depth: 9 }));
        log.warn({ err: error }, "a launch failed");
      }
    };
    const token = async (): Promise<string> => readFile(tokenFile, "utf8");
    let forbidden: ForbiddenValue[] = [];
    try {
      await attempt("one", { A: "vault://secret/app/one", B: "vault://kv1/app/db?key=user" });
      const first = await token();
      await attempt("missing", { A: "vault://secret/app/two", B: "vault://secret/app/nothing" });
      proxy.fault = () => ({ kind: "status", status: 500, body: JSON.stringify({ errors: [`no luck with ${first} and ${PASSWORD}`] }) });
      await attempt("failing", { A: "vault://secret/app/three" });
      proxy.fault = () => ({ kind: "none" });
      await waitFor(async () => (await lane.status()).state === "open");
      await vault.server.call("POST", "auth/token/revoke-accessor", { accessor: (await lane.status()).token?.accessor });
      await attempt("revoked", { A: "vault://kv1/app/db" });
      shown.push(JSON.stringify(await lane.status()));
      forbidden = [
        ...["kv2-value-of-one", "kv1-user-of-db", "kv1-value-of-db", PASSWORD, "redis-password-of-the-test"],
        ...[first, await token()],
      ].map((value, index) => ({ label: `value ${index}`, value }));
      assert.equal(new Set(forbidden.map(({ value }) => value)).size, 7);
    } finally {
      await lane.close();
    }

    const leaks = await leaksInFiles([state], forbidden);
    assert.deepEqual(
      leaks.filter(({ where }) => where !== tokenFile),
      [],
    );
    assert.ok(leaks.some(({ where }) => where === tokenFile));
    assert.deepEqual(leaksInText(shown.join("\n"), "shown", forbidden), []);
    assert.ok(
      shown.some((text) => /Vault at http:\S+ answered 500: no luck with … and \[secret from VAULT_PASSWORD\]/.test(text)),
      shown.join("\n"),
    );
    assert.match(await readFile(logFile, "utf8"), /\[secret from vault:\/\/secret\/app\/one\]/);
  });
});
