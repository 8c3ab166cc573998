import type {
  HookRow,
  HostEvent,
  HostInfo,
  Killed,
  LogLine,
  PlanView,
  SettingRow,
  SidecarView,
  TaskInspection,
  TaskSummary,
  VaultView,
} from "@berth/admin-api";
import type { TaskLogStatistics } from "@berth/logrelay";
import { parseTaskInfo, type TaskInfo } from "@berth/mesos/task-info";
import { PROTOCOL_VERSIONS } from "@berth/protocol";
import type { TaskIdentity } from "@berth/runtime";
import { z } from "zod";
import type { EventJournal } from "../event-journal.ts";
import type { Executors } from "../executor/executors.ts";
import type { LogQuery } from "../task/ports.ts";
import type { Task } from "../task/task.ts";
import { AdminError, type AdminHandler, type AdminRequest, type AdminRoutes } from "./http.ts";
import { findTask, inspectionOf, summarize } from "./task-views.ts";

export interface AdminParts {
  executors: Executors;
  journal: EventJournal;
  version: string;
  startedAt: number;
  now: () => number;
  /** What would be created for a TaskInfo, which hooks would act and which rules refuse it. */
  plan: (task: TaskInfo) => PlanView;
  hooks: () => HookRow[];
  settings: () => SettingRow[];
  vault: () => Promise<VaultView>;
  /** What Sidecar says of a task; null where it is not asked about it. */
  sidecar: (identity: TaskIdentity) => SidecarView | null;
  /** One entry per thing that a launch needs: dockerd, Vault, Redis, Sidecar. */
  dependencies: () => HostInfo["dependencies"];
  /** The threads' own state. */
  details: () => Promise<Pick<HostInfo, "docker" | "sidecar">>;
  /** What came of a task's output so far; undefined where it is not relayed. */
  logsOf: (task: Task) => Promise<TaskLogStatistics | undefined>;
  metrics: () => Promise<string>;
}

const KillBody = z.object({ gracePeriodMs: z.number().min(0).optional() }).default({});
const PlanBody = z.object({ taskInfo: z.unknown() });

/** The admin API, version 1: what `berth` asks, and what monitoring reads. docs/reference/admin-api.md lists it. */
export function adminRoutes(parts: AdminParts): AdminRoutes {
  const { executors, journal } = parts;
  return {
    "GET /v1/info": async () => ({
      json: {
        version: parts.version,
        node: process.version,
        pid: process.pid,
        protocol: PROTOCOL_VERSIONS,
        startedAt: parts.startedAt,
        executors: [...executors.all()].length,
        tasks: [...executors.tasks()].length,
        dependencies: parts.dependencies(),
        ...(await parts.details()),
      } satisfies HostInfo,
    }),
    "GET /v1/tasks": () => ({ json: [...executors.tasks()].map((task) => summarize(task.describe())) satisfies TaskSummary[] }),
    "GET /v1/tasks/:id": async ({ parameters }) => {
      const task = findTask(executors, parameters.id ?? "");
      const description = task.describe();
      const logs = await parts.logsOf(task).catch(() => undefined);
      return { json: inspectionOf(description, { sidecar: parts.sidecar(description.identity), logs }) satisfies TaskInspection };
    },
    "POST /v1/tasks/:id/kill": ({ parameters, body }) => {
      const wanted = parse(KillBody, body);
      const task = findTask(executors, parameters.id ?? "");
      task.stop("operator", "stopped by the operator", wanted.gracePeriodMs);
      const gracePeriodMs = task.describe().stop?.gracePeriodMs ?? 0;
      return { json: { taskId: task.identity.taskId, gracePeriodMs } satisfies Killed };
    },
    "GET /v1/tasks/:id/logs": ({ parameters, query, signal }) => {
      const task = findTask(executors, parameters.id ?? "");
      return { lines: jsonLines<LogLine>(task.output(logQuery(query), signal)) };
    },
    "GET /v1/events": ({ query, signal }) => {
      const since = numberOf(query, "since") ?? 0;
      if (query.get("follow") === "true") return { lines: jsonLines<HostEvent>(journal.follow(since, signal)) };
      return { lines: jsonLines<HostEvent>(journal.since(since)) };
    },
    "POST /v1/plan": ({ body }) => ({ json: parts.plan(parseTaskInfo(parse(PlanBody, body).taskInfo)) }),
    "GET /v1/hooks": () => ({ json: parts.hooks() }),
    "GET /v1/config": () => ({ json: parts.settings() }),
    "GET /v1/vault": async () => ({ json: await parts.vault() }),
    "GET /metrics": async () => ({ text: await parts.metrics(), type: "text/plain; version=0.0.4" }),
    "GET /healthz": () => ({ json: { ok: true } }),
    "GET /readyz": readiness(parts),
  };
}

/** Ready when everything that a launch needs answers; what does not is named. A hung dockerd must not get the daemon restarted: that is /healthz. */
function readiness(parts: AdminParts): AdminHandler {
  return () => {
    const dependencies = parts.dependencies();
    const missing = Object.entries(dependencies).filter(([, state]) => !state.ready);
    if (missing.length > 0) throw new AdminError(503, missing.map(([name, state]) => `${name}: ${state.detail}`).join("; "));
    return { json: { ok: true, dependencies } };
  };
}

function logQuery(query: AdminRequest["query"]): LogQuery {
  const since = numberOf(query, "since");
  const tail = numberOf(query, "tail");
  const stream = query.get("stream");
  if (stream !== null && stream !== "stdout" && stream !== "stderr")
    throw new AdminError(400, `stream must be stdout or stderr, not "${stream}"`);
  return {
    follow: query.get("follow") === "true",
    ...(since === undefined ? {} : { since }),
    ...(tail === undefined ? {} : { tail }),
    ...(stream === null ? {} : { streams: [stream] }),
  };
}

function numberOf(query: AdminRequest["query"], name: string): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const value = Number(text);
  if (text === "" || !Number.isFinite(value) || value < 0)
    throw new AdminError(400, `${name} must be a number of at least 0, not "${text}"`);
  return value;
}

function parse<Schema extends z.ZodType>(schema: Schema, body: unknown): z.infer<Schema> {
  const result = schema.safeParse(body);
  if (!result.success) throw new AdminError(400, z.prettifyError(result.error));
  return result.data;
}

async function* jsonLines<Line>(values: Iterable<Line> | AsyncIterable<Line>): AsyncGenerator<string> {
  for await (const value of values) yield JSON.stringify(value);
}
