import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { parseTaskInfo } from "@berth/mesos/task-info";
import { type TempDir, tempDir } from "@berth/test-harness";
import type { StopCause } from "../task/stop.ts";
import { certificateHook, certificateWatch } from "./certificate.ts";

const identity = { frameworkId: "f", executorId: "e", containerId: "c", taskId: "t" };
const HOUR = 3_600_000;

let folder: TempDir;
let pem: string;
let notAfter: number;
before(async () => {
  folder = await tempDir("cert");
  pem = makeCertificate(10);
  const end = execFileSync("openssl", ["x509", "-noout", "-enddate"], { input: pem, encoding: "utf8" });
  notAfter = Date.parse(end.replace("notAfter=", ""));
});
after(async () => {
  await folder?.remove();
});

const ELLIPTIC = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

function makeCertificate(days: number, key: readonly string[] = ELLIPTIC): string {
  const paths = ["-keyout", `${folder.path}/key`, "-out", `${folder.path}/cert`];
  const args = ["req", "-x509", "-newkey", ...key, "-nodes", "-subj", "/CN=t"];
  execFileSync("openssl", [...args, "-days", String(days), ...paths], { stdio: "pipe" });
  return execFileSync("cat", [`${folder.path}/cert`], { encoding: "utf8" });
}

function taskWith(labels: Record<string, string>) {
  const task = parseTaskInfo({
    task_id: { value: "t" },
    command: { value: "true" },
    labels: { labels: Object.entries(labels).map(([key, value]) => ({ key, value })) },
  });
  assert.ok("task_id" in task);
  return task;
}

const asking = { "validate-certificate": "true" };

async function check(options: {
  labels?: Record<string, string>;
  environment?: Record<string, string>;
  rangeMs?: number;
  now?: number;
  vault?: string;
}): Promise<unknown> {
  const asked: string[] = [];
  const hook = certificateHook({
    rangeFor: () => options.rangeMs ?? HOUR,
    resolve: async (_identity, reference) => {
      asked.push(reference);
      return options.vault;
    },
    now: () => options.now ?? Date.now(),
  });
  const { labels = asking, environment = {} } = options;
  const task = {
    identity,
    runtime: "process",
    task: taskWith(labels),
    environment,
    executorEnvironment: {},
    agentHostname: "",
    sandbox: "/",
  } as const;
  const log = { debug: () => {}, info: () => {}, warn: () => {} };
  const result = await hook.stages.beforeCreate?.(task, { signal: new AbortController().signal, state: undefined, log });
  if (options.vault !== undefined) assert.deepEqual(asked, [environment.CERTIFICATE]);
  return result?.state;
}

describe("a launch", () => {
  test("without the label is not checked", async () => {
    assert.equal(await check({ labels: {}, environment: { CERTIFICATE: "broken" } }), undefined);
    assert.equal(await check({ labels: { "validate-certificate": "false" } }), undefined);
  });

  test("with a certificate that lasts is accepted, and its end is kept", async () => {
    assert.deepEqual(await check({ environment: { CERTIFICATE: pem } }), { notAfter });
  });

  test("with one in Vault is checked as it is there", async () => {
    const environment = { CERTIFICATE: "vault://secret/app/certificate?key=pem" };
    assert.deepEqual(await check({ environment, vault: pem }), { notAfter });
    await assert.rejects(check({ environment, vault: "something else" }), /cannot be read/);
  });

  const forms: Array<[what: string, written: () => string]> = [
    ["with Windows line ends", () => pem.replaceAll("\n", "\r\n")],
    ["without a line end behind it", () => pem.trimEnd()],
    ["with text before it", () => `subject=CN = t\nissuer=CN = t\n\n${pem}`],
    ["before the chain that issued it", () => pem + makeCertificate(1)],
    ["behind its key", () => readFileSync(`${folder.path}/key`, "utf8") + pem],
  ];
  for (const [what, written] of forms) {
    test(`with a certificate ${what} is accepted by that one's end`, async () => {
      assert.deepEqual(await check({ environment: { CERTIFICATE: written() } }), { notAfter });
    });
  }

  for (const key of [["ed25519"], ["rsa:2048"], ["ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"]]) {
    test(`with a certificate of a key of ${key.at(-1)} that lasts for centuries is accepted`, async () => {
      const kept = (await check({ environment: { CERTIFICATE: makeCertificate(300_000, key) } })) as { notAfter: number };

      assert.ok(kept.notAfter > Date.now() + 299_000 * 24 * HOUR);
    });
  }

  test("with a certificate that ends sooner than the range is long is refused for some tasks; a range of 0 stands for three hours", async () => {
    const environment = { CERTIFICATE: pem };
    const now = notAfter - 2;

    assert.deepEqual(await check({ environment, now, rangeMs: 1 }), { notAfter });
    await assert.rejects(check({ environment, now, rangeMs: 0 }), /with RANDOM_EXPIRATION_RANGE this task had to end at/);
  });

  const refused: Array<[what: string, options: () => Parameters<typeof check>[0], message: RegExp]> = [
    ["missing", () => ({}), /asks for a certificate in the variable CERTIFICATE, which is missing/],
    ["empty", () => ({ environment: { CERTIFICATE: "" } }), /which is missing/],
    ["no PEM", () => ({ environment: { CERTIFICATE: "hello" } }), /must be an X\.509 certificate in PEM form/],
    [
      "broken DER",
      () => ({ environment: { CERTIFICATE: pem.replace(/\n[^-\n]{20}/, "\nAAAAAAAAAAAAAAAAAAAA") } }),
      /must be an X\.509 certificate in PEM form/,
    ],
    ["expired", () => ({ environment: { CERTIFICATE: pem }, now: notAfter + 1 }), /expired at \d{4}-.*Z; it needs a new one/],
    [
      "so near its end that this task's part of the range is over",
      () => ({ environment: { CERTIFICATE: pem }, now: notAfter - 1, rangeMs: 1000 * HOUR }),
      /expires at .*, and with RANDOM_EXPIRATION_RANGE this task had to end at /,
    ],
  ];
  for (const [what, options, message] of refused) {
    test(`with a certificate that is ${what} is refused`, async () => {
      await assert.rejects(check(options()), message);
    });
  }
});

