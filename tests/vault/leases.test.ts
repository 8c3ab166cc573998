import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { skipWithout, waitFor } from "@berth/test-harness";
import { parseLeaseRecord } from "@berth/vault";
import { enableAws, type FakeAws, startFakeAws } from "./fake-aws.ts";
import { forever, observedService, startVaultFixture, type VaultFixture } from "./vault-fixture.ts";

describe("leases in a real Vault", { skip: skipWithout("vaultdev") }, () => {
  let vault: VaultFixture;
  let aws: FakeAws;
  before(async () => {
    vault = await startVaultFixture();
    aws = await startFakeAws();
    await enableAws(vault.server, aws, { lease: "2s", lease_max: "5s" });
  });
  after(async () => {
    await vault[Symbol.asyncDispose]();
    await aws[Symbol.asyncDispose]();
  });
  const deletions = (): number => aws.actions.filter((action) => action === "DeleteUser").length;

  it("renews AWS credentials while the task runs, says in time that they end, revokes them when it is over", async () => {
    await using observed = observedService(vault.environment());
    const before = deletions();

    const { environment, leases } = await observed.service.awsCredentials({ taskKey: "task", role: "user", ttlMs: 0 }, forever());

    assert.match(environment.AWS_ACCESS_KEY_ID ?? "", /^AKIA-test-/);
    assert.match(environment.AWS_SECRET_ACCESS_KEY ?? "", /^aws-secret-key-/);
    assert.equal(environment.AWS_SESSION_TOKEN, undefined);
    assert.equal(leases[0]?.kind, "aws");
    assert.equal(leases[0]?.renewable, true);
    await waitFor(() => observed.service.status().counters.leaseRenewals >= 1);
    await waitFor(() => observed.lost.length === 1);
    assert.equal(deletions(), before, "the credentials still work when the task is told");
    const told = JSON.stringify(observed.lines);
    assert.match(observed.lost[0]?.reason ?? "", /the AWS credentials end: their lease in Vault cannot be renewed any further/, told);
    await observed.service.release("task");
    await waitFor(() => deletions() > before);
    assert.equal(observed.service.status().leases, 0);
  });

  it("gives the session token of an assumed role, for as long as was asked", async () => {
    await using observed = observedService(vault.environment());

    const { environment, secrets, leases } = await observed.service.awsCredentials(
      { taskKey: "task", role: "deploy", ttlMs: 1_800_000 },
      forever(),
    );

    assert.match(environment.AWS_SESSION_TOKEN ?? "", /^aws-session-token-/);
    assert.deepEqual(secrets.map(({ name }) => name).sort(), ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]);
    const left = (leases[0]?.expiresAt ?? 0) - Date.now();
    assert.ok(left > 1_700_000 && left < 1_900_000, `${left} ms`);
    assert.equal(leases[0]?.renewable, false);
    await observed.service.release("task");
  });

  it("takes up a lease that an earlier supervisor took", async () => {
    const before = deletions();
    const first = observedService(vault.environment());
    const { leases } = await first.service.awsCredentials({ taskKey: "task", role: "user", ttlMs: 0 }, forever());
    await first.service.close();
    const records = (JSON.parse(JSON.stringify(leases)) as unknown[])
      .map((record) => parseLeaseRecord(record))
      .filter((record) => record !== undefined);

    await using second = observedService(vault.environment());
    second.service.adopt("task", records);

    await waitFor(() => second.service.status().counters.leaseRenewals >= 1);
    assert.equal(second.lost.length, 0);
    await second.service.release("task");
    await waitFor(() => deletions() > before);
  });

  it("tells the task when Vault does not know its lease any more", async () => {
    await using observed = observedService(vault.environment());
    const { leases } = await observed.service.awsCredentials({ taskKey: "task", role: "user", ttlMs: 0 }, forever());
    const { status } = await vault.server.call("PUT", "sys/leases/revoke", { lease_id: leases[0]?.leaseId, sync: true });
    assert.ok(status < 300);

    await waitFor(() => observed.lost.length === 1);

    assert.equal(observed.lost[0]?.reason, "the AWS credentials end: Vault does not know their lease any more");
  });

  it("tells the task when the token was revoked and its credentials with it", async () => {
    await using observed = observedService(vault.environment());
    await observed.service.awsCredentials({ taskKey: "task", role: "deploy", ttlMs: 0 }, forever());
    await vault.server.call("POST", "auth/token/revoke-accessor", { accessor: observed.service.status().token?.accessor });

    await observed.service.resolveEnvironment({ taskKey: "other", environment: { KEY: "vault://kv1/app/db" } }, forever());

    assert.deepEqual(observed.lost, [
      { taskKey: "task", reason: "the AWS credentials end: the Vault token that they hung on was revoked or has ended" },
    ]);
  });

  it("reads a path with a lease once per task and shares it with no other", async () => {
    await using observed = observedService(vault.environment({ EXECUTOR_VAULT_SECRET_CACHE: "60s" }));
    const environment = { ID: "vault://aws/creds/user?key=access_key", KEY: "vault://aws/creds/user?key=secret_key" };

    const [one, two] = await Promise.all(
      ["one", "two"].map((taskKey) => observed.service.resolveEnvironment({ taskKey, environment }, forever())),
    );

    assert.notEqual(one?.environment.ID, two?.environment.ID);
    assert.equal(one?.leases.length, 1);
    assert.equal(one?.leases[0]?.kind, "secret");
    assert.equal(one?.environment.ID?.split("-").at(-1), one?.environment.KEY?.split("-").at(-1), "both variables are of one answer");
    assert.equal(observed.service.status().counters.secretReads, 2);
    await Promise.all(["one", "two"].map((taskKey) => observed.service.release(taskKey)));
    assert.equal(observed.service.status().counters.leasesRevoked, 2);
  });

  it("revokes what a launch that fails had leased", async () => {
    await using observed = observedService(vault.environment());
    const before = deletions();
    const environment = { ID: "vault://aws/creds/user?key=access_key", MISSING: "vault://secret/app/missing" };

    await assert.rejects(observed.service.resolveEnvironment({ taskKey: "task", environment }, forever()), /variable MISSING/);
    await waitFor(() => deletions() > before);
    await assert.rejects(
      observed.service.resolveEnvironment({ taskKey: "task", environment: { ID: "vault://aws/creds/user?key=nothing" } }, forever()),
      /has no key "nothing"/,
    );
    await waitFor(() => deletions() === before + 2);
    assert.equal(observed.service.status().leases, 0);
  });

  it("makes the token live as long as the lease, with one more login at most", async () => {
    await vault.server.call("POST", "auth/userpass/users/brief", {
      password: "brief-password",
      token_policies: "app",
      token_ttl: "60s",
      token_max_ttl: "2h",
    });
    await using observed = observedService({ VAULT_ADDR: vault.server.address, VAULT_USERNAME: "brief", VAULT_PASSWORD: "brief-password" });

    const asked = Array.from({ length: 10 }, (_, index) =>
      observed.service.awsCredentials({ taskKey: `task-${index}`, role: "deploy", ttlMs: 3_600_000 }, forever()),
    );
    await Promise.all(asked);

    const { token, counters } = observed.service.status();
    assert.ok((token?.expiresAt ?? 0) - Date.now() > 3_500_000);
    assert.equal(counters.logins, 1);
    assert.equal(counters.tokenRenewals, 1);
  });
});
