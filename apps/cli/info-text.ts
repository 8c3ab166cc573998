import type { HostInfo } from "@berth/admin-api";
import { bytes, fields, timeAndAge } from "./output.ts";

/** What `berth info` tells a person of the daemon. */
export function infoText({ docker, sidecar, ...info }: HostInfo, now: number = Date.now()): string {
  return fields([
    ["berthd", `${info.version}, pid ${info.pid}, Node ${info.node}`],
    ["started", timeAndAge(info.startedAt, now)],
    ["protocol", info.protocol.join(", ")],
    ["executors", String(info.executors)],
    ["tasks", String(info.tasks)],
    ...Object.entries(info.dependencies).map(([name, { ready, detail }]) => [name, `${ready ? "ready" : "NOT READY"}: ${detail}`] as const),
    ["docker thread", docker === null ? "does not answer, or is not used" : dockerText(docker)],
    ["sidecar", sidecar === null ? "none, or its thread does not answer" : sidecarText(sidecar, now)],
  ]);
}

function dockerText({ calls, failures, timeouts, waiting, connections, heapUsedBytes }: NonNullable<HostInfo["docker"]>): string {
  const open = Object.entries(connections).map(([use, count]) => `${count} for ${use}`);
  return `${calls} calls, ${failures} failed, ${timeouts} timed out, ${waiting} wait\nconnections: ${open.join(", ")}\nheap: ${bytes(heapUsedBytes)}`;
}

function sidecarText(reader: NonNullable<HostInfo["sidecar"]>, now: number): string {
  const answers = reader.reachable ? "answers" : "DOES NOT ANSWER";
  const state = reader.requests === 0 ? "not asked yet" : `${answers} since ${timeAndAge(reader.since, now)}`;
  const lines = [
    `${reader.url} (${reader.mode}): ${state}`,
    `last state: ${reader.lastState === undefined ? "none yet" : timeAndAge(reader.lastState, now)}; ${reader.requests} requests`,
    `${reader.tasks} tasks watched, ${reader.draining} draining`,
  ];
  if (reader.problem !== undefined) lines.splice(1, 0, `PROBLEM: ${reader.problem}`);
  return lines.join("\n");
}
