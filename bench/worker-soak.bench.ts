/**
 * A day of a lean worker's life in minutes: a heartbeat for each 15 s, and thousands of lost connections to the agent and to the
 * supervisor. `npm run bench -- worker-soak [reconnections]`; `ratio` is its anonymous memory at the end divided by that after the first tenth.
 */
import { waitFor } from "@berth/test-harness";
import { buildLeanWorker, leanWorkerObstacle } from "../scripts/build/lean-worker.ts";
import { rounded } from "./stage.ts";
import { WorkerCrowd, weight } from "./worker-stage.ts";

const reconnections = Number(process.argv[2] ?? 10_000);
const HEARTBEATS = (24 * 60 * 60) / 15;
/** One in so many is the supervisor's, which comes back with a backoff. */
const SUPERVISOR_SHARE = 100;

const obstacle = leanWorkerObstacle();
if (obstacle !== undefined) throw new Error(`there is no lean worker to measure: ${obstacle}`);
await using crowd = await WorkerCrowd.open((await buildLeanWorker({ quiet: true })).worker);
await crowd.add();
const [executor] = crowd.executors;
const [pid] = crowd.pids;
if (executor === undefined || pid === undefined) throw new Error("the worker did not start");
executor.launch({ task_id: { value: "soaked" } });
await waitFor(() => crowd.supervisor.count("launch") === 1);

const weights: number[] = [];
for (let round = 1; round <= reconnections; round++) {
  if (round % SUPERVISOR_SHARE === 0) await reconnectSupervisor();
  else await reconnectAgent();
  for (let beat = 0; beat < HEARTBEATS / reconnections; beat++) executor.send({ type: "HEARTBEAT" });
  if (round % (reconnections / 10) === 0) weights.push(weight(pid).anonymous);
}
const [first = Number.NaN] = weights;
console.log(
  JSON.stringify({ bench: "worker-soak", ratio: rounded((weights.at(-1) ?? Number.NaN) / first), reconnections, anonymous_kb: weights }),
);

async function reconnectAgent(): Promise<void> {
  const before = executor?.subscriptions ?? 0;
  executor?.dropStream("clean");
  await waitFor(() => (executor?.subscriptions ?? 0) > before, { interval: 1, what: "SUBSCRIBE" });
  // The agent keeps what it sent for its own tests; a day of it would be this process's memory, not the worker's.
  executor?.events.splice(0);
}

async function reconnectSupervisor(): Promise<void> {
  await crowd.supervisor.stop();
  const before = crowd.supervisor.count("hello");
  await crowd.supervisor.listen();
  await waitFor(() => crowd.supervisor.count("hello") > before, { interval: 2, what: "the hello" });
}
