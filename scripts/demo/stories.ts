import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { LocalRun, type LocalRunResult } from "@berth/cli/local-run";
import type { TaskInfoInput } from "@berth/mesos/local-agent";
import { freePort } from "@berth/test-harness";

/** What each story of the demo has to work with. */
export interface Stage {
  socket: string;
  workDirectory: string;
  say(line: string): void;
}

/** One task of the demo: runs it, tells what happens, returns what did not go as expected, or undefined. */
export type Story = (stage: Stage) => Promise<string | undefined>;

/** A web server is started, really fetched, and killed. */
export async function webStory(stage: Stage): Promise<string | undefined> {
  const port = await freePort();
  const task = example("web");
  const docker = (task.container as { docker: { port_mappings: Array<{ host_port: number }> } }).docker;
  docker.port_mappings = docker.port_mappings.map((mapping) => ({ ...mapping, host_port: port }));
  let page: Promise<string> | undefined;
  const url = `http://127.0.0.1:${port}/`;
  const { result } = await play(stage, task, (state, run) => {
    if (state !== "TASK_RUNNING" || page !== undefined) return;
    page = fetchPage(url);
    page.then(
      (text) => {
        stage.say(`  GET ${url} → ${text.trim()}`);
        run.kill();
      },
      () => run.kill(),
    );
  });
  const text = await (page ?? Promise.reject(new Error("it never ran"))).catch((error: Error) => error);
  if (text instanceof Error) return `the web server could not be fetched: ${text.message}`;
  if (!text.includes(`port ${port}`)) return `the web server answered something else: ${text}`;
  return result.status.state === "TASK_KILLED" ? undefined : `it ended as ${result.status.state}`;
}

/** A task fails, and its last output is where a person looks for it: in the sandbox and in the status message. */
export async function failingStory(stage: Stage): Promise<string | undefined> {
  const { result } = await play(stage, example("failing"));
  if (result.status.state !== "TASK_FAILED" || result.exitCode !== 3) return `it ended as ${result.status.state} with ${result.exitCode}`;
  const stderr = readFileSync(`${result.sandbox}/stderr`, "utf8");
  return stderr.includes("cannot open /etc/app.conf") ? undefined : "its last output is not in the sandbox";
}

/** A task is killed and uses its grace period. */
export async function gracefulStory(stage: Stage): Promise<string | undefined> {
  const { result } = await play(stage, example("graceful"), (state, run) => {
    if (state === "TASK_RUNNING") run.kill();
  });
  if (result.status.state !== "TASK_KILLED") return `it ended as ${result.status.state}`;
  return result.exitCode === 0 ? undefined : `it exited with ${result.exitCode} instead of 0`;
}

/** A command task: a process, no container. */
export async function commandStory(stage: Stage): Promise<string | undefined> {
  const { result } = await play(stage, example("command"));
  return result.status.state === "TASK_FINISHED" ? undefined : `it ended as ${result.status.state}: ${result.status.message}`;
}

async function play(
  stage: Stage,
  taskInfo: TaskInfoInput,
  onState: (state: string, run: LocalRun) => void = () => {},
): Promise<{ result: LocalRunResult }> {
  const begin = Date.now();
  const handle: { run?: LocalRun } = {};
  const run = await LocalRun.start({
    taskInfo,
    socket: stage.socket,
    workDirectory: stage.workDirectory,
    onState: (status) => {
      const after = `+${((Date.now() - begin) / 1000).toFixed(2)}s`.padStart(8);
      stage.say(`${after}  ${status.state}${status.message === undefined ? "" : `  ${status.message.replaceAll("\n", "\n            ")}`}`);
      if (handle.run !== undefined) onState(status.state, handle.run);
    },
  });
  handle.run = run;
  return { result: await run.result };
}

function example(name: string): TaskInfoInput {
  const task = JSON.parse(
    readFileSync(fileURLToPath(new URL(`../../examples/${name}.task.json`, import.meta.url)), "utf8"),
  ) as TaskInfoInput;
  // A name of its own for each run: containers of a run that was cut short must not be in the way.
  return { ...task, task_id: { value: `${task.task_id.value}-${process.pid}` } };
}

async function fetchPage(url: string): Promise<string> {
  let failure: unknown;
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
      if (response.ok) return await response.text();
      failure = new Error(`HTTP ${response.status}`);
    } catch (error) {
      failure = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw failure;
}
