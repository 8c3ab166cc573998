import { type ExecFileException, execFile } from "node:child_process";
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

/** Exit code of getent for a name that is not there; `id` has 1. */
const NO_SUCH_KEY = 2;

/**
 * Ids of a user by name, with all groups, through `getent` and `id`, which ask whatever the host's name service is. Throws a
 * TaskFailure when there is no such user, and any other error when the name service did not tell: then it is worth another attempt.
 */
export async function lookUpUser(name: string, timeoutMs: number = LOOKUP_TIMEOUT_MS): Promise<UserIds> {
  const options = { timeout: timeoutMs };
  try {
    const { stdout } = await run("getent", ["passwd", "--", name], options);
    const [, , uid, gid] = stdout.trim().split(":");
    const { stdout: groups } = await run("id", ["-G", "--", name], options);
    return { uid: Number(uid), gid: Number(gid), groups: groups.trim().split(" ").map(Number) };
  } catch (error) {
    const { code, killed } = error as ExecFileException;
    if (code === NO_SUCH_KEY || (code === 1 && !killed)) {
      throw new TaskFailure(`the task's user "${name}" does not exist on this host; create it, or change command.user`, { cause: error });
    }
    if (code === "ENOENT") throw new TaskFailure("command.user needs the programs getent and id on this host", { cause: error });
    const why = killed ? `it did not answer within ${timeoutMs / 1000} s` : `getent or id ended with ${code}`;
    throw new Error(`the host's name service does not tell of the task's user "${name}": ${why}`, { cause: error });
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
