import assert from "node:assert/strict";
import { test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import { createBody, environmentRecord, planContainer } from "./container-plan.ts";
import { dockerTask, planInput } from "./fixtures/input.ts";

function variables(values: Record<string, string>): object {
  return { environment: { variables: Object.entries(values).map(([name, value]) => ({ name, value })) } };
}

function parameters(...pairs: string[]): object {
  return { parameters: pairs.map((pair) => ({ key: pair.slice(0, pair.indexOf(" ")), value: pair.slice(pair.indexOf(" ") + 1) })) };
}

test("later sources win, each variable keeps its origin, and Berth's own come last", () => {
  const task = dockerTask(
    parameters("env A=parameter", "env B=parameter", "env SERVICE_VERSION=mine", "label ServiceName=shop", "label Environment=prod"),
    {
      executor: { command: variables({ A: "executor", C: "executor", D: "executor" }) },
      command: { shell: false, ...variables({ A: "command", C: "command" }) },
    },
  );

  const plan = planContainer(planInput(task));

  assert.deepEqual(plan.environment, [
    { name: "A", value: "parameter", origin: "docker parameter env" },
    { name: "C", value: "command", origin: "TaskInfo command" },
    { name: "D", value: "executor", origin: "executor environment" },
    { name: "B", value: "parameter", origin: "docker parameter env" },
    { name: "SERVICE_VERSION", value: "1.2", origin: "Berth" },
    { name: "MESOS_HOSTNAME", value: "agent-1.example.org", origin: "Berth" },
    { name: "SERVICE_NAME", value: "shop", origin: "Berth" },
    { name: "ENVIRONMENT", value: "prod", origin: "Berth" },
  ]);
});

test("the executor's own settings and secrets stay out, unless the task names them", () => {
  const given = {
    EXECUTOR_DEBUG: "1",
    VAULT_PASSWORD: "hunter2",
    ALLEGRO_X: "1",
    BERTH_SOCKET: "/x",
    MESOS_EXECUTOR_AUTHENTICATION_TOKEN: "jwt",
    EXECUTORS: "3",
    VAULT_ADDR: "http://vault",
  };
  const withNames = dockerTask(parameters("env VAULT_ADDR"), {
    executor: { command: variables(given) },
    command: { shell: false, ...variables({ EXECUTOR_DEBUG: "2" }) },
  });

  const plan = planContainer(planInput(withNames));
  const { SERVICE_VERSION, MESOS_HOSTNAME, ...rest } = environmentRecord(plan.environment);

  assert.deepEqual(rest, { EXECUTORS: "3", EXECUTOR_DEBUG: "2", VAULT_ADDR: "http://vault" });
  assert.deepEqual(plan.withheldVariables, [
    "EXECUTOR_DEBUG",
    "VAULT_PASSWORD",
    "ALLEGRO_X",
    "BERTH_SOCKET",
    "MESOS_EXECUTOR_AUTHENTICATION_TOKEN",
    "VAULT_ADDR",
  ]);
});

test("an env parameter without a value takes the scheduler's, never the worker's own process environment", () => {
  const input = planInput(dockerTask(parameters("env HOST_SECRET")), {}, { executorEnvironment: { HOST_SECRET: "hunter2" } });

  const plan = planContainer(input);

  assert.equal(environmentRecord(plan.environment).HOST_SECRET, undefined);
  assert.match(plan.warnings.join(), /HOST_SECRET: not set/);
});

test("MESOS_HOSTNAME is the executor's TASK_HOST, else the agent's host name", () => {
  const withHost = dockerTask({}, { executor: { command: variables({ TASK_HOST: "named" }) } });

  assert.equal(environmentRecord(planContainer(planInput(withHost)).environment).MESOS_HOSTNAME, "named");
  assert.equal(
    environmentRecord(planContainer(planInput(dockerTask(), {}, { executorEnvironment: { TASK_HOST: "sourced" } })).environment)
      .MESOS_HOSTNAME,
    "sourced",
  );
  assert.equal(environmentRecord(planContainer(planInput(dockerTask())).environment).MESOS_HOSTNAME, "agent-1.example.org");
});

test("every mapped port with a host port has a MESOS_PORT_ variable", () => {
  const task = dockerTask({
    network: "BRIDGE",
    port_mappings: [
      { host_port: 31000, container_port: 80 },
      { host_port: 0, container_port: 81 },
      { host_port: 31001, container_port: 0 },
    ],
  });

  const names = planContainer(planInput(task)).environment.filter(({ name }) => name.startsWith("MESOS_PORT_"));

  assert.deepEqual(names, [{ name: "MESOS_PORT_80", value: "31000", origin: "Berth" }]);
});

const secret = (value: object): unknown =>
  dockerTask({}, { command: { shell: false, environment: { variables: [{ name: "S", type: "SECRET", secret: value }] } } });

test("secret values are decoded, references become Vault paths where there is a Vault", () => {
  const planned = (value: object, vaultAddress?: string): string | undefined =>
    environmentRecord(planContainer(planInput(secret(value), vaultAddress === undefined ? {} : { vaultAddress })).environment).S;

  assert.equal(planned({ type: "VALUE", value: { data: Buffer.from("hünter2").toString("base64") } }), "hünter2");
  assert.equal(
    planned({ type: "REFERENCE", reference: { name: "secret/app/db", key: "pass word" } }, "http://vault"),
    "vault://secret/app/db?key=pass%20word",
  );
  assert.equal(planned({ type: "REFERENCE", reference: { name: "vault://secret/a?b" } }, "http://vault"), "vault://secret/a%3Fb");
});

test("a secret that cannot be resolved is a TASK_ERROR without its value", () => {
  for (const value of [
    { type: "REFERENCE", reference: { name: "hunter2" } },
    { type: "VALUE" },
    { type: "UNKNOWN" },
    { type: "REFERENCE" },
  ]) {
    assert.throws(
      () => planContainer(planInput(secret(value))),
      (error) =>
        TaskFailure.is(error) &&
        error.state === "TASK_ERROR" &&
        error.message.includes("command.environment.variables.0.secret") &&
        !error.message.includes("hunter2"),
    );
  }
});

test("names and values that no process can have are a TASK_ERROR", () => {
  for (const bad of [{ "A=B": "x" }, { "A\0": "x" }, { A: "x\0y" }] as Array<Record<string, string>>) {
    assert.throws(() => planContainer(planInput(dockerTask({}, { command: { shell: false, ...variables(bad) } }))), /environment variable/);
  }
});

test("the sandbox's variables are set whenever the sandbox is mounted", () => {
  const task = dockerTask({}, { resources: [{ name: "cpus", type: "SCALAR", scalar: { value: 1 }, allocation_info: { role: "shop" } }] });

  const plan = planContainer(planInput(task, { mappedDirectory: "/sandbox" }));

  const { MESOS_SANDBOX, MESOS_CONTAINER_NAME, MESOS_ALLOCATION_ROLE } = environmentRecord(plan.environment);
  assert.deepEqual([MESOS_SANDBOX, MESOS_CONTAINER_NAME, MESOS_ALLOCATION_ROLE], ["/sandbox", plan.name, "shop"]);
  assert.deepEqual(plan.create.HostConfig.Binds, ["/var/lib/mesos/sandbox:/sandbox"]);
});

test("the create request gets the environment that it is given, __proto__ included", () => {
  const plan = planContainer(planInput(dockerTask(parameters("env __proto__=x", "label __proto__=y"))));

  const body = createBody(plan, [...plan.environment, { name: "ADDED", value: "by=hook" }]);

  assert.ok(body.Env?.includes("__proto__=x"));
  assert.ok(body.Env?.includes("ADDED=by=hook"));
  assert.ok(JSON.stringify(body.Labels).includes('"__proto__":"y"'));
  assert.equal(plan.create.Env, undefined);
});
