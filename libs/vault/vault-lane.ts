import { EventEmitter } from "node:events";
import { Lane, LaneLostError } from "@berth/lane";
import type { SecretRegistry } from "@berth/redact";
import { withSignal } from "./availability.ts";
import { zeroCounters } from "./counters.ts";
import { parseLeaseRecord } from "./leases.ts";
import { hasReference } from "./reference.ts";
import type { VaultSettings } from "./settings.ts";
import type {
  AwsCredentials,
  AwsRequest,
  LeaseLost,
  LeaseRecord,
  Resolution,
  ResolvedSecret,
  ResolveRequest,
  ThreadLogLine,
  VaultCounters,
  VaultLog,
  VaultStatus,
  Waiting,
} from "./types.ts";

/** What the Vault thread answers to. */
export interface VaultThreadMethods {
  resolveEnvironment(request: ResolveRequest): Promise<Resolution>;
  awsCredentials(request: AwsRequest): Promise<AwsCredentials>;
  adopt(request: { taskKey: string; leases: LeaseRecord[] }): void;
  release(request: { taskKey: string }): Promise<void>;
  revokeLease(request: { leaseId: string }): Promise<void>;
  status(request: undefined): Promise<VaultStatus>;
}

export interface VaultLaneOptions {
  settings: VaultSettings;
  log: VaultLog;
  /** Learns every value that comes out of Vault, and every token and password that goes in. */
  secrets: SecretRegistry;
  /** Heap limit of the thread in MiB. */
  maxHeapMb?: number;
}

export interface VaultLaneEvents {
  /** The task must be ended before its credentials stop working. */
  leaseLost: [LeaseLost];
  /** The task's leases have new ends: what a checkpoint keeps of them. */
  leases: [{ taskKey: string; leases: LeaseRecord[] }];
  waiting: [Waiting];
}

interface TaskEntry {
  leases: LeaseRecord[];
}

/** The registry's holder for the daemon's own credentials. */
const OWN = "vault";
/** A thread that dies while it works on a call gets the call again this often. */
const SENDS = 3;

/**
 * The supervisor's door to Vault: one thread that owns the token, started when the first task needs it.
 *
 * INVARIANTS: no call but `release` and `close` outlives its signal; a hanging Vault blocks only the calls that need it;
 * values are in the redaction registry before a caller sees them, and leave it with `release`.
 */
export class VaultLane extends EventEmitter<VaultLaneEvents> {
  readonly #options: VaultLaneOptions;
  readonly #tasks = new Map<string, TaskEntry>();
  readonly #waiting = new Map<string, Set<(waiting: Waiting) => void>>();
  #lane: Lane<VaultThreadMethods> | undefined;
  #closed = false;

  private constructor(options: VaultLaneOptions) {
    super();
    this.#options = options;
    const { settings, secrets } = options;
    const own: Array<[string | undefined, string]> = [
      [settings.token, "VAULT_TOKEN"],
      [inlineValue(settings.userpass?.password), "VAULT_PASSWORD"],
      [inlineValue(settings.appRole?.secretId), "VAULT_SECRET_ID"],
      [passwordOf(settings.fleet?.redisUrl), "REDIS_URL"],
    ];
    for (const [value, source] of own) if (value !== undefined) secrets.add(value, source, { holder: OWN });
  }

  static open(options: VaultLaneOptions): VaultLane {
    return new VaultLane(options);
  }

