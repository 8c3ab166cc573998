/**
 * LAUNCH event → TASK_RUNNING update, against bare create and start over the Docker API, in turn in the same run; with nothing
 * else running and with 30 tasks already there. `npm run bench -- launch [samples]`
 */
import { BenchStage, nextState, percentile, rounded, SLEEPING_CREATE, sleepingTask } from "./stage.ts";

const samples = Number(process.argv[2] ?? 20);
const OTHERS = 30;

await using stage = await BenchStage.start();
await sample("warm-up", 3);
const alone = await sample("alone", samples);
for (let index = 0; index < OTHERS; index++) await launch(`other-${index}`);
const crowded = await sample("crowded", samples);
console.log(
  JSON.stringify({
    bench: "launch",
    samples,
    ratio: rounded(percentile(alone.ours, 0.5) / percentile(alone.bare, 0.5)),
    ratio_p95: rounded(percentile(alone.ours, 0.95) / percentile(alone.bare, 0.95)),
    ratio_30_running: rounded(percentile(crowded.ours, 0.5) / percentile(crowded.bare, 0.5)),
    ratio_30_running_p95: rounded(percentile(crowded.ours, 0.95) / percentile(crowded.bare, 0.95)),
    bare_ms: rounded(percentile(alone.bare, 0.5), 1),
    ours_ms: rounded(percentile(alone.ours, 0.5), 1),
    bare_30_running_ms: rounded(percentile(crowded.bare, 0.5), 1),
    ours_30_running_ms: rounded(percentile(crowded.ours, 0.5), 1),
  }),
);

async function sample(name: string, count: number): Promise<{ ours: number[]; bare: number[] }> {
  const ours: number[] = [];
  const bare: number[] = [];
  for (let index = 0; index < count; index++) {
    const { ms, end } = await launch(`${name}-${index}`);
    ours.push(ms);
    await end();
    bare.push(await bareLaunch());
  }
  return { ours, bare };
}

async function launch(id: string): Promise<{ ms: number; end: () => Promise<void> }> {
  const executor = await stage.executor();
  const running = nextState(executor, "TASK_RUNNING");
  const start = performance.now();
  executor.launch(sleepingTask(id));
  await running;
  const ms = performance.now() - start;
  const end = async (): Promise<void> => {
    executor.kill(id, { gracePeriodMs: 0 });
    await executor.exited;
  };
  return { ms, end };
}

async function bareLaunch(): Promise<number> {
  const { api } = stage.docker;
  const start = performance.now();
  const { Id } = await api.call<{ Id: string }>("POST", "/containers/create", SLEEPING_CREATE);
  await api.call("POST", `/containers/${Id}/start`);
  const ms = performance.now() - start;
  await api.call("DELETE", `/containers/${Id}?force=1`);
  return ms;
}
