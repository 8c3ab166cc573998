import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { tempDir } from "@berth/test-harness";
import { type CapturedEvent, type CapturedProbe, readCaptures } from "../captures/read.ts";
import type { LocalExecutor } from "./executor.ts";
import { writeAgentJson } from "./json.ts";
import { LocalAgent } from "./local-agent.ts";
import type { LocalAgentOptions } from "./options.ts";
import { RawExecutor, request } from "./raw-executor-test-kit.ts";

/** Recorded before SUBSCRIBE and after it; this probe is the first one after. */
const FIRST_SUBSCRIBED = "UPDATE no uuid";
const SETTINGS: Record<string, Partial<LocalAgentOptions>> = {
  basic: {},
  "basic-dsock": { transport: "domain-socket" },
  "basic-jwt": { authentication: { key: "any" }, transport: "domain-socket" },
};

for (const [capture, settings] of Object.entries(SETTINGS)) {
  const recorded = readCaptures<CapturedProbe>("probes").filter((probe) => probe.capture === capture && !probe.name.startsWith("call "));

  describe(`recorded probes: ${capture}`, () => {
    let agent: LocalAgent;
    let executor: LocalExecutor;
    let raw: RawExecutor;
    let remove: () => Promise<void>;

    before(async () => {
      const directory = await tempDir("replay");
      remove = directory.remove;
      agent = await LocalAgent.start({ workDirectory: directory.path, reapDelayMs: 0, ...settings });
      executor = agent.startExecutor({ executorId: "exec-1", command: "exec sleep 600", environment: { PATH: "/usr/bin:/bin" } });
      raw = new RawExecutor(agent, executor);
    });
    after(async () => {
      raw.close();
      await agent.stop();
      await remove();
    });

    for (const [index, { name }] of recorded.entries()) {
      test(name, async () => {
        const replace = { "<framework>": executor.frameworkId, "<agent>": agent.agentId, "<token>": executor.token ?? "none" };
        const probes = readCaptures<CapturedProbe>("probes", replace).filter(
          (entry) => entry.capture === capture && !entry.name.startsWith("call "),
        );
        const probe = probes[index] as CapturedProbe;
        if (probe.name === FIRST_SUBSCRIBED) await raw.subscribe();

        const through = capture === "basic-dsock" ? { path: agent.domainSocketPath as string } : { port: agent.port };
        const answer = await request(through, probe);

        assert.equal(answer.body, probe.answer.body);
        assert.equal(answer.status, probe.answer.status);
        assert.equal(Number(answer.headers["Content-Length"]), Buffer.byteLength(probe.answer.body));
        for (const [header, value] of Object.entries(probe.answer.headers)) {
          assert.ok(answer.headers[header]?.startsWith(value), `${header}: ${answer.headers[header]} is not ${value}`);
        }
        assert.equal("Content-Type" in answer.headers, "Content-Type" in probe.answer.headers);
      });
    }
  });
}

test("recorded calls of whole tasks are taken with 202", async () => {
  await using directory = await tempDir("replay");
  await using agent = await LocalAgent.start({ workDirectory: directory.path, reapDelayMs: 0 });
  for (const [capture, executorId, tasks] of [
    ["basic", "exec-1", ["t1", "t2"]],
    ["quick", "exec-q", ["q1"]],
    ["group", "exec-g", ["g1", "g2"]],
  ] as const) {
    const executor = agent.startExecutor({ executorId, command: "exec sleep 600", environment: { PATH: "/usr/bin:/bin" } });
    for (const value of tasks) executor.launch({ task_id: { value } });
    const raw = new RawExecutor(agent, executor);
    const stream = await raw.subscribe();
    const calls = readCaptures<CapturedProbe>("probes", { "<framework>": executor.frameworkId, "<agent>": agent.agentId });
    for (const call of calls.filter((entry) => entry.capture === capture && /^call \d+$/.test(entry.name))) {
      const answer = await request({ port: agent.port }, call);
      assert.deepEqual({ status: answer.status, body: answer.body }, { status: 202, body: "" });
    }
    const expected = readCaptures<{ capture: string; status: { uuid: string; state: string } }>("updates").filter(
      (entry) => entry.capture === capture,
    );
    assert.deepEqual(
      executor.updates.map((update) => `${update.state} ${update.uuid}`),
      expected.map((entry) => `${entry.status.state} ${entry.status.uuid}`),
    );
    await stream.next("ACKNOWLEDGED", expected.length);
    raw.close();
  }
});

