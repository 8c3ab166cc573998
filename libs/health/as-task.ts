import type { SpawnOptions } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, readlink } from "node:fs/promises";
import { Unable } from "./probe-error.ts";

/** What a program needs to be given to run as a task's process does. */
export interface Surroundings {
  uid: number;
  gid: number;
  groups: number[];
  directory: string;
  environment: Record<string, string>;
  /** Flags of nsenter for the task's namespaces; empty where it has none of its own. */
  namespaces: string[];
}

/**
 * What makes the dynamic linker or the C library load code or write files, before a program's first line; the C library itself
 * drops these for setuid programs. The task decides them, so nothing may heed them before it has the task's rights only.
 */
const LOADER_VARIABLE = /^(?:LD_|GCONV_PATH$|GLIBC_TUNABLES$|LOCPATH$|NLSPATH$|MALLOC_TRACE$)/;
const NAMESPACES = ["mnt", "net", "pid", "ipc", "uts"];

/** Reads what a task's process runs with. Rejects when it is gone. */
export async function surroundingsOf(pid: number, procPath: string): Promise<Surroundings> {
  const own = `${procPath}/${pid}`;
  const [status, environ, directory, namespaces] = await Promise.all([
    readFile(`${own}/status`, "utf8"),
    readFile(`${own}/environ`, "utf8"),
    readlink(`${own}/cwd`),
    namespacesOf(own),
  ]);
  const numbers = (field: string): number[] =>
    (new RegExp(`^${field}:(.*)$`, "m").exec(status)?.[1] ?? "").trim().split(/\s+/).filter(Boolean).map(Number);
  const environment: Record<string, string> = {};
  for (const entry of environ.split("\0")) {
    const equals = entry.indexOf("=");
    if (equals > 0) environment[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  // The effective ids.
  const [uid = Number.NaN, gid = Number.NaN] = [numbers("Uid")[1], numbers("Gid")[1]];
  return { uid, gid, groups: numbers("Groups"), directory, environment, namespaces };
}

async function namespacesOf(own: string): Promise<string[]> {
  const flags: string[] = [];
  for (const name of NAMESPACES) {
    const [its, ours] = await Promise.all([readlink(`${own}/ns/${name}`), readlink(`/proc/self/ns/${name}`)]);
    if (its !== ours) flags.push(`--${name === "mnt" ? "mount" : name}=${own}/ns/${name}`);
  }
  return flags.length === 0 ? [] : [...flags, `--wd=${own}/cwd`];
}

/** How a command is started so that it runs as the task's process does, with these variables beside the task's own. */
export function asTask(
  { uid, gid, groups, directory, environment, namespaces }: Surroundings,
  command: readonly string[],
  variables: Readonly<Record<string, string>>,
): { argv: string[]; options: Pick<SpawnOptions, "cwd" | "env" | "uid" | "gid"> } {
  const whole = { ...environment, ...variables };
  if (namespaces.length > 0) {
    // With --setuid nsenter takes all further groups away. A program of the task's own root could give them back, but runs too early.
    const enter = [programOf("nsenter"), ...namespaces, `--setuid=${uid}`, `--setgid=${gid}`, "--"];
    return { argv: [...enter, ...withLoader(whole, command)], options: { cwd: "/", env: withoutLoader(whole) } };
  }
  if (uid === process.getuid?.()) return { argv: [...command], options: { cwd: directory, env: whole } };
  if (groups.every((group) => group === gid)) return { argv: [...command], options: { cwd: directory, env: whole, uid, gid } };
  const become = [programOf("setpriv"), `--reuid=${uid}`, `--regid=${gid}`, `--groups=${groups.join(",")}`, "--"];
  return { argv: [...become, ...withLoader(whole, command)], options: { cwd: directory, env: withoutLoader(whole) } };
}

function withoutLoader(environment: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !LOADER_VARIABLE.test(name)));
}

/** Has the command's own process set what its predecessors must not see. */
function withLoader(environment: Readonly<Record<string, string>>, command: readonly string[]): string[] {
  const held = Object.entries(environment).filter(([name]) => LOADER_VARIABLE.test(name));
  return held.length === 0 ? [...command] : ["env", ...held.map(([name, value]) => `${name}=${value}`), ...command];
}

/** The host's program, by the daemon's PATH: by the task's, it would be the task's. */
function programOf(name: string): string {
  const folders = `${process.env.PATH ?? ""}:/usr/local/bin:/usr/bin:/bin`.split(":");
  const found = folders.filter((folder) => folder.startsWith("/")).find((folder) => existsSync(`${folder}/${name}`));
  if (found === undefined) throw new Unable(`a check beside the task needs ${name} (util-linux) on the host`);
  return `${found}/${name}`;
}
