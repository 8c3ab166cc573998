/**
 * The agent's JSON codec writes optional fields that have a proto default even where nobody set them, so an executor cannot see
 * "was it set?". This fills a TaskInfo or ExecutorInfo in the same way.
 */
type Json = Record<string, unknown>;

const CHECK = { delay_seconds: 15, interval_seconds: 10, timeout_seconds: 20 };

/** A copy of a TaskInfo with every default that the agent writes. Values are not looked at: mistakes stay in it. */
export function withTaskDefaults(task: Json): Json {
  return {
    ...task,
    ...member(task, "command", withCommandDefaults),
    ...member(task, "executor", withExecutorDefaults),
    ...member(task, "container", withContainerDefaults),
    ...member(task, "health_check", (check) => ({
      ...CHECK,
      consecutive_failures: 3,
      grace_period_seconds: 10,
      ...check,
      ...member(check, "command", withCommandDefaults),
      ...member(check, "http", withProtocol),
      ...member(check, "tcp", withProtocol),
    })),
    ...member(task, "check", (check) => ({
      ...CHECK,
      ...check,
      ...member(check, "command", (command) => ({ ...command, ...member(command, "command", withCommandDefaults) })),
    })),
  };
}

/** The same for an ExecutorInfo, as it comes in SUBSCRIBED and in every task. */
export function withExecutorDefaults(executor: Json): Json {
  return { ...executor, ...member(executor, "command", withCommandDefaults), ...member(executor, "container", withContainerDefaults) };
}

function withCommandDefaults(command: Json): Json {
  return {
    shell: true,
    ...command,
    ...each(command, "uris", (uri) => ({ extract: true, ...uri })),
    ...member(command, "environment", (environment) => ({
      ...environment,
      ...each(environment, "variables", (variable) => ({ type: "VALUE", ...variable })),
    })),
  };
}

function withContainerDefaults(container: Json): Json {
  return {
    ...container,
    ...member(container, "docker", (docker) => ({ network: "HOST", privileged: false, force_pull_image: false, ...docker })),
  };
}

function withProtocol(address: Json): Json {
  return { protocol: "IPv4", ...address };
}

function member(parent: Json, name: string, fill: (value: Json) => Json): Json {
  const value = parent[name];
  return isObject(value) ? { [name]: fill(value) } : {};
}

function each(parent: Json, name: string, fill: (value: Json) => Json): Json {
  const value = parent[name];
  return Array.isArray(value) ? { [name]: value.map((entry) => (isObject(entry) ? fill(entry) : entry)) } : {};
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