describe("recorded events", () => {
  test("are written byte for byte as the agent wrote them", () => {
    const lines = readFileSync(new URL("../captures/events.jsonl", import.meta.url), "utf8")
      .trimEnd()
      .split("\n");
    for (const line of lines) {
      const { event } = JSON.parse(line) as CapturedEvent;
      assert.ok(line.endsWith(`"event":${writeAgentJson(event)}}`), line);
    }
  });

  test("the agent fills in the defaults that a real one fills in", async () => {
    await using directory = await tempDir("replay");
    await using agent = await LocalAgent.start({ workDirectory: directory.path, reapDelayMs: 0 });
    const launches = readCaptures<CapturedEvent>("events", { "<agent>": agent.agentId, "<framework>": agent.frameworkId }).filter(
      ({ event }) => event.type === "LAUNCH",
    );
    for (const [index, { event }] of launches.entries()) {
      const { task } = event.launch as { task: Record<string, unknown> & { task_id: { value: string } } };
      const executor = agent.startExecutor({ executorId: `e${index}`, command: "exec sleep 600", environment: { PATH: "/usr/bin:/bin" } });
      executor.launch(withoutDefaults(task) as typeof task);
      const raw = new RawExecutor(agent, executor);
      const stream = await raw.subscribe();

      assert.deepEqual(await stream.next("LAUNCH"), event);

      raw.close();
    }
  });
});

describe("recorded environments", () => {
  for (const { capture, environment: recorded } of readCaptures<{ capture: string; environment: Record<string, string> }>("environments")) {
    test(capture, async () => {
      await using directory = await tempDir("replay");
      await using agent = await LocalAgent.start({
        workDirectory: directory.path,
        reapDelayMs: 0,
        checkpoint: recorded.MESOS_CHECKPOINT === "1",
        ...(recorded.MESOS_DOMAIN_SOCKET === undefined ? {} : { transport: "domain-socket" }),
        authentication: recorded.MESOS_EXECUTOR_AUTHENTICATION_TOKEN !== undefined,
        executorShutdownGraceMs: Number.parseInt(recorded.MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD as string, 10) * 1000,
      });
      const executor = agent.startExecutor({
        executorId: recorded.MESOS_EXECUTOR_ID as string,
        command: "/usr/bin/env -0 > environment",
        environment: { PATH: "/usr/bin:/bin" },
      });
      await executor.exited;

      const seen = readFileSync(`${executor.sandbox}/environment`, "utf8")
        .split("\0")
        .filter((line) => line !== "");
      const expected = Object.entries(recorded).map(([name, value]) => {
        const own = { MESOS_DOMAIN_SOCKET: agent.domainSocketPath, MESOS_EXECUTOR_AUTHENTICATION_TOKEN: executor.token }[name] ?? value;
        return `${name}=${own}`
          .replace("<sandbox>", executor.sandbox)
          .replace("<framework>", agent.frameworkId)
          .replace("<agent>", agent.agentId)
          .replace("<endpoint>", agent.endpoint);
      });
      assert.deepEqual(seen.filter((line) => !/^(PWD|_|SHLVL|OLDPWD)=/.test(line)).sort(), expected.sort());
    });
  }
});

const DEFAULTS: Record<string, unknown> = {
  shell: true,
  delay_seconds: 15,
  interval_seconds: 10,
  timeout_seconds: 20,
  consecutive_failures: 3,
  grace_period_seconds: 10,
  protocol: "IPv4",
  privileged: false,
  force_pull_image: false,
};

/** The TaskInfo as a framework may have written it, without what has a proto default. */
function withoutDefaults(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDefaults);
  if (typeof value !== "object" || value === null) return value;
  const isDefault = (name: string, member: unknown): boolean =>
    DEFAULTS[name] === member || (name === "type" && member === "VALUE" && "name" in value);
  const kept = Object.entries(value).filter(([name, member]) => !isDefault(name, member));
  return Object.fromEntries(kept.map(([name, member]) => [name, withoutDefaults(member)]));
}
