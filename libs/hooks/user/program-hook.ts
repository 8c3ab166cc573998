import { spawn } from "node:child_process";
import { basename } from "node:path";
import { TaskFailure } from "@berth/mesos";
import { parseTaskInfo } from "@berth/mesos/task-info";
import { z } from "zod";
import type { UserHook } from "../config.ts";
import type { Hook, HookContext, HookResult, HookTask, Stage, StageFunction } from "../lifecycle.ts";

/** What a user's hook may answer; a program prints it as JSON, or nothing. */
const Answer = z.strictObject({
  state: z.unknown().optional(),
  environment: z.record(z.string().regex(/^[^=\0]+$/), z.string()).optional(),
  task: z.unknown().optional(),
  /** Refuses the task, in words for its owner; only in a start stage. */
  refuse: z.string().optional(),
});

const TIMEOUT_MS = 30_000;
const PRIORITY = 1000;
const MAX_ANSWER_BYTES = 1024 * 1024;
const MAX_COMPLAINT = 500;

/**
 * A hook that is a program. Each stage runs it once with `{stage, task, state}` as JSON on stdin; what it prints is
 * `{state?, environment?, task?, refuse?}`. Exit code 0 is success. It runs in a process group of its own, which is killed whole
 * at the stage's end: a program that forks leaves nothing behind.
 */
export function programHook(entry: UserHook & { exec: string }): Hook {
  const name = entry.name ?? basename(entry.exec);
  const stageFunction =
    (stage: Stage): StageFunction =>
    async (task, context) => {
      const input = JSON.stringify({ stage, task, state: context.state ?? null });
      return resultOf(name, await runProgram([entry.exec, ...entry.args], input, name, context), stage);
    };
  return {
    name,
    priority: entry.priority ?? PRIORITY,
    timeoutMs: entry.timeout ?? TIMEOUT_MS,
    failsTask: entry.failsTask ?? false,
    stages: Object.fromEntries(entry.stages.map((stage) => [stage, stageFunction(stage)])),
    describe: (_task: HookTask) => `run ${entry.exec} in ${entry.stages.join(", ")}`,
  };
}

function resultOf(name: string, output: string, stage: Stage): HookResult | undefined {
  if (output.trim() === "") return undefined;
  let json: unknown;
  try {
    json = JSON.parse(output);
  } catch {
    throw new Error(`hook ${name} printed something that is not JSON; its messages belong on stderr`);
  }
  return checkAnswer(name, json, stage);
}

/** Makes a result of what a user's hook answered. Throws what is wrong with it, or the TaskFailure by which it refuses the task. */
export function checkAnswer(name: string, answer: unknown, stage: Stage): HookResult {
  const parsed = Answer.safeParse(answer);
  if (!parsed.success) throw new Error(`hook ${name} gave an answer that is not understood: ${z.prettifyError(parsed.error)}`);
  const { state, environment, task, refuse } = parsed.data;
  if (refuse !== undefined) throw new TaskFailure(`hook ${name} refuses the task: ${refuse}`);
  if (stage !== "beforeCreate" && (environment !== undefined || task !== undefined)) {
    throw new Error(`hook ${name} answered ${stage} with a task or an environment: only beforeCreate may change them`);
  }
  return {
    ...(state === undefined ? {} : { state }),
    ...(environment === undefined ? {} : { environment }),
    ...(task === undefined ? {} : { task: parseTaskInfo(task) }),
  };
}

function runProgram(argv: readonly string[], input: string, name: string, { signal, log }: HookContext): Promise<string> {
  const [program = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], detached: true, cwd: "/", env: environment() });
    let output = "";
    let complaint = "";
    const kill = (): void => killGroup(child.pid);
    const end = (settle: () => void): void => {
      signal.removeEventListener("abort", kill);
      kill();
      settle();
    };
    if (signal.aborted) kill();
    else signal.addEventListener("abort", kill, { once: true });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.length > MAX_ANSWER_BYTES) kill();
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint = (complaint + text).slice(-MAX_COMPLAINT);
    });
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on("error", () => {});
    child.stdin.end(input);
    child.once("error", (error) => end(() => reject(new Error(`hook ${name} cannot be run: ${error.message}`))));
    child.once("exit", (code, killedBy) => {
      // What it has forked may hold the pipes open: it is killed now, and the pipes end with it.
      kill();
      child.once("close", () =>
        end(() => {
          if (signal.aborted) return reject(signal.reason);
          if (complaint.trim() !== "") log.info({ stderr: complaint.trim() }, "a hook's program wrote to stderr");
          if (code === 0) return resolve(output);
          const how =
            output.length > MAX_ANSWER_BYTES ? "its answer was larger than 1 MiB" : `it ended with ${killedBy ?? `exit code ${code}`}`;
          reject(new Error(`hook ${name} failed: ${how}${complaint.trim() === "" ? "" : `: ${complaint.trim()}`}`));
        }),
      );
    });
  });
}

/** The daemon's own variables hold credentials that a hook has no need of. */
function environment(): Record<string, string> {
  const { PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME = "/", LANG = "C.UTF-8", TZ } = process.env;
  return { PATH, HOME, LANG, ...(TZ === undefined ? {} : { TZ }) };
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody is left in it.
  }
}
