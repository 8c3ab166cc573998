import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type RedisServer, startRedis, type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { Redis } from "ioredis";
import { FleetAwayError, FleetSecret, type FleetSecretOptions } from "./secret.ts";

describe("FleetSecret", () => {
  let redis: RedisServer;
  let folder: TempDir;
  let client: Redis;
  before(async () => {
    redis = await startRedis();
    folder = await tempDir("fleet");
    await writeFile(join(folder.path, "key"), `k:${Buffer.alloc(32, 7).toString("base64")}`, { mode: 0o600 });
    client = new Redis(redis.url);
  });
  after(async () => {
    client.disconnect();
    await redis.stop();
    await folder.remove();
  });

  const open = (name: string, host: string, options: Partial<FleetSecretOptions> = {}): FleetSecret =>
    new FleetSecret({
      settings: { redisUrl: `unix://${redis.socketPath}`, keyFile: join(folder.path, "key"), name, host },
      log: { debug: () => {}, info: () => {}, warn: () => {} },
      purpose: "test",
      onChanged: () => {},
      onDue: async () => {},
      ...options,
    });

  it("lets one host at a time work, and tells the others of what it stored", async () => {
    const changed: string[] = [];
    const one = open("exclusive", "one");
    const two = open("exclusive", "two", { onChanged: () => void changed.push("two") });
    try {
      // The channel must be subscribed to before something is published.
      await waitFor(async () => ((await client.call("PUBSUB", "NUMSUB", "berth:{exclusive}:test:changed")) as [string, number])[1] === 2);
      const outcome = await one.tryExclusively(async (lock) => {
        assert.deepEqual(await two.tryExclusively(async () => "not now"), { held: false, holder: "one" });
        return one.store(lock, { secret: "payload" }, Date.now() + 60_000, 60_000);
      });

      assert.deepEqual(outcome, { held: true, value: true });
      await waitFor(() => changed.length > 0);
      const record = await two.read();
      assert.deepEqual(record?.payload, { secret: "payload" });
      assert.equal(record?.host, "one");
      assert.ok((await client.pttl("berth:{exclusive}:test:value")) <= 60_000);
      assert.equal((await two.tryExclusively(async () => "free")).held, true);
    } finally {
      await Promise.all([one.close(), two.close()]);
    }
  });

  it("stores nothing when the lock went to another host meanwhile", async () => {
    const one = open("lost", "one");
    try {
      const outcome = await one.tryExclusively(async (lock) => {
        await client.set("berth:{lost}:test:lock", "two now");
        return one.store(lock, {}, undefined, 60_000);
      });

      assert.deepEqual(outcome, { held: true, value: false });
      assert.equal(await one.read(), undefined);
      assert.equal(await client.get("berth:{lost}:test:lock"), "two now");
    } finally {
      await one.close();
    }
  });

  it("gives each tick of the renewal job to one host, also after Redis was wiped", async () => {
    const due: string[] = [];
    const hosts = ["one", "two", "three"].map((host) => open("ticks", host, { onDue: async () => void due.push(host), lookMs: 300 }));
    try {
      const start = Date.now();
      await hosts[0]?.tryExclusively(async (lock) => hosts[0]?.store(lock, {}, Date.now() + 60_000, 500));
      await waitFor(() => due.length >= 3);
      assert.ok(due.length <= (Date.now() - start) / 500 + 2, `${due.length} ticks in ${Date.now() - start} ms`);

      await client.flushall();
      const seen = due.length;
      await waitFor(() => due.length >= seen + 2);
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });

  it("is away, not broken, with a foreign record, without a key, and with a password missing", async () => {
    await client.set("berth:{foreign}:test:value", "{}");
    const foreign = open("foreign", "one");
    const { redisUrl, host } = { redisUrl: redis.url, host: "one" };
    const keyless = open("keyless", "one", { settings: { redisUrl, host, name: "keyless" } });
    try {
      await assert.rejects(
        foreign.read(),
        (error: Error) => error instanceof FleetAwayError && /a format that this version does not know/.test(error.message),
      );
      assert.equal(foreign.state.state, "wrong key");
      await assert.rejects(keyless.read(), /without EXECUTOR_FLEET_KEY_FILE/);
    } finally {
      await Promise.all([foreign.close(), keyless.close()]);
    }
  });
});