test("a running task is stopped before its certificate ends, at the same moment whichever supervisor asks", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const rangeMs = 2 * HOUR;
  // Timers are mocked, and the clock runs with them.
  let passed = 0;
  const began = notAfter - 2 * HOUR;
  const stops: Array<[StopCause, string, number]> = [];
  const verdicts = {
    health: () => {},
    check: () => {},
    stop: (cause: StopCause, message: string) => void stops.push([cause, message, passed]),
  };
  const watched = {
    identity,
    task: taskWith(asking),
    launchedAt: began,
    observed: { state: "running" as const, id: "1", pid: 1, startedAt: began, addresses: [] },
    healthyBefore: undefined,
    hookStates: { certificate: { notAfter } },
  };
  const watch = () => certificateWatch({ rangeFor: () => rangeMs, now: () => began + passed }, {}).begin(watched, verdicts);
  watch();
  watch();

  for (; passed < 2 * HOUR; passed += 60_000) t.mock.timers.tick(60_000);

  assert.equal(stops.length, 2);
  const [first, second] = stops;
  assert.deepEqual(first, second);
  assert.equal(first?.[0], "certificate-expiry");
  assert.equal(first?.[1], `its certificate expires at ${new Date(notAfter).toISOString()}`);
});

for (const [what, ahead, ticks] of [
  ["set forward, ends a task whose certificate is over by it within a minute", 30 * 24 * HOUR, 1],
  ["set back, does not end a task too early", -3 * HOUR, 5 * 60],
] as const) {
  test(`the host's clock, ${what}`, (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let now = notAfter - 3 * HOUR;
    const stops: number[] = [];
    const verdicts = { health: () => {}, check: () => {}, stop: () => void stops.push(now) };
    const observed = { state: "running" as const, id: "1", pid: 1, startedAt: now, addresses: [] };
    const hookStates = { certificate: { notAfter } };
    const watched = { identity, task: taskWith(asking), launchedAt: now, observed, healthyBefore: undefined, hookStates };
    certificateWatch({ rangeFor: () => 1, now: () => now }, {}).begin(watched, verdicts);

    now += ahead;
    for (let minute = 0; minute < ticks; minute++) {
      now += 60_000;
      t.mock.timers.tick(60_000);
    }
    assert.equal(stops.length, ahead > 0 ? 1 : 0);

    for (; now < notAfter + HOUR; now += 60_000) t.mock.timers.tick(60_000);
    assert.equal(stops.length, 1);
  });
}

test("a task that runs without a checked certificate is left alone", () => {
  const stop = certificateWatch({ rangeFor: () => HOUR, now: Date.now }, {});
  const verdicts = { health: () => {}, check: () => {}, stop: () => assert.fail("it was stopped") };
  const observed = { state: "running" as const, id: "1", pid: 1, startedAt: 0, addresses: [] };
  stop.begin({ identity, task: taskWith(asking), launchedAt: 0, observed, healthyBefore: undefined, hookStates: {} }, verdicts)();
});
