/** For this library's tests: tasks in network namespaces of their own, and checks of them. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { HealthCheck } from "@berth/mesos/task-info";
import type { Outcome } from "./outcome.ts";
import { Probe } from "./probe.ts";

export const isRoot = process.getuid?.() === 0;

export interface TestTask extends AsyncDisposable {
  pid: number;
  port: number;
  tlsPort: number;
  /** Request lines that its server got. */
  requests: string[];
}

/** A server that listens on loopback only: in a network namespace of its own, or in ours. */
export async function startTask(options: { namespace: boolean; host?: string }): Promise<TestTask> {
  const folder = await mkdtemp(join(tmpdir(), "berth-h-"));
  const certificate = join(folder, "pem");
  const subject = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=task.example", "-days", "2"];
  await promisify(execFile)("openssl", ["req", ...subject, "-keyout", certificate, "-out", `${certificate}.crt`]);
  await promisify(execFile)("sh", ["-c", 'cat "$1.crt" >> "$1"', "sh", certificate]);
  const server = [process.execPath, new URL("./check-server.ts", import.meta.url).pathname, options.host ?? "127.0.0.1", certificate];
  const inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", ...server];
  const argv = options.namespace ? inside : server;
  const child = spawn(argv[0] as string, argv.slice(1), { stdio: ["ignore", "pipe", "inherit"] });
  const requests: string[] = [];
  const ports = await new Promise<{ port: number; tlsPort: number }>((resolve, reject) => {
    child.once("exit", () => reject(new Error("the test's server ended")));
    let first = true;
    let rest = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (first) resolve(JSON.parse(line) as { port: number; tlsPort: number });
        else requests.push(line);
        first = false;
      }
    });
  });
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    await rm(folder, { recursive: true, force: true });
  };
  return { pid: child.pid as number, ...ports, requests, [Symbol.asyncDispose]: stop };
}

/** One check of a task, as the watch would make it. */
export async function check(pid: number, fields: object, options: { id?: string; signal?: AbortSignal } = {}): Promise<Outcome> {
  const probe = new Probe({ procPath: "/proc" });
  const observed = { id: options.id ?? "0123456789ab", pid, startedAt: Date.now() };
  return await probe.run(HealthCheck.parse(fields), observed, options.signal ?? new AbortController().signal);
}
