import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import fc from "fast-check";
import { planContainer } from "./container-plan.ts";
import { newDraft } from "./draft.ts";
import { dockerTask, planInput } from "./fixtures/input.ts";
import { parametersDocument } from "./parameters/document.ts";
import { REFUSED_PARAMETERS } from "./parameters/refused.ts";
import { applyParameters, nearestName, PARAMETER_GROUPS } from "./parameters/table.ts";

interface Recorded {
  parameters: Array<[string, string]>;
  query: string;
  body: Record<string, unknown>;
}

const recorded: { records: Recorded[] } = JSON.parse(await readFile(new URL("./fixtures/docker-cli.json", import.meta.url), "utf8"));

/** What Berth sends differently from the client on purpose. */
const DELIBERATE: Readonly<Record<string, (body: Record<string, unknown>) => Record<string, unknown>>> = {
  // Nothing is ever attached to a task's container.
  interactive: () => ({ OpenStdin: true }),
  // As engines before 25 take it; later ones take both.
  "mac-address": () => ({ MacAddress: "92:d0:c6:0a:29:33" }),
};

test("every parameter asks the engine for what the docker client asks for", () => {
  for (const { parameters, body, query } of recorded.records) {
    const written = parameters.map(([key, value]) => ({ key, value }));

    const plan = planContainer(planInput(dockerTask({ network: "BRIDGE", parameters: written })));

    const first = parameters[0]?.[0] ?? "";
    const expected = comparable(DELIBERATE[first]?.(body) ?? body);
    // The variables are not in the plan's create request; the labels also hold Berth's own.
    const variables = plan.environment
      .filter(({ origin }) => origin === "docker parameter env")
      .map(({ name, value }) => `${name}=${value}`);
    const labels = Object.fromEntries(Object.entries(plan.labels).filter(([name]) => !name.startsWith("berth.")));
    const actual = comparable({ ...plan.create, Labels: labels, ...(variables.length > 0 ? { Env: variables } : {}) });
    assert.deepEqual(actual, expected, JSON.stringify(parameters));
    assert.equal(plan.platform ?? "", new URLSearchParams(query).get("platform") ?? "");
  }
});

/** Drops what is empty and what the client says of every container; sorts what has no order. */
function comparable(body: Record<string, unknown>): Record<string, unknown> {
  const host = { ...(body.HostConfig as Record<string, unknown> | undefined) };
  delete host.RestartPolicy;
  if (host.NetworkMode === "bridge") delete host.NetworkMode;
  if (Array.isArray(host.Ulimits)) host.Ulimits = host.Ulimits.toSorted((a, b) => a.Name.localeCompare(b.Name));
  if ((host.SecurityOpt as unknown[] | undefined)?.length === 0) delete host.SecurityOpt;
  if (host.LogConfig !== undefined) host.LogConfig = { Type: "", ...(host.LogConfig as object) };
  const { Image: _, NetworkingConfig: networking, ...rest } = body;
  const endpoints = Object.entries((networking as { EndpointsConfig?: Record<string, object> })?.EndpointsConfig ?? {}).flatMap(
    ([name, config]) => {
      const fields = Object.entries(config ?? {}).filter(([, value]) => value !== null && value !== "" && value !== 0);
      return fields.length === 0 ? [] : [[name, Object.fromEntries(fields)]];
    },
  );
  if (Object.keys(rest.Labels ?? {}).length === 0) delete rest.Labels;
  return { ...rest, HostConfig: host, Endpoints: Object.fromEntries(endpoints) };
}

test("the table and the recorded cases cover each other", () => {
  const covered = new Set(recorded.records.flatMap(({ parameters }) => parameters.map(([key]) => key)));
  const known = PARAMETER_GROUPS.flatMap(({ parameters }) => parameters.flatMap(({ key, aliases }) => [key, ...(aliases ?? [])]));

  assert.deepEqual(
    known.filter((key) => !covered.has(key)),
    [],
  );
  assert.equal(new Set(known).size, known.length);
  assert.deepEqual(
    known.filter((key) => REFUSED_PARAMETERS.has(key)),
    [],
  );
});

