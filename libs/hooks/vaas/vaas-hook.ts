import { TaskFailure } from "@berth/mesos";
import { label, type TaskInfo } from "@berth/mesos/task-info";
import type { VaasConfig } from "../config.ts";
import { type HttpEndpoint, httpEndpoint } from "../http.ts";
import { insist } from "../insist.ts";
import type { Hook, HookContext, HookResult, HookTask } from "../lifecycle.ts";
import { VaasApi } from "./vaas-api.ts";

type Environment = Readonly<Record<string, string | undefined>>;

interface VaasState {
  /** The backend's id in VaaS; absent once it was deleted. */
  backendId?: number;
}

/** Where a task stands in VaaS, by its labels alone. */
interface Place {
  director: string;
  address: string;
  port: number;
}

const REGISTER_MS = 60_000;
const DEREGISTER_MS = 15_000;

/**
 * Puts a healthy task that has the label `director` behind Varnish through VaaS, and takes it out before it is stopped.
 *
 * INVARIANTS: a backend that is already there for the task's address, port and director is taken for its own, so that
 * registering twice makes one; it is deleted by the id in the checkpoint, or found again by these three.
 */
export function vaasHook(config: VaasConfig, environment: Environment): Hook {
  const endpoints = new Map<string, HttpEndpoint>();

  function setting(task: HookTask, name: string, configured?: string): string {
    return task.executorEnvironment[name] || configured || environment[name] || "";
  }

  function apiFor(task: HookTask): VaasApi {
    const host = setting(task, "VAAS_HOST", config.host);
    if (host === "") throw new TaskFailure("the label director needs VaaS, and no VAAS_HOST is set; set it in the vaas section");
    let endpoint = endpoints.get(host);
    if (endpoint === undefined) {
      endpoint = httpEndpoint(host);
      endpoints.set(host, endpoint);
    }
    // The daemon's credentials never go to a host that an executor has named.
    const credential = (name: string): string =>
      task.executorEnvironment.VAAS_HOST ? (task.executorEnvironment[name] ?? "") : setting(task, name);
    return new VaasApi(endpoint, { username: credential("VAAS_USERNAME"), token: credential("VAAS_TOKEN") });
  }

  /** Undefined where the task does not ask for VaaS. */
  function placeOf(task: HookTask): Place | undefined {
    const director = label(task.task, "director");
    if (director === undefined || director === "" || setting(task, "VAAS_HOOK_ENABLED") === "false") return undefined;
    const address = setting(task, "CLOUD_PUBLIC_IP", config.serviceAddress);
    if (address === "")
      throw new TaskFailure("the label director needs the host's address: set CLOUD_PUBLIC_IP, or serviceAddress in the vaas section");
    return { director, address, port: portOf(task.task, director) };
  }

  async function afterHealthy(task: HookTask, context: HookContext): Promise<HookResult | undefined> {
    const place = placeOf(task);
    if (place === undefined) return undefined;
    const symbol = setting(task, "CLOUD_DC", config.dc);
    if (symbol === "") throw new TaskFailure("the label director needs the data centre: set CLOUD_DC, or dc in the vaas section");
    const api = apiFor(task);
    const backendId = await insist("VaaS", context, REGISTER_MS, async (signal) => {
      const [dc, directorId] = [await api.dataCentre(symbol, signal), await api.directorId(place.director, signal)];
      const present = await api.findBackend({ ...place, directorId }, signal);
      if (present !== undefined) return present;
      const weight = weightOf(task);
      return await api.createBackend(
        {
          address: place.address,
          director: `/api/v0.1/director/${directorId}/`,
          dc,
          port: place.port,
          inherit_time_profile: true,
          ...(weight === undefined ? {} : { weight }),
          tags: label(task.task, "canary") ? ["canary"] : [],
        },
        signal,
      );
    });
    context.log.info({ director: place.director, port: place.port, backendId }, "registered in VaaS");
    return { state: { backendId } satisfies VaasState };
  }

  async function leave(task: HookTask, context: HookContext): Promise<HookResult | undefined> {
    const state = context.state as VaasState | undefined;
    if (state !== undefined && state.backendId === undefined) return undefined;
    const place = placeOf(task);
    if (place === undefined) return undefined;
    const api = apiFor(task);
    await insist("VaaS", context, DEREGISTER_MS, async (signal) => {
      const id =
        state?.backendId ?? (await api.findBackend({ ...place, directorId: await api.directorId(place.director, signal) }, signal));
      if (id === undefined) return;
      await api.deleteBackend(id, signal);
      context.log.info({ director: place.director, backendId: id }, "deregistered from VaaS");
    });
    return { state: {} satisfies VaasState };
  }

  return {
    name: "vaas",
    priority: 500,
    timeoutMs: REGISTER_MS,
    failsTask: true,
    stages: { afterHealthy, beforeStop: leave, afterStop: leave },
    describe(task) {
      const director = label(task.task, "director");
      return director === undefined || director === "" ? undefined : `register in VaaS with the director '${director}'`;
    },
  };
}

/** The discovery port with the label `frontend-sync:<director>`, else the first. */
function portOf(task: TaskInfo, director: string): number {
  const ports = task.discovery?.ports?.ports ?? [];
  const marked = ports.find((port) => port.labels?.labels.some(({ key }) => key === `frontend-sync:${director}`));
  const port = (marked ?? ports[0])?.number ?? task.container?.docker?.port_mappings.find(({ host_port }) => host_port !== 0)?.host_port;
  if (port === undefined) throw new TaskFailure(`the label director needs a port: the task announces none in discovery.ports`);
  return port;
}

/** VAAS_INITIAL_WEIGHT of the task (environment, then label), then of the executor; else the label `weight:<n>` with the value `tag`. */
function weightOf(task: HookTask): number | undefined {
  const written =
    task.environment.VAAS_INITIAL_WEIGHT || label(task.task, "VAAS_INITIAL_WEIGHT") || task.executorEnvironment.VAAS_INITIAL_WEIGHT || "";
  if (/^\d+$/.test(written)) return Number(written);
  if (written !== "") throw new TaskFailure(`VAAS_INITIAL_WEIGHT must be a whole number, not '${written.slice(0, 40)}'`);
  const weight = task.task.labels?.labels.find(({ key, value }) => value === "tag" && /^weight:\d+$/.test(key));
  return weight === undefined ? undefined : Number(weight.key.slice("weight:".length));
}
