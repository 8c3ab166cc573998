import { parseGoDuration } from "@berth/duration";
import { TaskFailure } from "@berth/mesos";
import { pause } from "@berth/retry";
import type { ConsulConfig } from "../config.ts";
import { callHttp, type HttpEndpoint } from "../http.ts";
import { insist } from "../insist.ts";
import type { Hook, HookContext, HookResult, HookTask } from "../lifecycle.ts";
import { consulCheck } from "./check.ts";
import { consulCredentials, consulEndpoints } from "./endpoint.ts";
import { type PlannedService, plannedServices } from "./services.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** What is kept in the checkpoint. The services themselves follow from the task's labels. */
interface ConsulState {
  /** False once they were taken back: later stages have nothing to do. */
  registered: boolean;
}

const CALL_TIMEOUT_MS = 5000;
/** A task that is healthy waits so long for its host's Consul agent to come back. */
const REGISTER_MS = 60_000;
/** A task that is to stop waits less: Consul's own check finds a service that is gone, too. */
const DEREGISTER_MS = 10_000;

/**
 * Registers a healthy task's services with the host's Consul agent, and takes them back before the task is stopped, with a wait
 * after that for clients which still hold the old answer.
 *
 * INVARIANTS: a service's id follows from the task's labels, so registering twice leaves one service, and a supervisor that knows
 * nothing but the labels can take it back. What is not there any more is taken back.
 */
export function consulHook(config: ConsulConfig, environment: Environment, now: () => number = Date.now): Hook {
  const endpointFor = consulEndpoints(config, environment);

  /** The executor's word, then the section's, then the daemon's. */
  function setting(task: HookTask, name: string, configured?: string): string | undefined {
    return task.executorEnvironment[name] ?? configured ?? environment[name];
  }

  function servicesOf(task: HookTask): PlannedService[] {
    if (setting(task, "CONSUL_HOOK_ENABLED") === "false") return [];
    return plannedServices(task.task, setting(task, "CONSUL_GLOBAL_TAG", config.globalTag) ?? "marathon");
  }

  function registration(task: HookTask, service: PlannedService): Record<string, unknown> {
    const address = setting(task, "CLOUD_PUBLIC_IP", config.serviceAddress);
    const check = consulCheck(task.task, {
      address: address ?? "127.0.0.1",
      initialStatus: setting(task, "INITIAL_HEALTH_CHECK_STATUS", config.initialStatus) ?? "passing",
      ...(config.deregisterCriticalAfter === undefined ? {} : { deregisterCriticalAfterMs: config.deregisterCriticalAfter }),
    });
    return {
      ID: service.id,
      Name: service.name,
      Tags: service.tags,
      Port: service.port,
      // Without one Consul takes its own node's address.
      ...(address === undefined || address === "" ? {} : { Address: address }),
      ...(check === undefined ? {} : { Check: check }),
    };
  }

  async function put(task: HookTask, path: string, body: unknown, signal: AbortSignal): Promise<void> {
    const endpoint: HttpEndpoint = endpointFor(task.executorEnvironment);
    const headers = consulCredentials(task.executorEnvironment, environment);
    const answer = await callHttp(endpoint, { method: "PUT", path, headers, body, timeoutMs: CALL_TIMEOUT_MS, signal });
    if (answer.status === 404 && path.includes("/deregister/")) return;
    if (answer.status >= 200 && answer.status < 300) return;
    const message = `Consul answered ${path.split("?")[0]} with status ${answer.status}: ${answer.text.slice(0, 300)}`;
    throw new TaskFailure(message, { recoverable: answer.status >= 500 || answer.status === 429 });
  }

  async function afterHealthy(task: HookTask, context: HookContext): Promise<HookResult | undefined> {
    const services = servicesOf(task);
    if (task.task.health_check === undefined && !config.withoutHealthCheck) return undefined;
    for (const service of services) {
      await insist("Consul", context, REGISTER_MS, (signal) =>
        put(task, "/v1/agent/service/register", registration(task, service), signal),
      );
      context.log.info({ service: service.name, id: service.id, port: service.port }, "registered in Consul");
    }
    return services.length === 0 ? undefined : { state: { registered: true } satisfies ConsulState };
  }

  async function deregister(task: HookTask, context: HookContext): Promise<boolean> {
    const services = servicesOf(task);
    if (services.length === 0 || (context.state as ConsulState | undefined)?.registered === false) return false;
    const failures: unknown[] = [];
    await Promise.all(
      services.map(({ id }) =>
        insist("Consul", context, DEREGISTER_MS, (signal) =>
          put(task, `/v1/agent/service/deregister/${encodeURIComponent(id)}`, undefined, signal),
        ).catch((error: unknown) => failures.push(error)),
      ),
    );
    if (failures.length > 0) throw failures[0];
    context.log.info({ ids: services.map(({ id }) => id) }, "deregistered from Consul");
    return true;
  }

  async function beforeStop(task: HookTask, context: HookContext): Promise<HookResult | undefined> {
    // Not yet registered, as far as is known: afterStop makes sure of it.
    const wasRegistered = (context.state as ConsulState | undefined)?.registered === true;
    if (!(await deregister(task, context))) return undefined;
    const done: HookResult = { state: { registered: false } satisfies ConsulState };
    const waitMs = wasRegistered ? restOfWait(task) : 0;
    if (waitMs > 0) {
      context.log.info({ waitMs }, "the task runs on for clients that still know it");
      // A wait that is cut short is over: what was done before it counts.
      await pause(waitMs, context.signal).catch(() => {});
    }
    return done;
  }

  /** A supervisor that comes back in the middle of the wait goes on with it, and does not begin anew. */
  function restOfWait(task: HookTask): number {
    if (task.stop === undefined || task.stop.alreadyEnded) return 0;
    const waitMs = keepAfterDeregistration(task);
    return Math.min(waitMs, task.stop.since + DEREGISTER_MS + waitMs - now());
  }

  function keepAfterDeregistration(task: HookTask): number {
    const own = parseGoDuration(task.executorEnvironment.KEEP_AFTER_DEREGISTRATION ?? "");
    return Math.max(0, own ?? config.keepAfterDeregistration ?? parseGoDuration(environment.KEEP_AFTER_DEREGISTRATION ?? "") ?? 0);
  }

  async function afterStop(task: HookTask, context: HookContext): Promise<HookResult | undefined> {
    return (await deregister(task, context)) ? { state: { registered: false } satisfies ConsulState } : undefined;
  }

  return {
    name: "consul",
    priority: 600,
    timeoutMs: REGISTER_MS + DEREGISTER_MS + (config.keepAfterDeregistration ?? MAX_TASK_WAIT_MS),
    failsTask: true,
    stages: { afterHealthy, beforeStop, afterStop },
    describe(task) {
      const services = servicesOf(task);
      if (services.length === 0) return undefined;
      return `register in Consul: ${services.map(({ name, port, tags }) => `${name} on port ${port} (${tags.join(", ")})`).join("; ")}`;
    },
  };
}

/** What a task's own KEEP_AFTER_DEREGISTRATION may be at most, where the host sets none. */
const MAX_TASK_WAIT_MS = 300_000;
