import type { LogTarget, SidecarView, TaskInspection, TaskLogView } from "@berth/admin-api";
import { formatDuration } from "@berth/duration";
import { bytes, eventLine, fields, indent, table, timeAndAge, yesNo } from "./output.ts";

/** What `berth inspect` tells a person: what the task is and does first, its environment and events behind. The TaskInfo is only in the JSON. */
export function inspectionText(task: TaskInspection, now: number = Date.now()): string {
  const { identity, observed, stop, outcome, lastStatus } = task;
  const address = observed?.addresses?.map(({ network, address }) => `${address} (${network})`).join(", ");
  const head = fields([
    ["task", task.taskId],
    ["state", `${stateName(task.state)}${lastStatus === undefined ? "" : `, told ${timeAndAge(lastStatus.at, now)}`}`],
    ["message", task.message],
    ["healthy", yesNo(task.healthy)],
    ["now", `${task.phase}: ${task.step}`],
    ["worker", task.worker],
    ["stop", stop === undefined ? undefined : stopText(stop, now)],
    ["outcome", outcome === undefined ? undefined : `${stateName(outcome.state)}: ${outcome.message}`],
    ["sidecar", task.sidecar === null ? "not watched" : sidecarText(task.sidecar, now)],
    ["output", task.logs === null ? "nothing is known: it is not relayed (yet), or the log thread does not answer" : logsText(task.logs)],
  ]);
  const rest = fields([
    ["launched", timeAndAge(task.launchedAt, now)],
    ["started", task.startedAt === null ? undefined : timeAndAge(task.startedAt, now)],
    ["runtime", `${task.runtime}, ${task.name}`],
    ["id", task.id],
    ["pid", observed?.pid?.toString()],
    ["image", task.image],
    ["address", address],
    ["executor", task.executorId],
    ["framework", task.frameworkId],
    ["sandbox of", `container ${identity.containerId}`],
  ]);
  const sections = [
    head,
    task.logs !== null && task.logs.targets.length > 0 ? indent(table([TARGET_HEADING, ...task.logs.targets.map(targetRow)])) : undefined,
    rest,
    task.environment === undefined ? undefined : `environment\n${indent(environmentText(task.environment, task.environmentOrigins))}`,
    `events\n${indent(task.events.map((event) => eventLine(event, now)).join("\n"))}`,
  ];
  return sections.filter((section) => section !== undefined).join("\n\n");
}

function stateName(state: string | null): string {
  return state === null ? "none yet" : state.replace("TASK_", "");
}

function stopText(stop: NonNullable<TaskInspection["stop"]>, now: number): string {
  const steps = [`asked for ${timeAndAge(stop.requestedAt, now)}`];
  if (stop.signalledAt !== undefined) steps.push(`SIGTERM ${timeAndAge(stop.signalledAt, now)}`);
  steps.push(
    stop.killedAt === undefined ? `grace period ${formatDuration(stop.gracePeriodMs)}` : `SIGKILL ${timeAndAge(stop.killedAt, now)}`,
  );
  return `${stop.message} (${stop.cause}); ${steps.join(", ")}`;
}

function sidecarText({ status, since, healthy, assumedHealthy, failures, maxFails, host, serviceId }: SidecarView, now: number): string {
  const known = status === null ? "says nothing" : `says ${status}`;
  const from = since === null ? "" : ` since ${timeAndAge(since, now)}`;
  const verdict = assumedHealthy === null ? (healthy ? "healthy" : "NOT healthy") : `assumed healthy: ${assumedHealthy}`;
  return `${known}${from} of service ${serviceId} on ${host}\n${verdict}; ${failures} failures in a row of ${maxFails} that end the task`;
}

/** Where a task's output is read, by the name that the answer has for it. */
const SOURCES: Readonly<Record<string, string>> = {
  "json-file": "dockerd's json-file log",
  "local-file": "dockerd's local log",
  api: "dockerd's API",
  pushed: "its worker",
  text: "the sandbox's files",
};

function logsText(logs: TaskLogView): string {
  const lines = [`${logs.lines} lines, ${bytes(logs.bytes)} read from ${SOURCES[logs.source] ?? logs.source}`];
  if (logs.lagBytes !== undefined && logs.lagBytes > 0) lines.push(`${bytes(logs.lagBytes)} not read yet`);
  if (logs.cut > 0) lines.push(`${logs.cut} lines were too long and cut`);
  if (logs.gaps > 0)
    lines.push(`LOST before it could be read: ${logs.gaps} gaps${logs.lastGap === undefined ? "" : `, the last: ${logs.lastGap}`}`);
  if (logs.malformed > 0) lines.push(`${logs.malformed} records could not be parsed`);
  if (logs.problem !== undefined) lines.push(`PROBLEM: ${logs.problem}`);
  return lines.join("\n");
}

const TARGET_HEADING = ["TARGET", "SENT", "AGAIN", "QUEUED", "DROPPED", "PROBLEM"];

function targetRow({ type, name, sent, resent = 0, queuedBytes, left, dropped, problem }: LogTarget): string[] {
  const reasons = Object.entries(dropped).map(([reason, count]) => `${count} ${reason}`);
  const queued = `${bytes(queuedBytes)}${left === undefined ? "" : ` (${left} lines)`}`;
  const target = name.startsWith(type) ? name : `${type} ${name}`;
  return [target, String(sent), String(resent), queued, reasons.join(", ") || "-", problem ?? "-"];
}

function environmentText(environment: Readonly<Record<string, string>>, origins: Readonly<Record<string, string>> = {}): string {
  const rows = Object.entries(environment).map(([name, value]) => [origins[name] ?? "-", `${name}=${value.replaceAll("\n", "\\n")}`]);
  return rows.length === 0 ? "(empty)" : table([["FROM", "VARIABLE"], ...rows]);
}
