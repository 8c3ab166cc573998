/**
 * One worker's session with an agent: how fast it subscribes, how many updates per second it brings to their acknowledgement and
 * what one costs it, against a bare loop that awaits each 202 and each acknowledgement, in the same run.
 * `npm run bench -- session [updates] [starts]`; BERTH_BENCH_WORKER=node measures the worker on Node where a lean one was built, too.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LocalAgent, type LocalExecutor } from "@berth/mesos/local-agent";
import { encodeFrame, type SupervisorMessage, type WorkerMessage } from "@berth/protocol";
import { RecordDecoder } from "@berth/recordio";
import { tempDir, waitFor } from "@berth/test-harness";
import { build } from "../scripts/build/build.ts";
import { percentile, rounded } from "./stage.ts";

const updates = Number(process.argv[2] ?? 4000);
const starts = Number(process.argv[3] ?? 10);
/** Samples of either kind, in turn, so that a busy moment of the machine meets both. */
const ROUNDS = 3;

await using folder = await tempDir("session");
const installed = await build(join(folder.path, "installed"));
const lean = `${installed.folder}/worker/berth-worker-lean`;
if (process.env.BERTH_BENCH_WORKER === "node") rmSync(lean, { force: true });
await using agent = await LocalAgent.start({ workDirectory: `${folder.path}/agent`, checkpoint: true });
const socket = `${folder.path}/s`;
let peer: Socket | undefined;
let acknowledged = 0;
const server = await listen();

const startMs: number[] = [];
for (let index = 0; index < starts; index++) {
  const begin = performance.now();
  const executor = worker(`start-${index}`);
  await new Promise((resolve) => executor.once("subscribed", resolve));
  startMs.push(performance.now() - begin);
  await executor.destroy();
}

const executor = worker("updates");
executor.launch({ task_id: { value: "t" } });
await waitFor(() => peer, { interval: 2 });
const bare = await startBare();
const ours: Array<{ perSecond: number; cpuMs: number }> = [];
const reference: number[] = [];
await sampleOurs(500);
await sampleBare(500);
for (let round = 0; round < ROUNDS; round++) {
  ours.push(await sampleOurs(updates));
  reference.push(await sampleBare(updates));
}
const oursPerSecond = percentile(
  ours.map(({ perSecond }) => perSecond),
  0.5,
);
const barePerSecond = percentile(reference, 0.5);
console.log(
  JSON.stringify({
    bench: "session",
    worker: existsSync(lean) ? "lean" : "node",
    updates,
    ratio: rounded(barePerSecond / oursPerSecond),
    updates_per_second: Math.round(oursPerSecond),
    bare_updates_per_second: Math.round(barePerSecond),
    cpu_ms_per_update: rounded(
      percentile(
        ours.map(({ cpuMs }) => cpuMs),
        0.5,
      ),
      4,
    ),
    start_to_subscribed_ms: rounded(percentile(startMs, 0.5), 1),
    start_to_subscribed_p95_ms: rounded(percentile(startMs, 0.95), 1),
  }),
);
await agent.stop();
server.close();

function worker(executorId: string): LocalExecutor {
  return agent.startExecutor({
    executorId,
    command: `exec ${installed.folder}/bin/berth-worker`,
    environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: socket },
  });
}

/** All updates are given to the worker at once; it ends when the last acknowledgement has come back to the supervisor. */
async function sampleOurs(count: number): Promise<{ perSecond: number; cpuMs: number }> {
  acknowledged = 0;
  const cpu = cpuMsOf(executor.pid as number);
  const begin = performance.now();
  for (let index = 0; index < count; index++) {
    say({ type: "update", taskId: "t", update: { state: "TASK_RUNNING", message: `update ${index} ${begin}`, healthy: index % 2 === 0 } });
  }
  await waitFor(() => acknowledged >= count, { deadline: 120_000, interval: 2 });
  const seconds = (performance.now() - begin) / 1000;
  return { perSecond: count / seconds, cpuMs: (cpuMsOf(executor.pid as number) - cpu) / count };
}

/** The reference, in a process of its own as the worker is: see bare-executor.ts. */
async function startBare(): Promise<LocalExecutor> {
  const program = fileURLToPath(new URL("./bare-executor.ts", import.meta.url));
  const started = agent.startExecutor({
    executorId: "bare",
    command: `exec ${process.execPath} ${program}`,
    environment: { PATH: process.env.PATH ?? "" },
  });
  started.launch({ task_id: { value: "b" } });
  await new Promise((resolve) => started.once("subscribed", resolve));
  return started;
}

/** Updates per second. */
async function sampleBare(count: number): Promise<number> {
  const answer = new Promise<string>((resolve) => bare.once("message", (data) => resolve(data.toString())));
  bare.message(String(count));
  return Number(await answer);
}

function say(message: SupervisorMessage): void {
  peer?.write(encodeFrame(message, Buffer.from));
}

/** Takes every worker and counts acknowledgements. */
async function listen(): Promise<Server> {
  rmSync(socket, { force: true });
  const listening = createServer((connection) => {
    const decoder = new RecordDecoder((record) => {
      const message = JSON.parse(Buffer.from(record).toString()) as WorkerMessage;
      if (message.type === "hello") {
        peer = connection;
        say({ type: "welcome", protocol: 1, version: "bench" });
      } else if (message.type === "acknowledged") acknowledged += 1;
    });
    connection.on("data", (bytes: Buffer) => decoder.push(bytes)).on("error", () => {});
  });
  await new Promise<void>((resolve) => listening.listen(socket, resolve));
  return listening;
}

/** User and system time of a process, milliseconds (clock ticks are 10 ms). */
function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
