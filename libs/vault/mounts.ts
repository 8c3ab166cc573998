import { hasKind } from "./errors.ts";
import { encodePath } from "./reference.ts";
import { isRecord } from "./shapes.ts";
import type { VaultAnswer } from "./vault-api.ts";

export type MountKind = "kv1" | "kv2" | "other";

export interface Mount {
  /** With a slash at its end: "secret/". */
  path: string;
  kind: MountKind;
}

/**
 * Which engine serves a path, asked once per mount: sys/internal/ui/mounts/<path> is open to every token that may do anything
 * below the mount, no policy has to be written for it.
 */
export class Mounts {
  readonly #read: (path: string) => Promise<VaultAnswer>;
  readonly #known = new Map<string, Mount>();
  readonly #asking = new Map<string, Promise<Mount>>();

  constructor(read: (path: string) => Promise<VaultAnswer>) {
    this.#read = read;
  }

  async of(path: string): Promise<Mount> {
    for (;;) {
      const known = this.#find(path);
      if (known !== undefined) return known;
      // Mounts may be several parts long; whoever shares the first part waits for the one question and looks again.
      const first = path.split("/", 1)[0] as string;
      const asking = this.#asking.get(first);
      if (asking !== undefined) {
        await asking;
        continue;
      }
      const question = this.#ask(path).finally(() => this.#asking.delete(first));
      this.#asking.set(first, question);
      return question;
    }
  }

  /** What is known may be outdated: the next path is asked for again. */
  forget(): void {
    this.#known.clear();
  }

  #find(path: string): Mount | undefined {
    const parts = path.split("/");
    for (let length = parts.length - 1; length > 0; length--) {
      const mount = this.#known.get(`${parts.slice(0, length).join("/")}/`);
      if (mount !== undefined) return mount;
    }
    return undefined;
  }

  async #ask(path: string): Promise<Mount> {
    const assumed: Mount = { path: `${path.split("/", 1)[0]}/`, kind: "other" };
    try {
      const { data } = await this.#read(`sys/internal/ui/mounts/${encodePath(path)}`);
      const mount = mountFrom(data);
      if (mount === undefined || !path.startsWith(mount.path)) return assumed;
      this.#known.set(mount.path, mount);
      return mount;
    } catch (error) {
      // An old server does not have the question, a token without any right below the mount may not ask it: the read itself will tell.
      if (hasKind(error, "missing") || hasKind(error, "denied") || hasKind(error, "rejected")) return assumed;
      throw error;
    }
  }
}

function mountFrom(data: Record<string, unknown>): Mount | undefined {
  if (typeof data.path !== "string" || !data.path.endsWith("/")) return undefined;
  if (data.type !== "kv" && data.type !== "generic") return { path: data.path, kind: "other" };
  const version = isRecord(data.options) ? data.options.version : undefined;
  return { path: data.path, kind: version === "2" || version === 2 ? "kv2" : "kv1" };
}
