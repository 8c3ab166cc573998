import { execFile } from "node:child_process";
import { statSync } from "node:fs";
import { promisify } from "node:util";
import { TaskFailure } from "@berth/mesos";
import { lifeOf, type ProcessIdentity } from "../executor/process-life.ts";

const run = promisify(execFile);
const LOOKUP_TIMEOUT_MS = 5000;

export interface UserIds {
  uid: number;
  gid: number;
  groups: number[];
}

/**
 * Ids of a user by name, with all groups, through `getent` and `id`, which ask whatever the host's name service is. Throws a
 * TaskFailure when there is no such user.
 */
export async function lookUpUser(name: string): Promise<UserIds> {
  const options = { timeout: LOOKUP_TIMEOUT_MS };
  try {
    const { stdout } = await run("getent", ["passwd", "--", name], options);
    const [, , uid, gid] = stdout.trim().split(":");
    const { stdout: groups } = await run("id", ["-G", "--", name], options);
    return { uid: Number(uid), gid: Number(gid), groups: groups.trim().split(" ").map(Number) };
  } catch (error) {
    throw new TaskFailure(`the task's user "${name}" does not exist on this host; create it, or change command.user`, { cause: error });
  }
}

/** The user that a living process of this pid namespace runs as; undefined where that cannot be told. */
export function userOf(process: ProcessIdentity): number | undefined {
  try {
    return lifeOf(process) === "alive" ? statSync(`/proc/${process.pid}`).uid : undefined;
  } catch {
    return undefined;
  }
}
