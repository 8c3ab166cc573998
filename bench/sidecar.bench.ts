/**
 * What following Sidecar costs for 1 and for 50 tasks of one host at a state of 5 MB, polled as the tasks ask: each at the same
 * interval, started at different times. Prints one JSON line; `ratio`: CPU of a poll for 50 tasks divided by that for one; `polls`:
 * how many there were in the same time (on a busy machine fewer than intervals). The server is another process.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { SidecarLane } from "@berth/sidecar";

const STATE_BYTES = Number(process.env.BERTH_BENCH_STATE_BYTES ?? 5 * 1024 * 1024);
const POLL_MS = 1_000;
const POLLS = 20;

const quiet = { debug: () => {}, info: () => {}, warn: () => {} };
/** Each answer differs in one time, as Sidecar's do, so that none can be taken for the one before. */
const SERVER = `const { stateOf } = await import(process.argv[1]);
const ids = Object.fromEntries(Array.from({ length: 50 }, (_, i) => ["s" + i, 0]));
const text = stateOf({ h1: ids }, Number(process.argv[2])); let n = 0;
const at = text.lastIndexOf("709109015Z"); const head = Buffer.from(text.slice(0, at)), tail = Buffer.from(text.slice(at + 9));
const { createServer } = await import("node:http");
const server = createServer((q, r) => r.end(Buffer.concat([head, Buffer.from(String(++n).padStart(9, "0")), tail])));
server.listen(0, "127.0.0.1", () => process.send({ port: server.address().port, bytes: text.length }));
process.on("disconnect", () => process.exit());`;

const generator = import.meta.resolve("@berth/sidecar/generate");
const server = spawn(process.execPath, ["--input-type=module", "-e", SERVER, generator, String(STATE_BYTES)], {
  stdio: ["ignore", "ignore", "inherit", "ipc"],
  cwd: fileURLToPath(new URL("..", import.meta.url)),
});
const [{ port, bytes }] = (await once(server, "message")) as [{ port: number; bytes: number }];

async function measure(tasks: number): Promise<{ cpu: number; bytes: number; requests: number }> {
  const url = `http://127.0.0.1:${port}/state.json`;
  const lane = SidecarLane.open({ settings: { url, timeoutMs: 5_000, watch: false }, log: quiet });
  for (let index = 0; index < tasks; index++) {
    await lane.watch({
      taskKey: `t${index}`,
      serviceId: `s${index}`,
      hostKey: "h1",
      backoffMs: (index * POLL_MS) / tasks,
      pollIntervalMs: POLL_MS,
      maxFails: 3,
      ageMs: 0,
    });
  }
  // The first polls warm the thread up, and each task's first check may be one of its own: they are in neither figure.
  await new Promise((resolve) => setTimeout(resolve, 4 * POLL_MS));
  const first = await lane.status();
  const before = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, POLLS * POLL_MS));
  const { user, system } = process.cpuUsage(before);
  const last = await lane.status();
  await lane.close();
  return { cpu: (user + system) / 1e6, bytes: last.bytes - first.bytes, requests: last.requests - first.requests };
}

const one = await measure(1);
const fifty = await measure(50);
server.disconnect();
const round = (value: number): number => Number(value.toFixed(3));
console.log(
  JSON.stringify({
    bench: "sidecar",
    state_bytes: bytes,
    intervals: POLLS,
    ratio: round(fifty.cpu / fifty.requests / (one.cpu / one.requests)),
    bytes_ratio: round(fifty.bytes / fifty.requests / (one.bytes / one.requests)),
    polls: { one: one.requests, fifty: fifty.requests },
    cpu_ms_per_poll: { one: round((one.cpu / one.requests) * 1000), fifty: round((fifty.cpu / fifty.requests) * 1000) },
    bytes_per_poll: { one: Math.round(one.bytes / one.requests), fifty: Math.round(fifty.bytes / fifty.requests) },
  }),
);
