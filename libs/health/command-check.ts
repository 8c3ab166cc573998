import type { CommandInfo } from "@berth/mesos/task-info";
import { asTask, surroundingsOf } from "./as-task.ts";
import { TimedOut } from "./probe-error.ts";
import { killMarked, newMark, spawnGroup } from "./process-group.ts";
import type { HealthParts } from "./types.ts";

/** The longest time limit that a timer can have: for a timeout of 0, which means none. */
const NO_LIMIT_MS = 2 ** 31 - 1;
const MAX_OUTPUT_BYTES = 4096;
/** How long output may trail behind the command's end: a child of its may hold it open. */
const LAST_OUTPUT_MS = 200;

/** The command line of a check. Mesos's docker executor puts `arguments` behind `value`; frameworks often repeat the program in them. */
export function argvOf(command: CommandInfo): string[] {
  const value = command.value ?? "";
  if (command.shell) return ["sh", "-c", value];
  const [first, ...rest] = command.arguments;
  return first === value ? [value, ...rest] : [value, ...command.arguments];
}

function variablesOf(command: CommandInfo): Record<string, string> {
  return Object.fromEntries((command.environment?.variables ?? []).map(({ name, value }) => [name, value ?? ""]));
}

export interface CommandOutcome {
  exitCode: number;
  output: string;
}

/** Runs the command in the task's container. Rejects with {@link TimedOut}; its process is killed then. */
export async function runInContainer(
  exec: HealthParts["exec"],
  container: string,
  command: CommandInfo,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<CommandOutcome> {
  const result = await exec(
    {
      id: container,
      argv: argvOf(command),
      environment: variablesOf(command),
      timeoutMs: timeoutMs > 0 ? timeoutMs : NO_LIMIT_MS,
      maxOutputBytes: MAX_OUTPUT_BYTES,
      ...(command.user === undefined ? {} : { user: command.user }),
    },
    signal,
  );
  if (result.timedOut) throw new TimedOut();
  return { exitCode: result.exitCode ?? 1, output: result.output };
}

/**
 * Runs the command beside a command task: its user, its environment, its working directory, and its namespaces where the agent
 * gave it some of its own. All of that is read from the task's process. The whole process tree is killed when the signal aborts.
 */
export async function runBesideProcess(pid: number, command: CommandInfo, procPath: string, signal: AbortSignal): Promise<CommandOutcome> {
  const surroundings = await surroundingsOf(pid, procPath);
  const mark = newMark();
  const { argv, options } = asTask(surroundings, argvOf(command), { ...variablesOf(command), [mark.name]: mark.value });
  const { child, ended } = spawnGroup(argv, { ...options, stdio: ["ignore", "pipe", "pipe"] }, signal);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-MAX_OUTPUT_BYTES);
    });
  }
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  try {
    const exitCode = await endOf(ended);
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, LAST_OUTPUT_MS).unref())]);
    signal.throwIfAborted();
    return { exitCode, output };
  } finally {
    if (signal.aborted) await killMarked(mark, procPath);
    child.stdout?.destroy();
    child.stderr?.destroy();
  }
}

/** A program that does not exist is the check's failure, with the shell's own exit codes. */
async function endOf(ended: Promise<number>): Promise<number> {
  try {
    return await ended;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return 127;
    if (code === "EACCES") return 126;
    throw error;
  }
}
