/**
 * What N launches with three secrets each cost a real Vault: through Berth's one Vault thread, and done per task (a login and
 * three reads each, as executors without a supervisor do). Counted from the server's audit log, in one run.
 *
 * `npm run bench -- vault [N]`; `ratio` is of requests at N=50 unless another N is given.
 */
import { SecretRegistry } from "@berth/redact";
import { VaultLane, vaultSettingsFrom } from "@berth/vault";
import { PASSWORD, startVaultFixture, USER, type VaultFixture } from "../tests/vault/vault-fixture.ts";

const NAMES = ["one", "two", "three"];

const count = Number(process.argv[2] ?? 50);
await using vault = await startVaultFixture();
const reference = await measured(vault, () => perTask(vault.server.address, count));
const ours = await measured(vault, () => throughLane(vault, count));
const round = (value: number, digits: number): number => Number(value.toFixed(digits));
console.log(
  JSON.stringify({
    bench: "vault",
    launches: count,
    secrets: NAMES.length,
    requests: ours.requests,
    logins: ours.logins,
    ms: round(ours.ms, 0),
    reference: { requests: reference.requests, logins: reference.logins, ms: round(reference.ms, 0) },
    wallRatio: round(ours.ms / reference.ms, 4),
    ratio: round(ours.requests / reference.requests, 4),
  }),
);

async function measured(server: VaultFixture, work: () => Promise<void>): Promise<{ requests: number; logins: number; ms: number }> {
  await server.forget();
  const start = performance.now();
  await work();
  const ms = performance.now() - start;
  return { requests: (await server.audited()).length, logins: await server.logins(), ms };
}

/** Starting the thread is part of the time: the first launch pays it. */
async function throughLane(server: VaultFixture, launches: number): Promise<void> {
  const lane = VaultLane.open({
    settings: vaultSettingsFrom(server.environment({ EXECUTOR_VAULT_SECRET_CACHE: "60s" })),
    secrets: new SecretRegistry(),
    log: { debug: () => {}, info: () => {}, warn: console.error },
  });
  const environment = Object.fromEntries(NAMES.map((name) => [name.toUpperCase(), `vault://secret/app/${name}`]));
  await Promise.all(Array.from({ length: launches }, (_, index) => lane.resolveEnvironment({ taskKey: `task-${index}`, environment })));
  await lane.close();
}

async function perTask(address: string, launches: number): Promise<void> {
  await Promise.all(
    Array.from({ length: launches }, async () => {
      const login = await json(`${address}/v1/auth/userpass/login/${USER}`, {
        method: "POST",
        body: JSON.stringify({ password: PASSWORD }),
      });
      const token = (login as { auth: { client_token: string } }).auth.client_token;
      for (const name of NAMES) await json(`${address}/v1/secret/data/app/${name}`, { headers: { "X-Vault-Token": token } });
    }),
  );
}

async function json(url: string, init: RequestInit): Promise<unknown> {
  const response = await fetch(url, init);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response.json();
}
