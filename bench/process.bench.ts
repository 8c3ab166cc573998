/**
 * LAUNCH event → TASK_RUNNING update of a command task, against a bare spawn of the same command, in turn in the same run.
 * `overhead_ms` is the difference of the medians. `npm run bench -- process [samples]`
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { BenchStage, nextState, percentile, rounded } from "./stage.ts";

const samples = Number(process.argv[2] ?? 40);
const SCRIPT = "sleep 1000000";

await using stage = await BenchStage.start();
await sample("warm-up", 10);
const { ours, bare } = await sample("task", samples);
console.log(
  JSON.stringify({
    bench: "process",
    samples,
    overhead_ms: rounded(percentile(ours, 0.5) - percentile(bare, 0.5), 2),
    overhead_p95_ms: rounded(percentile(ours, 0.95) - percentile(bare, 0.95), 2),
    ratio: rounded(percentile(ours, 0.5) / percentile(bare, 0.5), 2),
    bare_ms: rounded(percentile(bare, 0.5), 2),
    ours_ms: rounded(percentile(ours, 0.5), 2),
  }),
);

async function sample(name: string, count: number): Promise<{ ours: number[]; bare: number[] }> {
  const ours: number[] = [];
  const bare: number[] = [];
  for (let index = 0; index < count; index++) {
    ours.push(await launch(`${name}-${index}`));
    bare.push(await bareSpawn());
  }
  return { ours, bare };
}

async function launch(id: string): Promise<number> {
  const executor = await stage.executor();
  const running = nextState(executor, "TASK_RUNNING");
  const start = performance.now();
  executor.launch({ task_id: { value: id }, command: { value: SCRIPT } });
  await running;
  const ms = performance.now() - start;
  executor.kill(id, { gracePeriodMs: 0 });
  await executor.exited;
  return ms;
}

/** Until the process exists, which is what TASK_RUNNING tells too. */
async function bareSpawn(): Promise<number> {
  const start = performance.now();
  const child = spawn("/bin/sh", ["-c", SCRIPT], { stdio: "ignore", detached: true });
  await once(child, "spawn");
  const ms = performance.now() - start;
  child.kill("SIGKILL");
  await once(child, "exit");
  return ms;
}
