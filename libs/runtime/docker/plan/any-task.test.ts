import assert from "node:assert/strict";
import { test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import fc from "fast-check";
import { planContainer } from "./container-plan.ts";
import { planInput } from "./fixtures/input.ts";
import { PARAMETER_GROUPS } from "./parameters/table.ts";

const KEYS = PARAMETER_GROUPS.flatMap(({ parameters }) => parameters.map(({ key }) => key));

const text = fc.oneof(
  fc.constantFrom(
    "",
    "a",
    "a",
    "b",
    "/a",
    "/b",
    "80",
    "true",
    "a/b",
    "../x",
    "a:b",
    "A=b",
    "__proto__",
    "vault://a",
    "\0",
    "executor.ShellCommand='x",
  ),
  fc.string(),
);
const amount = fc.oneof(
  { weight: 6, arbitrary: fc.nat(9000) },
  { weight: 1, arbitrary: fc.oneof(fc.double(), fc.integer(), fc.constant("Infinity")) },
);
const port = fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 65535 }) }, { weight: 1, arbitrary: fc.integer() });

function some<Value>(shape: { [Field in keyof Value]: fc.Arbitrary<Value[Field]> }): fc.Arbitrary<Partial<Value>> {
  return fc.record(shape, { requiredKeys: [] }) as fc.Arbitrary<Partial<Value>>;
}

/** Mostly nothing, so that one mistake does not hide all others. */
const few = <Value>(item: fc.Arbitrary<Value>): fc.Arbitrary<Value[]> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant<Value[]>([]) }, { weight: 1, arbitrary: fc.array(item, { maxLength: 3 }) });
const secret = some({
  type: fc.constantFrom("UNKNOWN", "VALUE", "REFERENCE"),
  value: some({ data: text }),
  reference: some({ name: text, key: text }),
});
const variable = some({ name: text, type: fc.constantFrom("VALUE", "SECRET", "UNKNOWN"), value: text, secret });
const command = some({ shell: fc.boolean(), value: text, arguments: few(text), environment: fc.record({ variables: few(variable) }) });
const source = some({
  type: fc.constantFrom("UNKNOWN", "DOCKER_VOLUME", "HOST_PATH", "SANDBOX_PATH", "SECRET", "CSI_VOLUME"),
  docker_volume: some({ driver: text, name: text, driver_options: fc.record({ parameter: few(fc.record({ key: text, value: text })) }) }),
  host_path: some({ path: text }),
  sandbox_path: some({ type: fc.constantFrom("SELF", "PARENT"), path: text }),
});
const docker = some({
  image: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom("web", "reg:5000/a/b:1", `x@sha256:${"0".repeat(64)}`) },
    { weight: 1, arbitrary: text },
  ),
  network: fc.constantFrom("HOST", "BRIDGE", "BRIDGE", "NONE", "USER"),
  port_mappings: few(some({ host_port: port, container_port: port, protocol: fc.oneof(fc.constantFrom("tcp", "udp,tcp"), text) })),
  privileged: fc.boolean(),
  parameters: few(fc.record({ key: fc.oneof(fc.constantFrom(...KEYS), text), value: text })),
  force_pull_image: fc.boolean(),
  volume_driver: text,
});
const container = some({
  type: fc.constantFrom("DOCKER", "MESOS"),
  volumes: few(some({ mode: fc.constantFrom("RW", "RO"), container_path: text, host_path: text, source })),
  hostname: text,
  docker,
  network_infos: few(some({ name: text })),
  rlimit_info: fc.record({ rlimits: few(some({ type: fc.constantFrom("RLMT_NOFILE", "RLMT_X"), hard: amount, soft: amount })) }),
});
const task = fc.record(
  {
    task_id: fc.record({ value: fc.string({ minLength: 1 }) }),
    resources: few(
      fc.record({ name: fc.constantFrom("cpus", "mem", "disk"), type: fc.constant("SCALAR"), scalar: fc.record({ value: amount }) }),
    ),
    executor: some({ command }),
    command,
    container,
    kill_policy: some({ grace_period: fc.record({ nanoseconds: amount }) }),
    limits: fc.dictionary(fc.constantFrom("cpus", "mem"), fc.record({ value: amount })),
  },
  { requiredKeys: ["task_id", "container"] },
);
const options = some({
  forceCpuLimit: fc.boolean(),
  forceMemoryLimit: fc.boolean(),
  useCpuShares: fc.boolean(),
  vaultAddress: fc.constant("http://vault"),
  mappedDirectory: fc.constant("/mnt/mesos/sandbox"),
});
const executorArguments = few(
  fc.oneof(fc.constantFrom("--container=c", "--mapped_directory=/m", "--task_environment={}", "--stop_timeout=x"), text),
);

test("any TaskInfo becomes a plan or a TaskFailure, and the same plan each time", () => {
  let planned = 0;
  fc.assert(
    fc.property(task, options, executorArguments, (json, chosen, given) => {
      try {
        const make = (): unknown => planContainer(planInput(json, chosen as object, { executorArguments: given }));
        const first = make();

        planned += 1;
        assert.deepEqual(make(), first);
        // Plain data: it goes through JSON unchanged.
        assert.deepEqual(JSON.parse(JSON.stringify(first)), first);
      } catch (error) {
        if (!TaskFailure.is(error)) throw error;
      }
    }),
    { numRuns: 4000 },
  );
  assert.ok(planned > 50, `only ${planned} of the generated tasks could be planned: the generator is too wild to show anything`);
});
