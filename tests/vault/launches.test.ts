import assert from "node:assert/strict";
import { chmod, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { SecretRegistry } from "@berth/redact";
import { skipWithout } from "@berth/test-harness";
import { VaultLane, vaultSettingsFrom } from "@berth/vault";
import { forever, observedService, startVaultFixture, type VaultFixture } from "./vault-fixture.ts";

const SECRETS = { FIRST: "vault://secret/app/one", SECOND: "vault://secret/app/two", THIRD: "vault://secret/app/three" };

describe("launches against a real Vault", { skip: skipWithout("vaultdev") }, () => {
  let vault: VaultFixture;
  before(async () => {
    vault = await startVaultFixture();
  });
  after(() => vault[Symbol.asyncDispose]());

  it("logs in once and reads each path once for fifty launches at once", async () => {
    await vault.forget();
    const secrets = new SecretRegistry();
    const lane = VaultLane.open({
      settings: vaultSettingsFrom(vault.environment({ EXECUTOR_VAULT_SECRET_CACHE: "60s" })),
      secrets,
      log: { debug: () => {}, info: () => {}, warn: () => {} },
    });
    try {
      const launches = Array.from({ length: 50 }, (_, index) =>
        lane.resolveEnvironment({ taskKey: `task-${index}`, environment: SECRETS }),
      );
      const resolutions = await Promise.all(launches);

      for (const { environment } of resolutions) {
        assert.deepEqual(environment, { FIRST: "kv2-value-of-one", SECOND: "kv2-value-of-two", THIRD: "kv2-value-of-three" });
      }
      assert.equal(await vault.logins(), 1);
      for (const name of ["one", "two", "three"]) assert.equal(await vault.reads(`secret/data/app/${name}`), 1);
      assert.equal(secrets.mask("a kv2-value-of-one b"), "a [secret from vault://secret/app/one] b");

      for (let index = 0; index < 50; index++) await lane.release(`task-${index}`);
      assert.equal(secrets.mask("a kv2-value-of-one b"), "a kv2-value-of-one b");
      assert.equal(secrets.mask("correct-horse-battery"), "[secret from VAULT_PASSWORD]");
    } finally {
      await lane.close();
    }
  });

  it("reads a path once for several variables and shares a read that is under way even without a cache", async () => {
    await vault.forget();
    await using observed = observedService(vault.environment({ EXECUTOR_VAULT_SECRET_CACHE: "0" }));
    const environment = { USER: "vault://kv1/app/db?key=user", PASSWORD: "vault://kv1/app/db", PLAIN: "vault:not a reference" };

    const [one, two] = await Promise.all(
      [1, 2].map((task) => observed.service.resolveEnvironment({ taskKey: `task-${task}`, environment }, forever())),
    );

    assert.deepEqual(one?.environment, { USER: "kv1-user-of-db", PASSWORD: "kv1-value-of-db", PLAIN: "vault:not a reference" });
    assert.deepEqual(two?.environment, one?.environment);
    assert.equal(await vault.reads("kv1/app/db"), 1);
    await observed.service.resolveEnvironment({ taskKey: "task-3", environment }, forever());
    assert.equal(await vault.reads("kv1/app/db"), 2);
    assert.equal(observed.service.status().cachedSecrets, 0);
  });

  it("finds versions, nested keys and mounts of several parts", async () => {
    await vault.server.call("POST", "secret/data/app/versioned", { data: { value: "first-version" } });
    await vault.server.call("POST", "secret/data/app/versioned", {
      data: { value: "second-version", nested: { list: [{ port: 5432 }] }, "a.b": "dotted" },
    });
    await vault.server.call("POST", "team/deep/kv/data/app/db", { data: { value: '{"inner":"from text"}', big: 1 } });
    await using observed = observedService(vault.environment());
    const environment = {
      OLD: "vault://secret/app/versioned@1",
      NEW: "vault://secret/app/versioned",
      PORT: "vault://secret/app/versioned?key=nested.list.0.port",
      DOTTED: "vault://secret/app/versioned?key=a.b",
      DEEP: "vault://team/deep/kv/app/db?key=value.inner",
      API_PATH: "vault://secret/data/app/versioned",
    };

    const { environment: resolved } = await observed.service.resolveEnvironment({ taskKey: "task", environment }, forever());

    assert.deepEqual(resolved, {
      OLD: "first-version",
      NEW: "second-version",
      PORT: "5432",
      DOTTED: "dotted",
      DEEP: "from text",
      API_PATH: "second-version",
    });
  });

  for (const [reference, words] of [
    ["vault://secret/app/missing", /variable PASSWORD from vault:\/\/secret\/app\/missing: Vault has nothing at this path/],
    ["vault://secret/forbidden", /variable PASSWORD from vault:\/\/secret\/forbidden: Vault denies it .*policies app, default/],
    ["vault://secret/app/one?key=user", /variable PASSWORD from vault:\/\/secret\/app\/one: the secret has no key "user"/],
    ["vault://secret/app/one@9", /variable PASSWORD from vault:\/\/secret\/app\/one@9: Vault has nothing/],
    ["vault://kv1/app/db@1", /kv1\/ keeps no versions/],
    ["vault://secret", /variable PASSWORD holds a vault:\/\/ reference that cannot be read: it needs a mount and a path/],
  ] as const) {
    it(`says why ${reference} fails, naming variable and path`, async () => {
      await using observed = observedService(vault.environment());

      const failed = observed.service.resolveEnvironment({ taskKey: "task", environment: { ...SECRETS, PASSWORD: reference } }, forever());

      await assert.rejects(failed, (error: Error) => {
        assert.match(error.message, words);
        assert.equal((error as { code?: string }).code, "BERTH_TASK_FAILURE");
        assert.doesNotMatch(JSON.stringify([error.message, observed.lines]), /kv[12]-value/);
        return true;
      });
    });
  }

  it("keeps the token in a file that the next start takes up", async () => {
    const file = join(vault.folder.path, "token-kept");
    const environment = vault.environment({ VAULT_TOKEN_FILE: file });
    await vault.forget();
    {
      await using first = observedService(environment);
      await first.service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, forever());
    }
    const info = await stat(file);
    assert.equal(info.mode & 0o777, 0o600);
    assert.match(await readFile(file, "utf8"), /^hvs\.[\x21-\x7e]+$/);
    {
      await using second = observedService(environment);
      await second.service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, forever());
      assert.equal(second.service.status().token?.source, "file");
    }
    assert.equal(await vault.logins(), 1);
  });

  it("lets two processes' keepers that start at once on one file log in once", async () => {
    const file = join(vault.folder.path, "token-shared");
    await vault.forget();
    await using first = observedService(vault.environment({ VAULT_TOKEN_FILE: file }));
    await using second = observedService(vault.environment({ VAULT_TOKEN_FILE: file }));

    await Promise.all(
      [first, second].map(({ service }) => service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, forever())),
    );

    assert.equal(await vault.logins(), 1);
  });

  for (const [what, spoil, words] of [
    ["corrupt", (file: string) => writeFile(file, "not a\ntoken\u0000"), /not trusted/],
    ["empty", (file: string) => writeFile(file, ""), /not trusted/],
    ["readable by others", (file: string) => chmod(file, 0o644), /not trusted/],
    ["older than VAULT_TTL allows", (file: string) => utimes(file, 1, 1), /near the end of VAULT_TTL/],
    ["holding a revoked token", (file: string) => writeFile(file, "hvs.nobodyknowsthistoken"), /not valid any more/],
  ] as const) {
    it(`reports and replaces a token file that is ${what}`, async () => {
      const file = join(vault.folder.path, `token-${what.replaceAll(" ", "-")}`);
      const environment = vault.environment({ VAULT_TOKEN_FILE: file });
      {
        await using first = observedService(environment);
        await first.service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, forever());
      }
      const before = await readFile(file, "utf8");
      await spoil(file);
      await vault.forget();

      await using observed = observedService(environment);
      await observed.service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, forever());

      assert.equal(await vault.logins(), 1);
      assert.ok(observed.lines.some(({ message }) => words.test(message)));
      const replaced = await readFile(file, "utf8");
      assert.notEqual(replaced, before);
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      assert.doesNotMatch(JSON.stringify(observed.lines), new RegExp(replaced));
    });
  }

  it("takes VAULT_TOKEN before all others, and AppRole with a wrapped secret id", async () => {
    const { body } = await vault.server.call("POST", "auth/token/create", { policies: ["app"], display_name: "given" });
    const given = (body as { auth: { client_token: string } }).auth.client_token;
    {
      await using observed = observedService(vault.environment({ VAULT_TOKEN: given }));
      await observed.service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, forever());
      assert.equal(observed.service.status().token?.source, "VAULT_TOKEN");
    }
    const role = await vault.server.call("GET", "auth/approle/role/svc/role-id");
    const wrapped = await fetch(`${vault.server.address}/v1/auth/approle/role/svc/secret-id`, {
      method: "POST",
      headers: { "X-Vault-Token": vault.server.rootToken, "X-Vault-Wrap-TTL": "60s" },
    });
    const { wrap_info: wrapInfo } = (await wrapped.json()) as { wrap_info: { token: string } };
    const environment = {
      VAULT_ADDR: vault.server.address,
      VAULT_ROLE_ID: (role.body as { data: { role_id: string } }).data.role_id,
      VAULT_SECRET_ID: wrapInfo.token,
      VAULT_SECRET_ID_WRAPPED: "true",
    };
    await using observed = observedService(environment);
    const { environment: resolved } = await observed.service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, forever());
    assert.equal(resolved.FIRST, "kv2-value-of-one");
    assert.equal(observed.service.status().token?.source, "approle");
    // The secret id is kept in memory: the wrapping token gives it only once.
    await vault.server.call("POST", "auth/token/revoke-accessor", { accessor: observed.service.status().token?.accessor });
    await observed.service.resolveEnvironment({ taskKey: "task", environment: { KEY: "vault://kv1/app/db" } }, forever());
    assert.equal(observed.service.status().counters.logins, 2);
  });

  it("stops waiting and asking as soon as its caller gives up", async () => {
    await using observed = observedService(vault.environment());
    const giveUp = new AbortController();
    giveUp.abort(new Error("the task was killed"));

    await assert.rejects(
      observed.service.resolveEnvironment({ taskKey: "task", environment: SECRETS }, giveUp.signal),
      /the task was killed/,
    );
  });
});
