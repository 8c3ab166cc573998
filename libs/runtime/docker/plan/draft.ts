import type { CreateBody, EndpointConfig, HostConfig, Ulimit } from "./create-body.ts";

export interface NetworkAttachment {
  network: string;
  endpointConfig: EndpointConfig;
}

/** A container while it is planned: the create request as far as it is known, and what is only decided once everything was read. */
export interface Draft {
  readonly body: CreateBody;
  /** The same object as `body.HostConfig`. */
  readonly host: HostConfig;
  /** Docker labels of the task; Berth's own are added last. */
  readonly labels: Map<string, string>;
  /** Variables of `env` parameters, in order. */
  readonly environment: Array<{ name: string; value: string }>;
  /** By name: a later limit of the same name replaces an earlier one. */
  readonly ulimits: Map<string, Ulimit>;
  /** Networks that parameters ask for; the first replaces `container.docker.network`. */
  readonly networks: NetworkAttachment[];
  /** What `ip`, `network-alias` and the like ask of the first network. */
  readonly endpoint: EndpointConfig;
  /** `os/arch[/variant]` to pull and to create for. */
  platform?: string;
  readonly sandbox: string;
  /** The value that the scheduler gave the executor's environment, for an `env` parameter that only names its variable. */
  readonly executorVariable: (name: string) => string | undefined;
  readonly warnings: string[];
}

/** Starts a draft for an image; no restart policy ever: whether a task runs again is the framework's decision. */
export function newDraft(image: string, sandbox: string, executorVariable: (name: string) => string | undefined): Draft {
  const host: HostConfig = { RestartPolicy: { Name: "no" } };
  return {
    body: { Image: image, Labels: {}, HostConfig: host },
    host,
    labels: new Map(),
    environment: [],
    ulimits: new Map(),
    networks: [],
    endpoint: {},
    sandbox,
    executorVariable,
    warnings: [],
  };
}

/** `record` with `key` set. A computed key also sets `__proto__` as plain data. */
export function withEntry<Value>(record: Record<string, Value> | undefined, key: string, value: Value): Record<string, Value> {
  return { ...record, [key]: value };
}

/** `list` with `values` at its end. */
export function withValues<Value>(list: readonly Value[] | undefined, ...values: Value[]): Value[] {
  return [...(list ?? []), ...values];
}
