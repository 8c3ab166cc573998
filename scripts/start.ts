// npm start: Berth on this machine, with nothing but Docker: berthd, a local Mesos agent, real workers, and the tasks of
// examples/. With --once it ends when they are through, with 0 if all went as expected; else it stays for a look around.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import { findEngine } from "./demo/engine.ts";
import { commandStory, failingStory, gracefulStory, type Stage, type Story, webStory } from "./demo/stories.ts";

const once = process.argv.includes("--once");
const say = (line = ""): void => void process.stdout.write(`${line}\n`);

process.exitCode = await main();

async function main(): Promise<number> {
  const interrupted = new Promise<void>((resolve) => process.once("SIGINT", resolve).once("SIGTERM", resolve));
  const directory = await mkdtemp(join(tmpdir(), "berth-"));
  const engine = await findEngine(say);
  const environment: Record<string, string> = typeof engine === "string" ? {} : { DOCKER_HOST: engine.host };
  const logFile = join(directory, "berthd.log");
  const supervisor = await LocalSupervisor.start({ directory, environment, logFile });
  try {
    say(`berthd serves ${supervisor.socket} (pid ${supervisor.pid}, log ${logFile}).`);
    const stage: Stage = { socket: supervisor.socket, workDirectory: join(directory, "agent"), say };
    const failures = await playAll(stage, typeof engine === "string" ? engine : undefined);
    if (!once) {
      say();
      say("berthd keeps running. Try, in another terminal:");
      say(`  export BERTH_SOCKET=${supervisor.socket}`);
      say("  bin/berth run examples/graceful.task.json     then: bin/berth ps, bin/berth events, Ctrl-C");
      say("Ctrl-C here ends the demo.");
      await interrupted;
    }
    return failures;
  } finally {
    await supervisor.stop();
    if (typeof engine !== "string") await engine.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function playAll(stage: Stage, withoutDocker: string | undefined): Promise<number> {
  const stories: Array<[title: string, needsDocker: boolean, story: Story]> = [
    ["A web server with a published port, fetched and then killed", true, webStory],
    ["A task that fails, and what it said last", true, failingStory],
    ["A task that is killed and uses its grace period", true, gracefulStory],
    ["A command task: a process, no container", false, commandStory],
  ];
  let failures = 0;
  if (withoutDocker !== undefined) say(`Skipping the three container tasks: ${withoutDocker}.`);
  for (const [title, needsDocker, story] of stories) {
    if (needsDocker && withoutDocker !== undefined) continue;
    say();
    say(title);
    const problem = await story(stage).catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
    say(problem === undefined ? "          as expected" : `          NOT as expected: ${problem}`);
    if (problem !== undefined) failures = 1;
  }
  return failures;
}
