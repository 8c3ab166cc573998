import type { ChildProcess } from "node:child_process";
import { constants as access, accessSync, existsSync } from "node:fs";
import type { Readable } from "node:stream";
import type { ChildHandlers, Spawned, SpawnOptions } from "../core/host.ts";
import { visitCgroups } from "./visit-cgroups.ts";

/** Runs a program with the parent-death signal set: when the worker is killed, the kernel kills the child. */
const SETPRIV = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));
/** How long the rest of a child's output may take to arrive after its end, milliseconds. */
const DRAIN_OUTPUT_MS = 250;
/** Runs a program with further variables. */
const ENV = ["/usr/bin/env", "/bin/env"].find((path) => existsSync(path));
/**
 * What makes the dynamic linker or the C library load code or write files, before a program's first line. The task decides them,
 * so nothing may heed them before it has the rights of the task's user only.
 */
const LOADER_VARIABLE = /^(?:LD_|GCONV_PATH$|GLIBC_TUNABLES$|LOCPATH$|NLSPATH$|MALLOC_TRACE$)/;
const PRLIMIT = ["/usr/bin/prlimit", "/bin/prlimit"].find((path) => existsSync(path));

/** The output of the children that run, and whether it is read at the moment. */
export interface ChildOutputs {
  pipes: Set<Readable>;
  read: boolean;
}

/**
 * Starts a child in a session of its own. Node has no hook between fork and exec, so what must be done there (limits, ids,
 * parent-death signal) is done by small standard programs that execute the next one in their place: the pid stays. Its pipes are in
 * `outputs` while it runs.
 */
export function spawnChild(options: SpawnOptions, handlers: ChildHandlers, outputs: ChildOutputs): Spawned | string {
  const missing = findProgram(options);
  if (missing !== undefined) return missing;
  const [program = "", ...args] = [...wrappers(options), ...options.argv];
  const { result: child, joined } = visitCgroups(options.cgroups ?? [], () => start(program, args, options));
  if (typeof child === "string") return child;
  if (child.pid === undefined) {
    child.on("error", () => {});
    return "the process could not be started";
  }
  child.on("error", () => {});
  child.stdout?.on("data", (bytes: Buffer) => handlers.output("stdout", new Uint8Array(bytes)));
  child.stderr?.on("data", (bytes: Buffer) => handlers.output("stderr", new Uint8Array(bytes)));
  const pipes = [child.stdout, child.stderr].filter((pipe) => pipe !== null);
  for (const pipe of pipes) {
    outputs.pipes.add(pipe);
    if (!outputs.read) pipe.pause();
  }
  // `close` waits for the pipes, so that no output is missed; but a background grandchild may hold them open for ever.
  child.once("exit", (code, signal) => {
    for (const pipe of pipes) {
      outputs.pipes.delete(pipe);
      pipe.resume();
    }
    let told = false;
    const tell = (): void => {
      clearTimeout(patience);
      if (!told)
        handlers.exit(
          signal === null ? code : null,
          signal === null ? null : process.getBuiltinModule("node:os").constants.signals[signal],
        );
      told = true;
    };
    const patience = setTimeout(tell, DRAIN_OUTPUT_MS);
    child.once("close", tell);
  });
  return { pid: child.pid, joined };
}

/** Node throws where the arguments are too long (E2BIG) or hold a NUL. */
function start(program: string, args: readonly string[], options: SpawnOptions): ChildProcess | string {
  const { directory, output } = options;
  const held = new Set(heldBack(options));
  const environment = Object.fromEntries(Object.entries(options.environment).filter(([name]) => !held.has(name)));
  const stdio = output === "pipe" ? "pipe" : "inherit";
  try {
    const { spawn } = process.getBuiltinModule("node:child_process");
    return spawn(program, args, { cwd: directory, env: environment, detached: true, stdio: ["ignore", stdio, stdio] });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === "E2BIG" ? "E2BIG" : `EINVAL: ${message}`;
  }
}

/** Variables that only the task's own program is to see. */
function heldBack({ environment, user }: SpawnOptions): string[] {
  return changesUser(user) ? Object.keys(environment).filter((name) => LOADER_VARIABLE.test(name)) : [];
}

function wrappers(options: SpawnOptions): string[] {
  const { environment, user, rlimits = [] } = options;
  const before: string[] = [];
  if (rlimits.length > 0 && PRLIMIT !== undefined) {
    before.push(PRLIMIT, ...rlimits.map(({ type, soft, hard }) => `--${limitName(type)}=${soft ?? "unlimited"}:${hard ?? "unlimited"}`));
  }
  if (SETPRIV !== undefined) {
    before.push(SETPRIV, "--pdeathsig", "KILL");
    if (user !== undefined && changesUser(user)) {
      before.push("--reuid", String(user.uid), "--regid", String(user.gid));
      if (user.groups.length === 0) before.push("--clear-groups");
      else before.push("--groups", user.groups.join(","));
    }
    before.push("--");
  }
  const held = heldBack(options);
  if (held.length > 0 && ENV !== undefined) before.push(ENV, ...held.map((name) => `${name}=${environment[name]}`));
  return before;
}

/** RLMT_NOFILE → nofile. */
function limitName(type: string): string {
  return type.replace(/^RLMT_/, "").toLowerCase();
}

/** What would fail only behind a wrapper, where nobody could tell it from the program's own failure. */
function findProgram({ argv, environment, directory, user, rlimits = [] }: SpawnOptions): string | undefined {
  const program = argv[0] ?? "";
  if (!existsSync(directory)) return `ENOENT: the directory ${directory} does not exist`;
  if (rlimits.length > 0 && PRLIMIT === undefined) return "resource limits need the program prlimit (package util-linux)";
  if (changesUser(user) && SETPRIV === undefined) return "changing the user needs the program setpriv (package util-linux)";
  if (changesUser(user) && process.getuid?.() !== 0) return `EPERM: changing the user to ${user?.uid} needs a worker that runs as root`;
  if (program.includes("/")) {
    const path = program.startsWith("/") ? program : `${directory}/${program}`;
    if (!existsSync(path)) return `ENOENT: ${program} does not exist`;
    return isExecutable(path) ? undefined : `EACCES: ${program} is not executable`;
  }
  const path = environment.PATH ?? "/usr/local/bin:/usr/bin:/bin";
  return path.split(":").some((folder) => existsSync(`${folder}/${program}`)) ? undefined : `ENOENT: ${program} is in no directory of PATH`;
}

/** The agent starts the worker as the framework's user where it may: then the task's user is ours already. */
function changesUser(user: SpawnOptions["user"]): boolean {
  return user !== undefined && !(process.getuid?.() === user.uid && user.uid !== 0);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, access.X_OK);
    return true;
  } catch {
    return false;
  }
}
