import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ObservedStatus, TaskInfoInput } from "@berth/mesos/local-agent";
import { type Command, InvalidArgumentError } from "commander";
import { AdminClient } from "../admin-client.ts";
import { readJsonFile } from "../json-file.ts";
import { LocalRun, type LocalRunResult } from "../local-run.ts";
import { LocalSupervisor } from "../local-supervisor.ts";
import { clock } from "../output.ts";
import { adminSocket } from "./operator.ts";

interface RunOptions {
  env: Record<string, string>;
  keepSandbox?: boolean;
}

/** Exit code of `berth run` for a task that ended without one of its own: refused, never started, vanished. */
const NO_EXIT_CODE = 125;

/** `berth run <file>`: one TaskInfo through the local agent and a real worker, without Mesos. */
export function addRunCommand(cli: Command): void {
  cli
    .command("run <file>")
    .description(
      "run one TaskInfo (JSON) on this host as Mesos would: show its states and output, end with its exit code; Ctrl-C kills it gracefully",
    )
    .option("-e, --env <name=value>", "add a variable to the executor's environment (repeatable)", collect, {})
    .option("--keep-sandbox", "leave the sandbox behind")
    .action(async (file: string, options: RunOptions) => {
      const taskInfo = await readTaskInfo(file);
      const directory = await mkdtemp(join(tmpdir(), "berth-run-"));
      let supervisor: { socket: string; stop(): Promise<void> } | undefined;
      try {
        supervisor = await supervisorFor(cli.opts<{ socket?: string }>().socket, directory);
        const result = await run(taskInfo, supervisor.socket, join(directory, "agent"), options.env);
        process.exitCode = result.exitCode ?? (result.status.state === "TASK_FINISHED" ? 0 : NO_EXIT_CODE);
        if (options.keepSandbox === true) process.stderr.write(`berth: the sandbox is ${result.sandbox}\n`);
      } finally {
        await supervisor?.stop();
        if (options.keepSandbox !== true) await rm(directory, { recursive: true, force: true });
      }
    });
}

async function run(
  taskInfo: TaskInfoInput,
  socket: string,
  workDirectory: string,
  environment: Record<string, string>,
): Promise<LocalRunResult> {
  const local = await LocalRun.start({
    taskInfo,
    socket,
    workDirectory,
    environment: { EXECUTOR_CONTAINER_LOGS_STDOUT: "true", ...environment },
    onState: (status) => process.stderr.write(describe(status)),
    onOutput: (stream, text) => (stream === "stdout" ? process.stdout : process.stderr).write(text),
  });
  let interrupts = 0;
  const interrupt = (): void => {
    interrupts += 1;
    process.stderr.write(interrupts === 1 ? "berth: stopping the task; Ctrl-C again kills it at once\n" : "berth: killing the task\n");
    local.kill(interrupts === 1 ? undefined : 0);
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  try {
    return await local.result;
  } finally {
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
  }
}

/** The supervisor that serves the socket, or a private one for this run where none does. */
async function supervisorFor(socket: string | undefined, directory: string): Promise<{ socket: string; stop(): Promise<void> }> {
  const path = socket ?? process.env.BERTH_SOCKET ?? "/run/berth/berthd.sock";
  if (existsSync(path)) {
    await new AdminClient(adminSocket(path)).call("GET", "/healthz");
    return { socket: path, stop: async () => {} };
  }
  const logFile = join(directory, "berthd.log");
  process.stderr.write(`berth: no supervisor serves ${path}; starting one for this run\n`);
  const start = (): Promise<LocalSupervisor> => LocalSupervisor.start({ directory, logFile });
  return keepRunning(await start(), start);
}

/** As a service manager would, starts another berthd in the place of one that ended before it was stopped: its task still needs one. */
function keepRunning(first: LocalSupervisor, start: () => Promise<LocalSupervisor>): { socket: string; stop(): Promise<void> } {
  let stopped = false;
  let current = Promise.resolve(first);
  const watch = async (supervisor: LocalSupervisor): Promise<void> => {
    await supervisor.exited;
    if (stopped) return;
    process.stderr.write(`berth: ${supervisor.ending}; starting another\n`);
    current = start();
    await watch(await current);
  };
  watch(first).catch((error: Error) => process.stderr.write(`berth: ${error.message}\n`));
  return {
    socket: first.socket,
    stop: async () => {
      stopped = true;
      await (await current.catch(() => undefined))?.stop();
    },
  };
}

async function readTaskInfo(file: string): Promise<TaskInfoInput> {
  const json = await readJsonFile(file);
  const task = json as Partial<TaskInfoInput>;
  if (typeof task?.task_id?.value !== "string") throw new InvalidArgumentError(`${file} is no TaskInfo: task_id.value is missing`);
  return task as TaskInfoInput;
}

function describe(status: ObservedStatus): string {
  const health = status.healthy === undefined ? "" : status.healthy ? " (healthy)" : " (unhealthy)";
  return `${clock(status.timestamp * 1000)}  ${status.state}${health}${status.message === undefined ? "" : `  ${status.message}`}\n`;
}

function collect(assignment: string, before: Record<string, string>): Record<string, string> {
  const equals = assignment.indexOf("=");
  if (equals < 1) throw new InvalidArgumentError("a variable is written NAME=value");
  return { ...before, [assignment.slice(0, equals)]: assignment.slice(equals + 1) };
}
