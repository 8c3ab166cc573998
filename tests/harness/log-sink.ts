import { readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import { type RunningProcess, startProcess } from "./process.ts";
import { tempDir } from "./temp-dir.ts";
import { installedServer } from "./tools.ts";

/** One event as the sink parsed it. */
export interface SunkEvent {
  input: "imtcp" | "imudp";
  from: string;
  event: Record<string, unknown>;
}

export interface LogSink extends AsyncDisposable {
  /** Takes JSON lines over TCP and JSON datagrams over UDP on 127.0.0.1. */
  port: number;
  process: RunningProcess;
  /** What arrived and parsed as JSON, in order of arrival. */
  events(): Promise<SunkEvent[]>;
  /** What arrived and is no JSON. */
  bad(): Promise<string[]>;
  stop(): Promise<void>;
}

/** rsyslog as a real consumer of log lines. */
export async function startLogSink(options: { port?: number } = {}): Promise<LogSink> {
  const folder = await tempDir("sink");
  const port = options.port ?? (await freePort());
  const template = await readFile(new URL("../servers/rsyslog/logsink.conf.in", import.meta.url), "utf8");
  const config = join(folder.path, "logsink.conf");
  await writeFile(config, template.replaceAll("@DIR@", folder.path).replaceAll("@PORT@", String(port)));
  const server = await startProcess({
    name: "rsyslogd",
    command: installedServer("rsyslogd"),
    args: ["-n", "-iNONE", "-f", config],
    ready: () => accepts(port),
  });
  const lines = async (name: string): Promise<string[]> => {
    const text = await readFile(join(folder.path, name), "utf8").catch(() => "");
    // The last line may still be under way.
    return text
      .slice(0, text.lastIndexOf("\n") + 1)
      .split("\n")
      .filter((line) => line !== "");
  };
  const stop = async (): Promise<void> => {
    await server.stop();
    await folder.remove();
  };
  return {
    port,
    process: server,
    events: async () => (await lines("events.jsonl")).map((line) => JSON.parse(line) as SunkEvent),
    bad: () => lines("bad.log"),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
