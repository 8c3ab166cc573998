import { STAGES } from "@berth/hooks";
import { MAX_CHECKPOINT_BYTES, type SupervisorMessage, type TaskRecord } from "@berth/protocol";
import { z } from "zod";
import { type Checkpoint, FRESH_CHECKPOINT } from "./situation.ts";

/** What a checkpoint must have to be relied on; what else is in it is taken as it is, for it was this program that wrote it. */
const Held = z.looseObject({
  version: z.literal(1),
  phase: z.enum(["preparing", "starting", "running", "stopping", "ended"]),
  id: z.string().optional(),
  pid: z.number().int().positive().optional(),
  startedAt: z.number().optional(),
  stop: z
    .looseObject({
      cause: z.string(),
      message: z.string(),
      requestedAt: z.number(),
      gracePeriodMs: z.number(),
      signalBy: z.number(),
      signalledAt: z.number().optional(),
      killedAt: z.number().optional(),
    })
    .optional(),
  exit: z.looseObject({ exitCode: z.number() }).optional(),
  outcome: z.looseObject({ state: z.string(), message: z.string() }).optional(),
  stages: z.array(z.enum(STAGES)),
  hookStates: z.record(z.string(), z.unknown()),
  leases: z.array(z.unknown()).optional(),
});

/**
 * The checkpoint that a worker has held. One that cannot be read (another version, a damaged one) says nothing, so the worst is
 * assumed: the task may have been started, and must never be started again.
 */
export function readCheckpoint(data: unknown): { checkpoint: Checkpoint; readable: boolean } {
  const parsed = Held.safeParse(data);
  if (parsed.success && (parsed.data.phase !== "ended" || parsed.data.outcome !== undefined)) {
    return { checkpoint: data as Checkpoint, readable: true };
  }
  return { checkpoint: { ...FRESH_CHECKPOINT, phase: "starting" }, readable: false };
}

/** What a checkpoint gave up to stay within its bound. */
export type Dropped = "log positions" | "hook states" | "words";

/** A message in a checkpoint that is too large is cut to this many characters. */
const SHORT_MESSAGE = 2000;

/**
 * The checkpoint of one task: the newest, and how much of it the worker is known to hold.
 *
 * INVARIANTS: the sequence only grows; a checkpoint that is sent has at most {@link MAX_CHECKPOINT_BYTES}: what is not needed for
 * a truthful end is given up first (log positions, then hook states, then the length of messages).
 */
export class CheckpointKeeper {
  readonly #taskId: string;
  readonly #send: (message: SupervisorMessage) => void;
  readonly #onDropped: (what: Dropped) => void;
  readonly #dropped = new Set<Dropped>();
  #data: Checkpoint;
  #sequence: number;
  #heldSequence: number;
  /** The last one that a step may wait for: positions of logs come several times a second, and nothing depends on them. */
  #awaitedSequence: number;
  /** False: what the worker held could not be read. */
  readonly readable: boolean;

  constructor(record: TaskRecord, parts: { send: (message: SupervisorMessage) => void; onDropped: (what: Dropped) => void }) {
    this.#taskId = record.taskId;
    this.#send = parts.send;
    this.#onDropped = parts.onDropped;
    const held = record.checkpoint;
    const { checkpoint, readable } =
      held === undefined ? { checkpoint: { ...FRESH_CHECKPOINT }, readable: true } : readCheckpoint(held.data);
    this.#data = checkpoint;
    this.readable = readable;
    this.#sequence = held?.sequence ?? 0;
    this.#heldSequence = readable ? this.#sequence : -1;
    this.#awaitedSequence = this.#sequence;
  }

  get data(): Checkpoint {
    return this.#data;
  }

  /** The worker holds everything that a step may wait for. */
  get isHeld(): boolean {
    return this.#heldSequence >= this.#awaitedSequence;
  }

  /** Changes parts of it and has the worker hold the whole. */
  keep(patch: Partial<Checkpoint>): void {
    this.#data = this.#fit({ ...this.#data, ...patch });
    this.#sequence += 1;
    this.#awaitedSequence = this.#sequence;
    this.send();
  }

  /** Keeps a log position; nothing waits until it is held. */
  keepLogPosition(logs: unknown): void {
    this.#data = this.#fit({ ...this.#data, logs });
    this.#sequence += 1;
    this.send();
  }

  /** Keeps what a hook's watch has seen; nothing waits until it is held. */
  keepHookState(name: string, state: unknown): void {
    this.#data = this.#fit({ ...this.#data, hookStates: { ...this.#data.hookStates, [name]: state } });
    this.#sequence += 1;
    this.send();
  }

  send(): void {
    this.#send({ type: "checkpoint", taskId: this.#taskId, sequence: this.#sequence, data: this.#data });
  }

  /** The worker has told that it holds one. It cannot hold what was never sent. */
  held(sequence: number): void {
    if (sequence <= this.#sequence) this.#heldSequence = Math.max(this.#heldSequence, sequence);
  }

  /**
   * The worker is back with what it holds. An older one is replaced; a newer one was given to it by another supervisor in the
   * meantime, which knew more than this one.
   */
  returned(held: TaskRecord["checkpoint"]): void {
    this.#heldSequence = held?.sequence ?? -1;
    if (held !== undefined && held.sequence > this.#sequence) {
      const { checkpoint, readable } = readCheckpoint(held.data);
      this.#sequence = held.sequence;
      this.#awaitedSequence = held.sequence;
      if (readable) this.#data = checkpoint;
      else this.keep({});
    } else if (this.#heldSequence < this.#sequence) this.send();
  }

  #fit(data: Checkpoint): Checkpoint {
    let fitting = data;
    for (const [what, shrink] of SHRINKING) {
      if (sizeOf(fitting) <= MAX_CHECKPOINT_BYTES) break;
      fitting = shrink(fitting);
      if (!this.#dropped.has(what)) this.#onDropped(what);
      this.#dropped.add(what);
    }
    return fitting;
  }
}

/** In the order in which they are missed least. */
const SHRINKING: ReadonlyArray<[Dropped, (data: Checkpoint) => Checkpoint]> = [
  ["log positions", ({ logs: _logs, ...rest }) => rest],
  ["hook states", (data) => ({ ...data, hookStates: {} })],
  [
    "words",
    (data) => ({
      ...data,
      ...(data.stop === undefined ? {} : { stop: { ...data.stop, message: data.stop.message.slice(0, SHORT_MESSAGE) } }),
      ...(data.outcome === undefined ? {} : { outcome: { ...data.outcome, message: data.outcome.message.slice(0, SHORT_MESSAGE) } }),
      ...(data.exit?.error === undefined ? {} : { exit: { ...data.exit, error: data.exit.error.slice(0, SHORT_MESSAGE) } }),
    }),
  ],
];

/** As the worker counts it: UTF-8 bytes of its JSON. */
function sizeOf(data: Checkpoint): number {
  return Buffer.byteLength(JSON.stringify(data));
}
