import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { VaultSettingsError, vaultSettingsFrom } from "./settings.ts";

describe("vaultSettingsFrom", () => {
  it("has the defaults that are documented", () => {
    assert.deepEqual(vaultSettingsFrom({}), {
      address: "https://127.0.0.1:8200",
      ttlMs: 86_400_000,
      maxRetries: 2,
      requestTimeoutMs: 60_000,
      tls: { skipVerify: false },
      secretCacheMs: 5_000,
      waitMs: 300_000,
      concurrency: 8,
    });
  });

  it("reads every setting", () => {
    const settings = vaultSettingsFrom({
      ...{ VAULT_ADDR: "https://vault:8200/", VAULT_NAMESPACE: "team", VAULT_TOKEN: " t ", VAULT_TOKEN_FILE: "/f", VAULT_TTL: "7200" },
      ...{ VAULT_USERNAME: "u", VAULT_PASSWORD_FILE: "/p", VAULT_ROLE_ID: "r", VAULT_SECRET_ID: "s", VAULT_SECRET_ID_WRAPPED: "true" },
      ...{ VAULT_MAX_RETRIES: "0", VAULT_CLIENT_TIMEOUT: "1m30s", VAULT_CACERT: "/ca", VAULT_CAPATH: "/cas", VAULT_SKIP_VERIFY: "1" },
      ...{
        VAULT_CLIENT_CERT: "/c",
        VAULT_CLIENT_KEY: "/k",
        VAULT_TLS_SERVER_NAME: "n",
        VAULT_SECRET_CACHE: "1s",
        EXECUTOR_VAULT_SECRET_CACHE: "0",
      },
      ...{
        EXECUTOR_VAULT_WAIT: "10s",
        EXECUTOR_VAULT_CONCURRENCY: "3",
        REDIS_URL: "redis://h",
        CREDENTIALS_DIRECTORY: "/run/c",
        EXECUTOR_LOG_HOSTNAME: "me",
      },
    });

    assert.deepEqual(settings, {
      ...{
        address: "https://vault:8200",
        namespace: "team",
        token: "t",
        tokenFile: "/f",
        ttlMs: 7_200_000,
        maxRetries: 0,
        requestTimeoutMs: 90_000,
      },
      userpass: { username: "u", mount: "userpass", password: { file: "/p" } },
      appRole: { roleId: "r", mount: "approle", secretId: { value: "s" }, wrapped: true },
      tls: { caFile: "/ca", caDirectory: "/cas", certificateFile: "/c", keyFile: "/k", serverName: "n", skipVerify: true },
      ...{ secretCacheMs: 0, waitMs: 10_000, concurrency: 3 },
      fleet: { redisUrl: "redis://h", keyFile: "/run/c/berth-fleet-key", name: "default", host: "me" },
    });
  });

  for (const [variable, value, words] of [
    ["VAULT_ADDR", "vault:8200", /not an http or https URL/],
    ["VAULT_ADDR", "http://u:pass@vault", /must not hold a user/],
    ["VAULT_TTL", "a day", /not a duration/],
    ["VAULT_SKIP_VERIFY", "maybe", /neither true nor false/],
    ["VAULT_MAX_RETRIES", "-1", /not a number from 0/],
    ["VAULT_USERNAME", "svc", /without VAULT_PASSWORD/],
    ["REDIS_URL", "http://u:pass@h", /is not redis:/],
    ["EXECUTOR_VAULT_SECRET_CACHE", "30", /not a duration like 5s/],
  ] as const) {
    it(`refuses ${variable}=${value}`, () => {
      assert.throws(
        () => vaultSettingsFrom({ [variable]: value }),
        (error: unknown) =>
          error instanceof VaultSettingsError &&
          error.variable === variable &&
          words.test(error.message) &&
          !error.message.includes("pass@"),
      );
    });
  }
});
