import { connect } from "node:net";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import { type RunningProcess, startProcess } from "./process.ts";
import { tempDir } from "./temp-dir.ts";
import { installedServer } from "./tools.ts";

export interface RedisServer extends AsyncDisposable {
  port: number;
  /** `redis://127.0.0.1:port` */
  url: string;
  socketPath: string;
  process: RunningProcess;
  stop(): Promise<void>;
}

/** A Redis that keeps nothing on disk. `port` starts it where an earlier one was (a restart). */
export async function startRedis(options: { port?: number; args?: readonly string[] } = {}): Promise<RedisServer> {
  const folder = await tempDir("redis");
  const port = options.port ?? (await freePort());
  const socketPath = join(folder.path, "redis.sock");
  const server = await startProcess({
    name: "redis-server",
    command: installedServer("redis-server"),
    args: [
      ...["--port", String(port), "--bind", "127.0.0.1", "--unixsocket", socketPath, "--dir", folder.path],
      ...["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", ...(options.args ?? [])],
    ],
    ready: () => answers(port),
  });
  const stop = async (): Promise<void> => {
    await server.stop();
    await folder.remove();
  };
  return { port, url: `redis://127.0.0.1:${port}`, socketPath, process: server, stop, [Symbol.asyncDispose]: stop };
}

/** True when a PING is answered, with a pong or with a demand for a password. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("PING\r\n"));
    socket.on("data", (data) => {
      resolve(/PONG|NOAUTH/.test(data.toString()));
      socket.destroy();
    });
    socket.on("error", () => resolve(false));
  });
}
