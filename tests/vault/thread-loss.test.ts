import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Worker } from "node:worker_threads";
import { SecretRegistry } from "@berth/redact";
import { skipWithout, waitFor } from "@berth/test-harness";
import { VaultLane, vaultSettingsFrom } from "@berth/vault";
import { enableAws, startFakeAws } from "./fake-aws.ts";
import { startFaultProxy } from "./fault-proxy.ts";
import { startVaultFixture } from "./vault-fixture.ts";

describe("the loss of the Vault thread", { skip: skipWithout("vaultdev") }, () => {
  it("costs no launch and no lease: calls are sent again, leases handed to the new thread", async () => {
    await using vault = await startVaultFixture();
    await using aws = await startFakeAws();
    await using proxy = await startFaultProxy(vault.server.address);
    await enableAws(vault.server, aws, { lease: "3s", lease_max: "1h" });
    const warnings: string[] = [];
    const threads: Worker[] = [];
    const watch = (thread: Worker): void => void threads.push(thread);
    process.on("worker", watch);
    const lane = VaultLane.open({
      settings: vaultSettingsFrom(vault.environment({ VAULT_ADDR: proxy.address, VAULT_TOKEN_FILE: `${vault.folder.path}/token` })),
      secrets: new SecretRegistry(),
      log: { debug: () => {}, info: () => {}, warn: (_fields, message) => void warnings.push(message) },
    });
    const lost: string[] = [];
    lane.on("leaseLost", ({ reason }) => void lost.push(reason));
    try {
      await lane.awsCredentials({ taskKey: "leased", role: "user", ttlMs: 0 });
      let answers = 0;
      proxy.fault = (path) => {
        if (!path.endsWith("/secret/data/app/one")) return { kind: "none" };
        answers += 1;
        return answers === 1 ? { kind: "hang" } : { kind: "none" };
      };
      const launched = lane.resolveEnvironment({ taskKey: "other", environment: { KEY: "vault://secret/app/one" } });
      await waitFor(() => answers === 1);

      assert.equal(threads.length, 1);
      await threads[0]?.terminate();
      const { environment } = await launched;

      assert.equal(environment.KEY, "kv2-value-of-one");
      assert.equal(answers, 2);
      assert.ok(warnings.includes("a worker thread died and is being replaced"));
      await waitFor(async () => (await lane.counters()).leaseRenewals >= 2);
      const status = await lane.status();
      assert.equal(status.leases, 1);
      assert.equal(status.token?.source, "file", "the new thread takes up the token");
      assert.deepEqual(lost, []);
      await lane.release("leased");
      await waitFor(() => aws.actions.includes("DeleteUser"));
    } finally {
      process.off("worker", watch);
      await lane.close();
    }
  });
});
