import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { leaksInText } from "@berth/redact/proof";
import { freePort, type RedisServer, skipWithout, startRedis, waitFor } from "@berth/test-harness";
import { Redis } from "ioredis";
import { enableAws, startFakeAws } from "./fake-aws.ts";
import { forever, type ObservedService, observedService, PASSWORD, startVaultFixture, type VaultFixture } from "./vault-fixture.ts";

const SECRETS = { FIRST: "vault://secret/app/one", SECOND: "vault://secret/app/two", THIRD: "vault://secret/app/three" };
const accessorOf = ({ service }: ObservedService): string | undefined => service.status().token?.accessor;
const resolve = ({ service }: ObservedService, taskKey = "task"): Promise<unknown> =>
  service.resolveEnvironment({ taskKey, environment: SECRETS }, forever());

describe("one token for a fleet", { skip: skipWithout("vaultdev") }, () => {
  let vault: VaultFixture;
  let keyFile: string;
  before(async () => {
    vault = await startVaultFixture();
    keyFile = join(vault.folder.path, "fleet-key");
    await writeFile(keyFile, `first:${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
  });
  after(() => vault[Symbol.asyncDispose]());

  let fleets = 0;
  const newFleet = (): string => {
    fleets += 1;
    return `fleet-${fleets}`;
  };
  const host = (redisUrl: string, fleet: string, name: string, extra: Record<string, string> = {}): ObservedService =>
    observedService(
      vault.environment({
        ...{ REDIS_URL: redisUrl, EXECUTOR_FLEET_KEY_FILE: keyFile, EXECUTOR_FLEET_NAME: fleet, EXECUTOR_LOG_HOSTNAME: name },
        VAULT_TOKEN_FILE: join(vault.folder.path, `token-${fleet}-${name}`),
        ...extra,
      }),
      { fleetLookMs: 400 },
    );
  const hosts = (redisUrl: string, count: number, extra: Record<string, string> = {}): ObservedService[] => {
    const fleet = newFleet();
    return Array.from({ length: count }, (_, index) => host(redisUrl, fleet, `host${index}`, extra));
  };
  const closeAll = async (all: ObservedService[]): Promise<void> => void (await Promise.all(all.map(({ service }) => service.close())));

  it("costs five hosts that start at once one login in all, and leaves no secret in Redis", async () => {
    await using redis = await startRedis();
    await vault.forget();
    const all = hosts(redis.url, 5);
    try {
      await Promise.all(all.flatMap((one) => Array.from({ length: 10 }, (_, index) => resolve(one, `task-${index}`))));

      assert.equal(await vault.logins(), 1);
      assert.equal(new Set(all.map(accessorOf)).size, 1);
      assert.deepEqual(
        all.map(({ service }) => service.status().fleet.state),
        ["joined", "joined", "joined", "joined", "joined"],
      );
      const token = await readToken(all);
      const dump = await dumpRedis(redis);
      assert.ok(dump.includes(":value"), "the fleet's record is in the dump");
      assert.ok(dump.includes("repeat") || dump.includes("renewal"), "the renewal job is in the dump");
      const forbidden = [token, PASSWORD, "kv2-value-of-one"].map((value, index) => ({ label: `value ${index}`, value }));
      assert.deepEqual(leaksInText(dump, "redis", forbidden), []);
    } finally {
      await closeAll(all);
    }
  });

  it("replaces a revoked token once for all", async () => {
    await using redis = await startRedis();
    const all = hosts(redis.url, 5);
    try {
      await Promise.all(all.map((one) => resolve(one)));
      await vault.forget();
      await vault.server.call("POST", "auth/token/revoke-accessor", { accessor: accessorOf(all[0] as ObservedService) });

      await Promise.all(
        all.map((one) => one.service.resolveEnvironment({ taskKey: "next", environment: { KEY: "vault://kv1/app/db" } }, forever())),
      );

      assert.equal(await vault.logins(), 1);
      await waitFor(() => new Set(all.map(accessorOf)).size === 1);
    } finally {
      await closeAll(all);
    }
  });

  it("renews by one host's job, and replaces the token before its end, once for all", async () => {
    await using redis = await startRedis();
    await using short = await startVaultFixture({ tokenTtl: "4s", tokenMaxTtl: "9s" });
    const all = hosts(redis.url, 3, { VAULT_ADDR: short.server.address });
    try {
      await Promise.all(all.map((one) => resolve(one)));
      const first = accessorOf(all[0] as ObservedService);
      await waitFor(() => all.reduce((sum, { service }) => sum + service.status().counters.tokenRenewals, 0) >= 1);
      assert.equal(await short.logins(), 1);

      await waitFor(() => all.every((one) => accessorOf(one) !== first) && new Set(all.map(accessorOf)).size === 1, { deadline: 40_000 });

      assert.equal(await short.logins(), 2);
      await Promise.all(all.map((one) => resolve(one)));
    } finally {
      await closeAll(all);
    }
  });

  it("goes on without Redis, each host with one login, and converges on one token when Redis comes", async () => {
    const port = await freePort();
    await vault.forget();
    const all = hosts(`redis://127.0.0.1:${port}`, 4);
    try {
      await Promise.all(all.map((one) => resolve(one)));
      assert.equal(await vault.logins(), 4);
      assert.equal(all[0]?.service.status().fleet.state, "away");

      await using redis = await startRedis({ port });
      await waitFor(() => new Set(all.map(accessorOf)).size === 1, { deadline: 40_000 });

      assert.equal(await vault.logins(), 4);
      assert.equal(redis.process.running(), true);
      await Promise.all(all.map((one) => resolve(one)));
      const revoked = (await vault.audited()).filter(({ path }) => path === "auth/token/revoke-self").length;
      await waitFor(async () => (await vault.audited()).filter(({ path }) => path === "auth/token/revoke-self").length === 3);
      assert.ok(revoked <= 3);
    } finally {
      await closeAll(all);
    }
  });

  it("keeps a token alive that leases hang on after the host took up the fleet's", async () => {
    const port = await freePort();
    await using short = await startVaultFixture({ tokenTtl: "3s", tokenMaxTtl: "1h" });
    await using aws = await startFakeAws();
    await enableAws(short.server, aws, { lease: "2s", lease_max: "1h" });
    const all = hosts(`redis://127.0.0.1:${port}`, 2, { VAULT_ADDR: short.server.address });
    try {
      await Promise.all(all.map((one) => one.service.awsCredentials({ taskKey: "task", role: "user", ttlMs: 0 }, forever())));
      const before = all.map(accessorOf);
      assert.notEqual(before[0], before[1]);

      await using redis = await startRedis({ port });
      await waitFor(() => accessorOf(all[0] as ObservedService) === accessorOf(all[1] as ObservedService), { deadline: 40_000 });
      const renewals = all.map(({ service }) => service.status().counters.leaseRenewals);

      // Six renewals of a two second lease take longer than the token lives without being renewed itself.
      await waitFor(() => all.every(({ service }, index) => service.status().counters.leaseRenewals >= (renewals[index] ?? 0) + 6), {
        deadline: 40_000,
      });
      assert.deepEqual(
        all.flatMap(({ lost }) => lost),
        [],
      );
      assert.ok(!aws.actions.includes("DeleteUser"));
      assert.equal(redis.process.running(), true);
    } finally {
      await closeAll(all);
    }
  });

  it("survives a stopped, a restarted and a flushed Redis without a login", async () => {
    const redis = await startRedis();
    const all = hosts(redis.url, 3);
    try {
      await Promise.all(all.map((one) => resolve(one)));
      const accessor = accessorOf(all[0] as ObservedService);
      await vault.forget();

      await redis.stop();
      await Promise.all(all.map((one) => resolve(one, "while stopped")));
      await using again = await startRedis({ port: redis.port });
      const client = new Redis(again.url);
      try {
        await waitFor(async () => (await client.keys("*:value")).length === 1, { deadline: 40_000 });
        await client.flushall();
        await waitFor(async () => (await client.keys("*:value")).length === 1, { deadline: 40_000 });
      } finally {
        client.disconnect();
      }

      await Promise.all(all.map((one) => resolve(one, "afterwards")));
      assert.equal(await vault.logins(), 0);
      assert.deepEqual(new Set(all.map(accessorOf)), new Set([accessor]));
      assert.ok(all.every(({ lost }) => lost.length === 0));
    } finally {
      await closeAll(all);
      await redis.stop();
    }
  });

  it("is not held up by a Redis that stands still, and joins when it moves again", async () => {
    await using redis = await startRedis();
    const fleet = newFleet();
    const one = host(redis.url, fleet, "one");
    const all = [one];
    try {
      await resolve(one);
      await vault.forget();
      redis.process.kill("SIGSTOP");
      await waitFor(async () => /^State:\tT/m.test(await readFile(`/proc/${redis.process.pid}/status`, "utf8")));
      // Only now: the renewal job may bring a host the token before it asks for it.
      const two = host(redis.url, fleet, "two");
      all.push(two);

      await Promise.all([resolve(one, "while it stands"), resolve(two, "while it stands")]);
      assert.equal(await vault.logins(), 1);
      assert.equal(two.service.status().fleet.state, "away");

      redis.process.kill("SIGCONT");
      await waitFor(() => accessorOf(one) === accessorOf(two), { deadline: 40_000 });
      assert.equal(await vault.logins(), 1);
    } finally {
      redis.process.kill("SIGCONT");
      await closeAll(all);
    }
  });

  it("goes on alone with another key, without touching what the others share", async () => {
    await using redis = await startRedis();
    const fleet = newFleet();
    const other = join(vault.folder.path, "other-key");
    await writeFile(other, `second:${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
    const good = host(redis.url, fleet, "good");
    const bad = host(redis.url, fleet, "bad", { EXECUTOR_FLEET_KEY_FILE: other });
    try {
      await resolve(good);
      await vault.forget();
      await resolve(bad);
      await resolve(bad, "again");

      assert.equal(await vault.logins(), 1);
      assert.equal(bad.service.status().fleet.state, "wrong key");
      assert.match(bad.service.status().fleet.problem ?? "", /encrypted by good with key first, which this host does not have/);
      await sleep(1_000);
      assert.equal(good.service.status().fleet.state, "joined");
      assert.notEqual(accessorOf(good), accessorOf(bad));
    } finally {
      await closeAll([good, bad]);
    }
  });

  it("reads with an old key while the new one encrypts", async () => {
    await using redis = await startRedis();
    const fleet = newFleet();
    const rotated = join(vault.folder.path, "rotated-key");
    await writeFile(rotated, `# new first\nsecond:${randomBytes(32).toString("base64")}\n${await readFile(keyFile, "utf8")}`, {
      mode: 0o600,
    });
    const old = host(redis.url, fleet, "old");
    const young = host(redis.url, fleet, "young", { EXECUTOR_FLEET_KEY_FILE: rotated });
    try {
      await resolve(old);
      await vault.forget();
      await resolve(young);
      assert.equal(await vault.logins(), 0);
      assert.equal(accessorOf(young), accessorOf(old));
    } finally {
      await closeAll([old, young]);
    }
  });

  it("is not held up by a Redis that takes and never answers", async () => {
    const sockets = new Set<Socket>();
    const deaf = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
    });
    const port = await freePort();
    await new Promise<void>((done) => deaf.listen(port, "127.0.0.1", done));
    await vault.forget();
    const [one] = hosts(`redis://127.0.0.1:${port}`, 1) as [ObservedService];
    try {
      await resolve(one);
      assert.equal(await vault.logins(), 1);
      assert.equal(one.service.status().fleet.state, "away");
    } finally {
      await closeAll([one]);
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((done) => deaf.close(() => done()));
    }
  });

  async function readToken(all: ObservedService[]): Promise<string> {
    return readFile(all[0]?.settings.tokenFile ?? "", "utf8");
  }

  /** Everything in Redis, as text. */
  async function dumpRedis(redis: RedisServer): Promise<string> {
    const client = new Redis(redis.url);
    try {
      const parts: string[] = [];
      for (const key of await client.keys("*")) {
        const kind = await client.type(key);
        const content = await contentOf(client, key, kind);
        parts.push(`${key} ${kind} ${JSON.stringify(content)}`);
      }
      return parts.join("\n");
    } finally {
      client.disconnect();
    }
  }
});

function contentOf(client: Redis, key: string, kind: string): Promise<unknown> {
  switch (kind) {
    case "hash":
      return client.hgetall(key);
    case "string":
      return client.get(key);
    case "zset":
      return client.zrange(key, 0, "-1");
    case "stream":
      return client.xrange(key, "-", "+");
    case "list":
      return client.lrange(key, 0, -1);
    default:
      return client.smembers(key);
  }
}
