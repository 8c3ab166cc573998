/**
 * Broken bytes for the lean worker, from an agent and a supervisor that both lie: `node scripts/worker/fuzz.ts [seconds] [seed]`,
 * a minute by default. The worker may close connections, try again and end with a code of its own; it must not crash (a signal,
 * or 70 for an uncaught error). BERTH_TEST_WORKER names another build of it, for instance one with sanitizers.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { tempDir } from "@berth/test-harness";
import { buildLeanWorker } from "../build/lean-worker.ts";

const seconds = Number(process.argv[2] ?? 60);
const seed = Number(process.argv[3] ?? Date.now() % 1e9);
/** Mulberry32: the same seed, the same lies (the kernel's timing still differs). */
let state = seed;
const worker = process.env.BERTH_TEST_WORKER ?? (await buildLeanWorker({ quiet: true })).worker;
const mark = `fuzz-${process.pid}`;
const tally = { answers: 0, messages: 0, broken: 0, ends: {} as Record<string, number> };

await using folder = await tempDir("fz");
const supervisor = await serve(join(folder.path, "s"), lieAsSupervisor);
const agent = await serve(0, lieAsAgent);
const { port } = agent.address() as { port: number };
const end = performance.now() + seconds * 1000;
while (performance.now() < end) {
  const { outcome, log } = await oneLife(Math.min(5000, end - performance.now()));
  tally.ends[outcome] = (tally.ends[outcome] ?? 0) + 1;
  if (!["0", "1", "2", "3", "still there"].includes(outcome)) {
    console.error(`the worker ended with ${outcome}; seed ${seed}\n${log}`);
    process.exitCode = 1;
    break;
  }
}
for (const server of [supervisor, agent]) server.close();
console.log(JSON.stringify({ seed, seconds, ...tally }));
// Sockets of lies that are half told would hold the process.
setImmediate(() => process.exit());

function random(below: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
}

function serve(where: string | number, lie: (socket: Socket) => void): Promise<Server> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    lie(socket);
  });
  return new Promise((resolve) => {
    if (typeof where === "string") server.listen(where, () => resolve(server));
    else server.listen(where, "127.0.0.1", () => resolve(server));
  });
}

async function oneLife(milliseconds: number): Promise<{ outcome: string; log: string }> {
  const child: ChildProcess = spawn(worker, [], {
    cwd: folder.path,
    env: {
      PATH: process.env.PATH ?? "",
      ASAN_OPTIONS: "detect_leaks=0",
      BERTH_SOCKET: join(folder.path, "s"),
      MESOS_AGENT_ENDPOINT: `127.0.0.1:${port}`,
      MESOS_EXECUTOR_ID: "fuzz",
      MESOS_FRAMEWORK_ID: "fuzz",
      MESOS_CHECKPOINT: "1",
      MESOS_DIRECTORY: folder.path,
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    log = (log + text).slice(-4000);
  });
  let leaving = false;
  const timer = setTimeout(() => {
    leaving = true;
    child.kill("SIGKILL");
  }, milliseconds);
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => child.on("close", (...how) => resolve(how)));
  clearTimeout(timer);
  return { outcome: leaving ? "still there" : String(code ?? signal), log };
}

function lieAsAgent(socket: Socket): void {
  let heard = "";
  socket.on("data", (bytes) => {
    heard += bytes.toString("latin1");
    if (!/\r\n\r\n.*\}$/s.test(heard)) return;
    tally.answers += 1;
    const subscribing = heard.includes('"SUBSCRIBE"');
    heard = "";
    if (!subscribing) return tell(socket, Buffer.from("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"), 8);
    const events = Array.from({ length: 1 + random(6) }, (_, index) => frame(index === 0 ? subscribed() : event()));
    const chunks = events.map((bytes) => Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]));
    tell(socket, Buffer.concat([Buffer.from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), ...chunks]), 2);
    setTimeout(() => (random(2) === 0 ? socket.end() : socket.resetAndDestroy()), random(120));
  });
}

function lieAsSupervisor(socket: Socket): void {
  socket.once("data", () => {
    tell(socket, frame({ type: "welcome", protocol: 1, version: "0" }), 10);
    const talk = setInterval(() => {
      tally.messages += 1;
      tell(socket, frame(message()), 3);
    }, 3);
    socket.on("close", () => clearInterval(talk));
    setTimeout(() => socket.destroy(), 50 + random(400));
  });
  socket.on("data", () => {});
}

/** Sends bytes, one time in `honesty` broken ones, in one to four pieces. */
function tell(socket: Socket, bytes: Buffer, honesty: number): void {
  let rest = random(honesty) === 0 ? broken(bytes) : bytes;
  for (let cuts = random(4); cuts > 0; cuts--) {
    const at = random(rest.length + 1);
    socket.write(rest.subarray(0, at));
    rest = rest.subarray(at);
  }
  socket.write(rest);
}

function broken(bytes: Buffer): Buffer {
  tally.broken += 1;
  let copy = Buffer.from(bytes);
  for (let times = 1 + random(4); times > 0; times--) {
    const at = random(copy.length + 1);
    const to = Math.min(copy.length, at + random(40));
    const noise = Buffer.from(Array.from({ length: random(12) }, () => random(256)));
    const piece = [noise, copy.subarray(at, to), Buffer.from("99999999999999999999"), Buffer.from('[[[[{"a":'), Buffer.alloc(0)][
      random(5)
    ] as Buffer;
    copy = Buffer.concat([copy.subarray(0, at), piece, copy.subarray(random(2) === 0 ? at : to)]);
  }
  return copy;
}

function frame(value: object): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  return Buffer.concat([Buffer.from(`${text.length}\n`), text]);
}

function subscribed(): object {
  const value = { value: "fuzz" };
  return {
    type: "SUBSCRIBED",
    subscribed: { agent_info: { id: value, hostname: "h" }, container_id: value, framework_info: { name: "f" } },
  };
}

function event(): object {
  const task_id = { value: `t${random(5)}` };
  const events = [
    { type: "LAUNCH", launch: { task: { task_id, name: "é€😀", agent_id: { value: "a" }, data: "x".repeat(random(40_000)) } } },
    { type: "LAUNCH_GROUP", launch_group: { task_group: { tasks: [{ task_id }, { task_id: { value: `g${random(9)}` } }] } } },
    { type: "KILL", kill: { task_id, kill_policy: { grace_period: { nanoseconds: random(1e9) } } } },
    { type: "ACKNOWLEDGED", acknowledged: { task_id, uuid: "AAAA" } },
    { type: "MESSAGE", message: { data: "aGVsbG8=" } },
    { type: "HEARTBEAT" },
    { type: "ERROR", error: { message: "no" } },
  ];
  return events[random(events.length)] as object;
}

function message(): object {
  const taskId = `t${random(5)}`;
  const messages = [
    { type: "update", taskId, update: { state: random(8) === 0 ? "TASK_FINISHED" : "TASK_RUNNING", message: "m", healthy: true } },
    { type: "checkpoint", taskId, sequence: random(1000), data: { deep: [[[{ a: "x".repeat(random(5000)) }]]] } },
    { type: "spawn", taskId, argv: ["/bin/sleep", "0.05"], environment: { BERTH_TASK: mark }, directory: "/", output: "forward" },
    { type: "signal", taskId, signal: 15 },
    { type: "message", data: "aGVsbG8=" },
    { type: "title", text: "t".repeat(random(3000)) },
    { type: "output", stream: "stdout", data: "aGVsbG8=" },
    { type: "unknown" },
  ];
  return messages[random(messages.length)] as object;
}
