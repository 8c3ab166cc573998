import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import type { TaskInfoInput } from "@berth/mesos/local-agent";
import { waitFor } from "@berth/test-harness";
import { TaskStage } from "./task-stage.ts";

/** A stage for command tasks: its supervisor finds no Docker engine. */
export async function commandStage(settings: Readonly<Record<string, string>> = {}): Promise<TaskStage> {
  return await TaskStage.start({ DOCKER_HOST: "unix:///nowhere/docker.sock", EXECUTOR_SIDECAR: "false", ...settings });
}

export function shellTask(command: string, more: Record<string, unknown> = {}): TaskInfoInput {
  return commandTask({ value: command }, more);
}

export function commandTask(command: object, more: Record<string, unknown> = {}): TaskInfoInput {
  return { task_id: { value: `t-${randomBytes(5).toString("hex")}` }, command, ...more };
}

/** A number that no other process has on its command line: `sleep 3…` is found by it. */
export function newMark(): string {
  return `3${Math.floor(1e8 + Math.random() * 8e8)}`;
}

/** Pids of living processes (stopped ones too, zombies not) that have this word on their command line. */
export function processesWith(word: string): number[] {
  const found: number[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (/\) [ZX] /.test(readFileSync(`/proc/${name}/stat`, "latin1"))) continue;
      if (readFileSync(`/proc/${name}/cmdline`, "latin1").split("\0").includes(word)) found.push(Number(name));
    } catch {} // It ended while it was looked at.
  }
  return found;
}

export async function allGone(word: string, what: string): Promise<void> {
  await waitFor(() => processesWith(word).length === 0, { what });
}
