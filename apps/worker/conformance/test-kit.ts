import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { encodeRecord, RecordDecoder } from "@berth/recordio";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { PROBE_SOCKET } from "./probe.ts";

/** One of the worker's hosts: the command that runs the probe on it. */
export interface HostUnderTest {
  name: "node" | "lean";
  command: readonly string[];
}

export const NODE_HOST: HostUnderTest = {
  name: "node",
  command: [process.execPath, fileURLToPath(new URL("./probe-node.ts", import.meta.url))],
};

/** Where `startProbe` puts the probe's standard descriptors; its own folder is the working directory. */
export interface ProbeOptions {
  environment?: Record<string, string>;
  arguments?: readonly string[];
  stdio?: ReadonlyArray<"ignore" | "pipe" | "inherit" | number>;
}

/** A probe that runs: the operations of its `Host` by remote control. */
export interface Probe extends AsyncDisposable {
  pid: number;
  process: ChildProcess;
  /** Code and signal. */
  ended: Promise<[number | null, NodeJS.Signals | null]>;
  stderr(): string;
  stdout(): string;
  folder: string;
  // biome-ignore lint/suspicious/noExplicitAny: the answer's shape is known to the test that asks
  call(operation: string, ...values: unknown[]): Promise<any>;
  /** Sends an operation whose answer is not awaited. */
  send(operation: string, ...values: unknown[]): void;
  /** Asks again and again until the answer is as wanted. */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  until(operation: string, values: unknown[], wanted: (answer: any) => unknown): Promise<any>;
}

/** Starts the probe and waits for its control connection. */
export async function startProbe(host: HostUnderTest, options: ProbeOptions = {}): Promise<Probe> {
  const folder: TempDir = await tempDir("pr");
  const path = join(folder.path, "control");
  const server = createServer().listen(path);
  await once(server, "listening");
  const connected = once(server, "connection") as Promise<[Socket]>;
  const [program = "", ...args] = host.command;
  const child = spawn(program, [...args, ...(options.arguments ?? [])], {
    cwd: folder.path,
    env: { PATH: process.env.PATH ?? "", [PROBE_SOCKET]: path, ...marks(), ...options.environment },
    stdio: (options.stdio ?? ["ignore", "pipe", "pipe"]) as ("ignore" | "pipe")[],
  });
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      texts[name] += text;
    });
  }
  const ended = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  const control = await Promise.race([
    connected.then(([socket]) => socket),
    ended.then(([code, signal]) => {
      throw new Error(`the probe ended with ${code ?? signal} before it connected: ${texts.stderr}`);
    }),
  ]);
  const remote = new Remote(control);
  return {
    pid: child.pid as number,
    process: child,
    ended,
    folder: folder.path,
    stderr: () => texts.stderr,
    stdout: () => texts.stdout,
    call: (operation, ...values) => remote.call(operation, values),
    send: (operation, ...values) => void remote.call(operation, values).catch(() => {}),
    until: (operation, values, wanted) =>
      waitFor(
        async () => {
          const answer = await remote.call(operation, values);
          return wanted(answer) ? { answer } : undefined;
        },
        { what: `the wanted answer to ${operation} ${JSON.stringify(values)}` },
      ).then(({ answer }) => answer),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await ended;
      control.destroy();
      server.close();
      await folder.remove();
    },
  };
}

/** The marks by which a run finds what it left behind. */
function marks(): Record<string, string> {
  const run = process.env.BERTH_TEST_RUN;
  return run === undefined ? {} : { BERTH_TEST_RUN: run };
}

class Remote {
  readonly #control: Socket;
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  #next = 1;

  constructor(control: Socket) {
    this.#control = control;
    const decoder = new RecordDecoder((record) => {
      const { id, result } = JSON.parse(Buffer.from(record).toString()) as { id: number; result: unknown };
      this.#waiting.get(id)?.resolve(result);
      this.#waiting.delete(id);
    });
    control.on("data", (bytes: Buffer) => decoder.push(bytes));
    control.on("error", () => {});
    control.on("close", () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("the probe is gone"));
    });
  }

  call(operation: string, values: unknown[]): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#control.write(encodeRecord(Buffer.from(JSON.stringify({ id, operation, arguments: values }))));
    });
  }
}

/** A server that holds its connections for the test. */
export interface TestServer extends AsyncDisposable {
  server: Server;
  /** The n-th connection, from 0. */
  connection(index: number): Promise<Socket>;
}

/** Listens on a unix socket's path or a port of an address; connections are paused until somebody reads them. */
export async function listen(where: string | { host: string; port: number }): Promise<TestServer> {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    socket.on("error", () => {});
    sockets.push(socket);
  });
  if (typeof where === "string") server.listen(where);
  else server.listen(where);
  await once(server, "listening");
  return {
    server,
    connection: (index) => waitFor(() => sockets[index], { what: `connection ${index}` }),
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Both hosts; without cargo only Node, and `missing` says why. */
export async function hostsUnderTest(): Promise<{ hosts: HostUnderTest[]; missing: string | undefined }> {
  const build = fileURLToPath(new URL("../../../", import.meta.url)).concat("scripts/build-worker.ts");
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [build, "--probe"]);
  const probe = stdout.trim();
  if (probe === "") return { hosts: [NODE_HOST], missing: stderr.trim() };
  return { hosts: [NODE_HOST, { name: "lean", command: [probe] }], missing: undefined };
}