  /**
   * Replaces every `vault://` value. Waits for a Vault that is down or sealed up to the setting's limit, telling `onWaiting` why;
   * throws a TaskFailure that names variable, path and cause. An environment without a reference is answered at once, without Vault.
   */
  async resolveEnvironment(
    request: ResolveRequest & { signal?: AbortSignal; onWaiting?: (waiting: Waiting) => void },
  ): Promise<Resolution> {
    const { taskKey, environment, signal, onWaiting } = request;
    if (!hasReference(environment)) return { environment: { ...environment }, secrets: [], leases: [] };
    this.#entry(taskKey);
    const resolution = await this.#waitingTask(taskKey, onWaiting, () =>
      this.#call("resolveEnvironment", { taskKey, environment: { ...environment } }, signal),
    );
    this.#keep(taskKey, resolution);
    return resolution;
  }

  /** AWS credentials of the task's own, renewed until `release`. Waits and fails like `resolveEnvironment`. */
  async awsCredentials(request: AwsRequest & { signal?: AbortSignal; onWaiting?: (waiting: Waiting) => void }): Promise<AwsCredentials> {
    const { taskKey, role, ttlMs, signal, onWaiting } = request;
    this.#entry(taskKey);
    const credentials = await this.#waitingTask(taskKey, onWaiting, () => this.#call("awsCredentials", { taskKey, role, ttlMs }, signal));
    this.#keep(taskKey, credentials);
    return credentials;
  }

  /** Takes up the leases of a task that an earlier supervisor launched: the `LeaseRecord`s of its checkpoint. */
  async adopt(taskKey: string, records: readonly unknown[]): Promise<void> {
    const leases = records.map(parseLeaseRecord).filter((record) => record !== undefined);
    if (leases.length < records.length)
      this.#options.log.warn({ taskKey, records: records.length, leases: leases.length }, "a lease record cannot be read");
    if (leases.length === 0) return;
    this.#entry(taskKey).leases = leases;
    await this.#call("adopt", { taskKey, leases });
  }

  /** The task is over: revokes its leases (goes on trying in the background where Vault is away) and forgets its secrets. */
  async release(taskKey: string): Promise<void> {
    const entry = this.#tasks.get(taskKey);
    this.#tasks.delete(taskKey);
    this.#options.secrets.release(holderOf(taskKey));
    // A call that was given up may have leased something after all, so the thread is asked whatever we know.
    if (entry === undefined || this.#lane === undefined) return;
    await this.#call("release", { taskKey });
  }

  /** For the reaper, which knows of a lease only from a container's label. */
  async revokeLease(leaseId: string): Promise<void> {
    await this.#call("revokeLease", { leaseId });
  }

  /** For metrics: never starts the thread. Counting starts anew when the thread had to be replaced. */
  async counters(): Promise<VaultCounters> {
    return this.#lane === undefined ? zeroCounters() : (await this.status()).counters;
  }

  async status(): Promise<VaultStatus> {
    return this.#options.secrets.maskDeep(await this.#call("status", undefined));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#lane?.close();
    for (const taskKey of this.#tasks.keys()) this.#options.secrets.release(holderOf(taskKey));
    this.#options.secrets.release(OWN);
  }

  async #call<Name extends keyof VaultThreadMethods>(
    method: Name,
    argument: Parameters<VaultThreadMethods[Name]>[0],
    signal?: AbortSignal,
  ): Promise<Awaited<ReturnType<VaultThreadMethods[Name]>>> {
    for (let send = 1; ; send++) {
      try {
        const answer = this.#open().call(method, argument as never, signal) as Promise<Awaited<ReturnType<VaultThreadMethods[Name]>>>;
        return await (signal === undefined ? answer : withSignal(answer, signal));
      } catch (error) {
        signal?.throwIfAborted();
        const lost = error instanceof LaneLostError && !this.#closed && send < SENDS;
        // A server's own words may repeat anything that was ever sent to it.
        if (!lost) throw this.#options.secrets.maskDeep(error);
      }
    }
  }

  #open(): Lane<VaultThreadMethods> {
    if (this.#lane !== undefined) return this.#lane;
    if (this.#closed) throw new LaneLostError("the vault lane is closed");
    const { settings, log, secrets, maxHeapMb } = this.#options;
    const lane = new Lane<VaultThreadMethods>({
      name: "vault",
      entry: new URL("./vault.thread.ts", import.meta.url),
      start: settings,
      log,
      ...(maxHeapMb === undefined ? {} : { maxHeapMb }),
    });
    lane.on("log", (line: ThreadLogLine) => log[line.level](line.fields, line.message));
    lane.on("sensitive", ({ value, source }: { value: string; source: string }) => secrets.add(value, source, { holder: OWN }));
    lane.on("waiting", (waiting: Waiting) => this.#tellWaiting(secrets.maskDeep(waiting)));
    lane.on("leaseLost", (lost: LeaseLost) => this.emit("leaseLost", secrets.maskDeep(lost)));
    lane.on("leases", ({ taskKey, leases }: { taskKey: string; leases: LeaseRecord[] }) => this.#update(taskKey, leases));
    lane.on("restarted", () => this.#readopt(lane));
    this.#lane = lane;
    return lane;
  }

  async #waitingTask<T>(taskKey: string, onWaiting: ((waiting: Waiting) => void) | undefined, work: () => Promise<T>): Promise<T> {
    if (onWaiting === undefined) return work();
    const listeners = this.#waiting.get(taskKey) ?? new Set();
    this.#waiting.set(taskKey, listeners.add(onWaiting));
    try {
      return await work();
    } finally {
      listeners.delete(onWaiting);
      if (listeners.size === 0) this.#waiting.delete(taskKey);
    }
  }

  #tellWaiting(waiting: Waiting): void {
    this.emit("waiting", waiting);
    for (const listener of this.#waiting.get(waiting.taskKey) ?? []) listener(waiting);
  }

  #entry(taskKey: string): TaskEntry {
    let entry = this.#tasks.get(taskKey);
    if (entry === undefined) {
      entry = { leases: [] };
      this.#tasks.set(taskKey, entry);
    }
    return entry;
  }

  #keep(taskKey: string, { secrets, leases }: { secrets: ResolvedSecret[]; leases: LeaseRecord[] }): void {
    const entry = this.#entry(taskKey);
    const known = new Set(entry.leases.map(({ leaseId }) => leaseId));
    entry.leases = [...entry.leases, ...leases.filter(({ leaseId }) => !known.has(leaseId))];
    for (const { name, value, source } of secrets) this.#options.secrets.add(value, source, { holder: holderOf(taskKey), name });
  }

  #update(taskKey: string, leases: LeaseRecord[]): void {
    const entry = this.#tasks.get(taskKey);
    if (entry === undefined) return;
    entry.leases = leases;
    this.emit("leases", { taskKey, leases });
  }

  #readopt(lane: Lane<VaultThreadMethods>): void {
    for (const [taskKey, { leases }] of this.#tasks) {
      if (leases.length === 0) continue;
      lane.call("adopt", { taskKey, leases }).catch((err: unknown) => {
        this.#options.log.warn({ taskKey, err }, "the leases of a task could not be handed to the new Vault thread");
      });
    }
  }
}

function holderOf(taskKey: string): string {
  return `task ${taskKey}`;
}

function inlineValue(input: { value: string } | { file: string } | undefined): string | undefined {
  return input !== undefined && "value" in input ? input.value : undefined;
}

function passwordOf(url: string | undefined): string | undefined {
  const password = url === undefined ? undefined : URL.parse(url)?.password;
  return password ? decodeURIComponent(password) : undefined;
}
