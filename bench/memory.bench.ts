/**
 * What berthd and N idle workers weigh: proportional set size from /proc, against a bare Node process that only holds one unix
 * socket, in the same run. `npm run bench -- memory [workers]`
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { BenchStage, nextState, rounded, sleepingTask } from "./stage.ts";

const workers = Number(process.argv[2] ?? 50);
/** What is allocated at the start has been collected by then. */
const SETTLE_MS = 4000;

await using stage = await BenchStage.start();
const bare: ChildProcess[] = [];
for (let index = 0; index < workers; index++) {
  const code = `require("node:net").connect(${JSON.stringify(stage.supervisor.socket)}).on("error", () => {})`;
  bare.push(spawn(process.execPath, ["-e", code], { stdio: "ignore" }));
}
await sleep(SETTLE_MS);
const barePss = mean(bare.map((child) => pss(child.pid as number)));
for (const child of bare) child.kill("SIGKILL");

const empty = pss(stage.supervisor.pid);
const pids: number[] = [];
for (let index = 0; index < workers; index++) {
  const executor = await stage.executor();
  const running = nextState(executor, "TASK_RUNNING");
  executor.launch(sleepingTask(`idle-${index}`));
  await running;
  pids.push(executor.pid as number);
}
await sleep(SETTLE_MS);
const workerPss = mean(pids.map(pss));
const loaded = pss(stage.supervisor.pid);
console.log(
  JSON.stringify({
    bench: "memory",
    workers,
    ratio: rounded(workerPss / barePss),
    worker_pss_mb: rounded(workerPss / 1024, 2),
    bare_node_pss_mb: rounded(barePss / 1024, 2),
    berthd_pss_mb: rounded(loaded / 1024, 1),
    berthd_empty_pss_mb: rounded(empty / 1024, 1),
  }),
);

/** Kilobytes. */
function pss(pid: number): number {
  const match = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(match?.[1] ?? Number.NaN);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
