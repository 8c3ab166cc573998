/**
 * What relaying 1,000,000 lines of 120 bytes costs, against `docker logs -f` piped to nothing on the same log in the same run.
 * Prints one JSON line. `ratio`: CPU of relay and dockerd for raw JSON over UDP, divided by the reference's; `varied_ratio`: the
 * same for fewer lines of 60 to 180 bytes, as lines of equal length leave together. `lines_ratio`: the reference's lines a second
 * divided by ours into a sandbox file. `lost`: of all of them. The writing of the log is in none.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { LogLane, type SinkConfig } from "@berth/logrelay";
import { BUSYBOX_IMAGE, startDockerd, tempDir, waitFor } from "@berth/test-harness";

const LINES = Number(process.env.BERTH_BENCH_LINES ?? 1_000_000);
const VARIED_LINES = Math.ceil(LINES / 3);
const TICKS = 100;

const quiet = { debug: () => {}, info: () => {}, warn: () => {} };
/** In another process, so that the receiver's CPU is not ours. */
const RECEIVER = `const s = require("node:dgram").createSocket({ type: "udp4", recvBufferSize: 4 << 20 }); let n = 0;
s.on("message", () => { n++; }); s.bind(0, "127.0.0.1", () => process.send({ port: s.address().port }));
process.on("message", () => process.send({ n })); process.on("disconnect", () => process.exit());`;

function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function ownCpu(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

await using dockerd = await startDockerd();
await using folder = await tempDir("bench");
const daemon = dockerd.pid() as number;

/** A container that has written its lines and ended. */
interface Written {
  id: string;
  path: string;
  lines: number;
}

async function write(lines: number, script: string): Promise<Written> {
  const body = {
    Image: BUSYBOX_IMAGE,
    Cmd: ["sh", "-c", script],
    HostConfig: { NetworkMode: "none", LogConfig: { Type: "json-file", Config: {} } },
  };
  const { Id: id } = await dockerd.api.call<{ Id: string }>("POST", "/containers/create", body);
  await dockerd.api.call("POST", `/containers/${id}/start`);
  await dockerd.api.call("POST", `/containers/${id}/wait`);
  const { LogPath: path } = await dockerd.api.call<{ LogPath: string }>("GET", `/containers/${id}/json`);
  return { id, path, lines };
}

async function reference({ id }: Written): Promise<{ cpu: number; seconds: number }> {
  const before = cpuOf(daemon);
  const start = performance.now();
  const command = `exec 3>&2; TIMEFORMAT='%U %S'; time docker -H ${dockerd.host} logs -f ${id} >/dev/null`;
  const child = spawn("bash", ["-c", command], { stdio: ["ignore", "ignore", "pipe"] });
  let text = "";
  child.stderr.on("data", (data: Buffer) => {
    text += data.toString();
  });
  await once(child, "exit");
  const seconds = (performance.now() - start) / 1000;
  const [user = 0, system = 0] = (text.trim().split("\n").at(-1) ?? "").split(" ").map(Number);
  return { cpu: cpuOf(daemon) - before + user + system, seconds };
}

async function ours(
  { path }: Written,
  sinks: SinkConfig[],
  done: () => Promise<boolean>,
): Promise<{ cpu: number; seconds: number; dropped: number }> {
  const lane = LogLane.open({ docker: { url: dockerd.host, socketPath: dockerd.api.socketPath }, log: quiet });
  await lane.stats();
  const before = ownCpu() + cpuOf(daemon);
  const start = performance.now();
  const sandbox = { stdoutPath: join(folder.path, "stdout"), stderrPath: join(folder.path, "stderr"), writable: true };
  const fields = { ServiceName: "bench", Environment: "dev" };
  await lane.follow({ taskKey: "bench", source: { kind: "json-file", path }, sandbox, sinks, fields, hostname: "host1" });
  await waitFor(done, { deadline: 300_000, interval: 20 });
  const seconds = (performance.now() - start) / 1000;
  const cpu = ownCpu() + cpuOf(daemon) - before;
  const statistics = await lane.stop({ taskKey: "bench", drain: true, deadline: Date.now() + 60_000 });
  await lane.close();
  const dropped = statistics?.sinks.flatMap((sink) => Object.values(sink.dropped)).reduce((sum, count) => sum + count, 0) ?? 0;
  return { cpu, seconds, dropped };
}

/** Sends to a receiver in another process; `lost` is what did not come there. */
async function byUdp(written: Written): Promise<{ cpu: number; seconds: number; lost: number }> {
  const receiver = spawn(process.execPath, ["-e", RECEIVER], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const [{ port }] = (await once(receiver, "message")) as [{ port: number }];
  let arrived = 0;
  let still = 0;
  const { cpu, seconds } = await ours(written, [{ type: "json-udp", address: `127.0.0.1:${port}` }], async () => {
    receiver.send("count");
    const [{ n }] = (await once(receiver, "message")) as [{ n: number }];
    still = n === arrived && n > 0 ? still + 1 : 0;
    arrived = n;
    return arrived >= written.lines || still > 100;
  });
  receiver.disconnect();
  return { cpu, seconds, lost: written.lines - arrived };
}

const equal = await write(LINES, `yes "$(printf '%0119d' 7)" | head -n ${LINES}`);
const docker = await reference(equal);
const file = await ours(equal, [{ type: "sandbox" }], async () => {
  return (statSync(join(folder.path, "stdout"), { throwIfNoEntry: false })?.size ?? 0) >= LINES * 120;
});
const udp = await byUdp(equal);
const varied = await write(
  VARIED_LINES,
  `awk 'BEGIN { srand(1); s = sprintf("%0179d", 7); for (i = 0; i < ${VARIED_LINES}; i++) print substr(s, 1, 59 + int(rand() * 121)) }'`,
);
const dockerVaried = await reference(varied);
const udpVaried = await byUdp(varied);
const round = (value: number): number => Number(value.toFixed(3));
console.log(
  JSON.stringify({
    bench: "logs",
    lines: LINES,
    ratio: round(udp.cpu / docker.cpu),
    varied_ratio: round(udpVaried.cpu / dockerVaried.cpu),
    lines_ratio: round(LINES / docker.seconds / (LINES / file.seconds)),
    lost: udp.lost + udpVaried.lost + file.dropped,
    file_cpu_ratio: round(file.cpu / docker.cpu),
    cpu_seconds: {
      reference: round(docker.cpu),
      udp: round(udp.cpu),
      file: round(file.cpu),
      varied_reference: round(dockerVaried.cpu),
      varied_udp: round(udpVaried.cpu),
    },
    lines_per_second: {
      reference: Math.round(LINES / docker.seconds),
      udp: Math.round(LINES / udp.seconds),
      file: Math.round(LINES / file.seconds),
    },
  }),
);
