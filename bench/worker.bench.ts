/**
 * What a worker costs on each of its hosts: N idle ones with both sockets open (agent and supervisor), and the lean one after a hard
 * life. `npm run bench -- worker [workers]`; `ratio` is the lean workers' mean PSS divided by that of the Node workers.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { RequestedUpdate } from "@berth/protocol";
import { tempDir, waitFor } from "@berth/test-harness";
import { build } from "esbuild";
import { buildLeanWorker, leanWorkerObstacle } from "../scripts/build/lean-worker.ts";
import { percentile, rounded } from "./stage.ts";
import { cpuTime, mean, WorkerCrowd, weight } from "./worker-stage.ts";

const workers = Number(process.argv[2] ?? 50);
/** What a start leaves behind has been collected by then. */
const SETTLE_MS = 4000;
const MESSAGES = 20_000;
const UPDATES = 50;
const UPDATE_BYTES = 300_000;
const SPAWNS = 200;

const obstacle = leanWorkerObstacle();
if (obstacle !== undefined) throw new Error(`there is no lean worker to measure: ${obstacle}`);
await using folder = await tempDir("wb");
const bundle = join(folder.path, "berth-worker.mjs");
// As `npm run build` makes it.
await build({
  entryPoints: ["apps/worker/host-node/main.ts"],
  outfile: bundle,
  bundle: true,
  platform: "node",
  format: "esm",
  minify: true,
});

const node = await measure(`${process.execPath} ${bundle}`);
const lean = await measure((await buildLeanWorker({ quiet: true })).worker, liveHard);
console.log(JSON.stringify({ bench: "worker", workers, ratio: rounded(lean.pss_kb / node.pss_kb), lean, node }));

interface Measured {
  pss_kb: number;
  private_kb: number;
  start_ms: number;
  start_best_ms: number;
  start_cpu_ms: number;
  /** After all messages and big updates, and after the children too: each child has a task, and the worker remembers every task. */
  after_traffic_pss_kb?: number;
  loaded_pss_kb?: number;
}

async function measure(command: string, live?: (crowd: WorkerCrowd) => Promise<Partial<Measured>>): Promise<Measured> {
  await using crowd = await WorkerCrowd.open(command);
  const starts: number[] = [];
  for (let count = 0; count < workers; count++) starts.push(await crowd.add());
  await sleep(SETTLE_MS);
  const weights = crowd.pids.map(weight);
  const measured: Measured = {
    pss_kb: Math.round(mean(weights.map(({ pss }) => pss))),
    private_kb: Math.round(mean(weights.map((each) => each.private))),
    start_ms: rounded(percentile(starts, 0.5), 1),
    start_best_ms: rounded(Math.min(...starts), 1),
    start_cpu_ms: rounded(percentile(crowd.pids.map(cpuTime), 0.5), 2),
  };
  if (live === undefined) return measured;
  return { ...measured, ...(await live(crowd)) };
}

/** The last worker gets messages, big updates and children as no worker does in months. */
async function liveHard({ executors, supervisor }: WorkerCrowd): Promise<Partial<Measured>> {
  const executor = executors.at(-1);
  if (executor?.pid === undefined) throw new Error("there is no worker");
  const { pid } = executor;
  const stays = randomBytes(4).toString("hex");
  executor.launch({ task_id: { value: stays } });
  await waitFor(() => supervisor.count("launch") === 1, { what: "the launch" });

  for (let sent = 0; sent < MESSAGES; ) {
    for (const end = sent + 1000; sent < end; sent++) executor.message(`message ${sent}`);
    await waitFor(() => supervisor.count("message") === sent, { interval: 5, what: "the messages" });
  }
  const update = async (taskId: string, requested: RequestedUpdate): Promise<void> => {
    const before = supervisor.count("acknowledged");
    supervisor.send({ type: "update", taskId, update: requested });
    await waitFor(() => supervisor.count("acknowledged") > before, { interval: 2, what: "an acknowledgement" });
  };
  for (let sent = 1; sent <= UPDATES; sent++) {
    await update(stays, { state: "TASK_RUNNING", message: `${sent} ${"x".repeat(UPDATE_BYTES)}` });
  }
  await update(stays, { state: "TASK_RUNNING", message: "small again" });
  await sleep(SETTLE_MS);
  const after_traffic_pss_kb = weight(pid).pss;
  for (let count = 1; count <= SPAWNS; count++) {
    const taskId = randomBytes(4).toString("hex");
    executor.launch({ task_id: { value: taskId } });
    await waitFor(() => supervisor.count("launch") === count + 1, { interval: 2, what: "a launch" });
    supervisor.send({ type: "spawn", taskId, argv: ["/bin/true"], environment: {}, directory: "/", output: "inherit" });
    await waitFor(() => supervisor.count("exited") === count, { interval: 2, what: "an exit" });
    await update(taskId, { state: "TASK_FINISHED" });
    supervisor.send({ type: "forget", taskId });
  }
  await sleep(SETTLE_MS);
  return { after_traffic_pss_kb, loaded_pss_kb: weight(pid).pss };
}
