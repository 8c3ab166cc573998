import type { WorkerMessage } from "@berth/protocol";

type Output = Extract<WorkerMessage, { type: "output" }>;

interface Piece {
  message: Output & { offset: number };
  /** Where its stream goes on behind it. */
  end: number;
}

/** Of each stream of a task, in bytes. */
export interface Written {
  stdout: number;
  stderr: number;
}

/** All that is kept, as base64 and with what each piece costs by itself. */
const MAX_KEPT = 4 * 1024 * 1024;
const PIECE_COST = 200;
/** So much is given to a supervisor that has not taken what it got before: what is beyond waits here, not in a socket's queue. */
const WINDOW = 1024 * 1024;

/**
 * Output of command tasks on its way to the supervisor's log targets, numbered by its bytes and kept until the supervisor says that it
 * has arrived there: a supervisor that is killed takes nothing along.
 *
 * INVARIANTS: a task's pieces are sent in the order in which they came; at most MAX_KEPT is kept, and it is the oldest that were never
 * sent which are given up and counted; to a supervisor that does not say `taken`, each piece is sent once.
 */
export class KeptOutput {
  #pieces: Piece[] = [];
  /** So many of them, the first ones, were given to the supervisor that serves now. */
  #sent = 0;
  #sentSize = 0;
  #size = 0;
  readonly #written = new Map<string, Written>();
  /** Bytes that were given up since it was last asked. */
  #dropped = 0;
  /** Sends a message; undefined while no supervisor serves. */
  #send: ((message: Output) => void) | undefined;
  #takes = false;

  /** A child's output is forwarded from now on. Returns the count of its bytes, which goes on counting. */
  begin(taskId: string): Written {
    const written = { stdout: 0, stderr: 0 };
    this.#written.set(taskId, written);
    return written;
  }

  /** A child wrote this; `length` is in bytes, `data` base64. */
  add(taskId: string, stream: "stdout" | "stderr", data: string, length: number): void {
    const written = this.#written.get(taskId) ?? this.begin(taskId);
    const message = { type: "output", taskId, stream, data, offset: written[stream] } as const;
    written[stream] += length;
    if (this.#send !== undefined && !this.#takes) return this.#send(message);
    this.#pieces.push({ message, end: written[stream] });
    this.#size += costOf(message);
    this.#pump(WINDOW);
    if (this.#size > MAX_KEPT) this.#giveUpOldest();
  }

  /** A supervisor serves: it gets what is kept. Returns how many bytes were given up before. */
  connected(send: (message: Output) => void, takes: boolean): number {
    this.#send = send;
    this.#takes = takes;
    this.#sent = 0;
    this.#sentSize = 0;
    this.#pump(takes ? WINDOW : Number.POSITIVE_INFINITY);
    if (!takes) this.#keep(() => false);
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }

  disconnected(): void {
    this.#send = undefined;
  }

  /** The child is over, and the supervisor is to hear all of it before it hears that. */
  flush(): void {
    this.#pump(Number.POSITIVE_INFINITY);
  }

  taken(taskId: string, taken: Written): void {
    this.#keep(({ message, end }) => message.taskId !== taskId || end > taken[message.stream]);
    this.#pump(WINDOW);
  }

  /** Nothing of the task is left to do. */
  forget(taskId: string): void {
    this.#written.delete(taskId);
    this.#keep(({ message }) => message.taskId !== taskId);
    this.#pump(WINDOW);
  }

  #pump(window: number): void {
    if (this.#send === undefined) return;
    for (let piece = this.#pieces[this.#sent]; piece !== undefined && this.#sentSize < window; piece = this.#pieces[this.#sent]) {
      this.#sent += 1;
      this.#sentSize += costOf(piece.message);
      this.#send(piece.message);
    }
  }

  /** Some more than is needed, so that it is not done for every piece. */
  #giveUpOldest(): void {
    let excess = this.#size - MAX_KEPT + WINDOW / 4;
    this.#keep(({ message, end }, sent) => {
      if (sent || excess <= 0) return true;
      excess -= costOf(message);
      this.#dropped += end - message.offset;
      return false;
    });
  }

  #keep(wanted: (piece: Piece, sent: boolean) => boolean): void {
    const before = this.#pieces;
    const sent = this.#sent;
    this.#pieces = [];
    this.#sent = 0;
    this.#sentSize = 0;
    this.#size = 0;
    for (const [index, piece] of before.entries()) {
      if (!wanted(piece, index < sent)) continue;
      this.#pieces.push(piece);
      this.#size += costOf(piece.message);
      if (index >= sent) continue;
      this.#sent += 1;
      this.#sentSize += costOf(piece.message);
    }
  }
}

function costOf({ data }: Output): number {
  return data.length + PIECE_COST;
}
