import { lstatSync, readFileSync } from "node:fs";
import { chmod, chown, mkdir, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";
import { dirname } from "node:path";

/** Where a listening socket comes from: made by systemd before this process, or to be made at a path. */
export type SocketSource = { kind: "inherited"; fd: number } | { kind: "path"; path: string };

/** First descriptor that systemd passes (sd_listen_fds(3)). */
const FIRST_INHERITED_FD = 3;
/** The size of sun_path, less its final zero: unix(7). */
const MAX_PATH_BYTES = 107;

/**
 * The sockets for workers and for admin: from systemd's socket unit where it passed them (by name or, without names, in this
 * order), else at their paths. Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES.
 */
export function socketSources(
  environment: Readonly<Record<string, string | undefined>>,
  paths: { workers: string; admin: string },
  pid: number = process.pid,
): { workers: SocketSource; admin: SocketSource } {
  const count = environment.LISTEN_PID === String(pid) ? Number(environment.LISTEN_FDS ?? 0) : 0;
  const names = (environment.LISTEN_FDNAMES ?? "").split(":");
  const source = (name: string, index: number, path: string): SocketSource => {
    const named = names.indexOf(name);
    const position = named >= 0 ? named : index;
    return position < count ? { kind: "inherited", fd: FIRST_INHERITED_FD + position } : { kind: "path", path };
  };
  return { workers: source("workers", 0, paths.workers), admin: source("admin", 1, paths.admin) };
}

/**
 * Lets a server listen. At a path: a socket file that nobody serves any more is replaced, one that is served is an error (two
 * supervisors would fight over the same containers); the file gets mode 0660 and, where it exists, the group `berth`.
 */
export async function listen(server: Server, source: SocketSource, groupId: number | undefined): Promise<void> {
  if (source.kind === "inherited") return await listening(server, () => server.listen({ fd: source.fd }));
  if (Buffer.byteLength(source.path) > MAX_PATH_BYTES)
    throw new Error(`the socket path ${source.path} is too long: a unix socket's path has at most ${MAX_PATH_BYTES} bytes`);
  await mkdir(dirname(source.path), { recursive: true, mode: 0o755 });
  await freePath(source.path);
  // Access to this socket is access to Docker as root: the file must never be open to others, not even for a moment.
  const before = process.umask(0o177);
  try {
    await listening(server, () => server.listen(source.path));
  } finally {
    process.umask(before);
  }
  if (groupId !== undefined) await chown(source.path, -1, groupId).catch(() => {});
  await chmod(source.path, 0o660);
}

/** Takes a socket file away that nobody serves any more, and nothing else: a path may be mistyped. */
async function freePath(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new Error(`${path} is there already and is no socket; remove it, or set BERTH_SOCKET to another path`);
  if (await isServed(path))
    throw new Error(`another supervisor already serves ${path}; stop it first, or set BERTH_SOCKET to another path`);
  await unlink(path);
}

function listening(server: Server, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.off("error", reject);
      resolve();
    });
    start();
  });
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    // Only a refusal says that nobody listens: a server that is busy (EAGAIN) or not ours to open (EACCES) is one.
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"));
  });
}

/** The id of the group `berth`, whose members may use the sockets; undefined where the host has none. */
export function berthGroupId(groupFile = "/etc/group"): number | undefined {
  try {
    const line = readFileSync(groupFile, "utf8")
      .split("\n")
      .find((entry) => entry.startsWith("berth:"));
    return line === undefined ? undefined : Number(line.split(":")[2]);
  } catch {
    return undefined;
  }
}