const BAD_VALUES: ReadonlyArray<readonly [key: string, value: string]> = [
  ["add-host", "db"],
  ["add-host", "db:nowhere"],
  ["blkio-weight", "5"],
  ["blkio-weight-device", "sda:100"],
  ["cap-add", "NET ADMIN"],
  ["cpus", "one"],
  ["cpus", "1e3"],
  ["cpu-shares", "1.5"],
  ["cpuset-cpus", "all"],
  ["device", "null"],
  ["device", "/dev/null:/dev/x:rwx"],
  ["device-cgroup-rule", "allow"],
  ["device-read-bps", "/dev/sda"],
  ["dns", "ns.example.org"],
  ["dns-search", "a b"],
  ["env", "=x"],
  ["expose", "80-70"],
  ["expose", "http"],
  ["gpus", "colour=red"],
  ["health-interval", "5"],
  ["health-retries", "-1"],
  ["init", "yes"],
  ["ip", "::1"],
  ["label", "=x"],
  ["label", "berth.task-id=other"],
  ["log-opt", "max-size"],
  ["mac-address", "92:d0"],
  ["memory", "lots"],
  ["memory", "-1"],
  ["memory", "99999999p"],
  ["memory-swappiness", "101"],
  ["mount", "type=bind,source=rel,target=/x"],
  ["mount", "type=bind,source=/a,target=/x,tmpfs-size=1m"],
  ["mount", "type=magic,target=/x"],
  ["mount", "source=a"],
  ["mount", "__proto__=a"],
  ["network", "alias=a"],
  ["oom-score-adj", "1001"],
  ["publish", "80:http"],
  ["publish", "1-3:1-2"],
  ["publish", "99999"],
  ["publish", "published=80"],
  ["security-opt", "seccomp=/etc/passwd"],
  ["security-opt", "apparmor"],
  ["storage-opt", "size"],
  ["tmpfs", "tmp"],
  ["ulimit", "files=3"],
  ["ulimit", "nofile=5:3"],
  ["volume", "/a:b"],
  ["volume", "/a:/b:ro:x"],
  ["volume", "relative"],
  ["workdir", "srv"],
];

test("a bad value is a TASK_ERROR that names the parameter and what it accepts, and not the value", () => {
  for (const [key, value] of BAD_VALUES) {
    const parameter = PARAMETER_GROUPS.flatMap(({ parameters }) => parameters).find((candidate) => candidate.key === key);
    assert.throws(
      () =>
        applyParameters(
          newDraft("web", "/sandbox", () => undefined),
          [{ key, value: `${value}` }],
        ),
      (error) =>
        TaskFailure.is(error) &&
        error.state === "TASK_ERROR" &&
        error.message.includes(`(${key})`) &&
        error.message.includes(parameter?.accepts ?? "?"),
      `${key}=${value}`,
    );
  }
});

test("contradictions between health parameters are told in either order", () => {
  const both = [
    { key: "health-cmd", value: "true" },
    { key: "no-healthcheck", value: "true" },
  ];
  for (const parameters of [both, both.toReversed()]) {
    assert.throws(
      () =>
        applyParameters(
          newDraft("web", "/sandbox", () => undefined),
          parameters,
        ),
      /contradicts/,
    );
  }
});

test("an unknown parameter is a TASK_FAILED with the nearest known name, a refused one with its reason", () => {
  const draft = newDraft("web", "/sandbox", () => undefined);

  const unknown = [
    ["--memory", "memory"],
    ["memroy", "memory"],
    ["cap_add", "cap-add"],
    ["lables", "label"],
    ["Privileged", "privileged"],
    ["ulimits", "ulimit"],
  ] as const;
  for (const [written, nearest] of unknown) {
    assert.equal(nearestName(written), nearest);
    assert.throws(
      () => applyParameters(draft, [{ key: written, value: "x" }]),
      (error) =>
        TaskFailure.is(error) &&
        error.state === "TASK_FAILED" &&
        error.message.includes(`'${nearest}'`) &&
        error.message.includes("parameters.0"),
    );
  }
  for (const [key, reason] of REFUSED_PARAMETERS) {
    assert.throws(
      () => applyParameters(draft, [{ key, value: "x" }]),
      (error) => TaskFailure.is(error) && error.state === "TASK_FAILED" && error.message.endsWith(reason),
    );
  }
});

test("no message repeats a value: it may be a secret", () => {
  for (const { key } of PARAMETER_GROUPS.flatMap(({ parameters }) => parameters)) {
    for (const value of ["hunter2=hunter2", "hunter2", "type=hunter2", ":hunter2", "hunter2:hunter2:hunter2:hunter2"]) {
      try {
        applyParameters(
          newDraft("web", "/sandbox", () => undefined),
          [{ key, value }],
        );
      } catch (error) {
        assert.ok(!String(error).includes("hunter2"), String(error));
      }
    }
  }
});

test("any value of any parameter is taken or is a TaskFailure", () => {
  const keys = PARAMETER_GROUPS.flatMap(({ parameters }) => parameters.map(({ key }) => key));
  const piece = fc.constantFrom(
    "/a",
    ":",
    "=",
    ",",
    "-",
    "80",
    "tcp",
    "type",
    "target",
    "1g",
    "-1",
    "all",
    '"',
    "[::1]",
    "__proto__",
    ".",
    " ",
    "é",
  );
  const value = fc.oneof(
    fc.string(),
    fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join("")),
  );
  fc.assert(
    fc.property(fc.array(fc.record({ key: fc.constantFrom(...keys), value }), { minLength: 1, maxLength: 4 }), (parameters) => {
      try {
        applyParameters(
          newDraft("web", "/sandbox", () => undefined),
          parameters,
        );
      } catch (error) {
        if (!TaskFailure.is(error)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
});

test("the reference of the parameters is up to date", async () => {
  const written = await readFile(new URL("../../../../docs/reference/docker-parameters.md", import.meta.url), "utf8");

  assert.equal(written, parametersDocument(), "run: node libs/runtime/docker/plan/parameters/write-document.ts");
});
