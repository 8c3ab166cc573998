import type { WorkerMessage } from "@berth/protocol";
import { concat } from "./bytes.ts";
import type { Host } from "./host.ts";

type Output = Extract<WorkerMessage, { type: "output" }>;

interface Piece {
  taskId: string;
  stream: "stdout" | "stderr";
  /** How many bytes of its stream came before it. */
  offset: number;
  bytes: Uint8Array;
}

/** Of each stream of a task, in bytes. */
export interface Written {
  stdout: number;
  stderr: number;
}

/** All that is kept, with what each piece costs by itself. */
const MAX_KEPT = 4 * 1024 * 1024;
const PIECE_COST = 200;
/** Nearly full: the children's output is not read for a while, so that neither a burst nor a restart of the supervisor costs a line. */
const HIGH_WATER = 3 * 1024 * 1024;
const LOW_WATER = 1024 * 1024;
/** No longer than this, milliseconds: a task is not to be held up by whoever takes its logs. */
const HOLD_MS = 5000;
/**
 * So many bytes are given to a supervisor that has not taken what it got before: it is what may come twice, and what waits in its socket.
 * A supervisor takes no line before it is whole, so this is more than the longest line that it keeps for that.
 */
const WINDOW = 256 * 1024;
/** Smaller pieces in a row are kept as one. */
const MERGED_BYTES = 4096;

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
  /** Bytes in them. */
  #sentSize = 0;
  #size = 0;
  readonly #written = new Map<string, Written>();
  /** Bytes that were given up since it was last asked. */
  #dropped = 0;
  /** Sends a message; undefined while no supervisor serves. */
  #send: ((message: Output) => void) | undefined;
  #takes = false;
  readonly #host: Host;
  readonly #onHold: (held: boolean) => void;
  #hold: number | undefined;
  /** It was held long enough; what does not fit from now on is given up, until there is room again. */
  #heldEnough = false;

  /** `onHold` is told whether the children's output is to be left unread. */
  constructor(host: Host, onHold: (held: boolean) => void) {
    this.#host = host;
    this.#onHold = onHold;
  }

  /** A child's output is forwarded from now on. Returns the count of its bytes, which goes on counting. */
  begin(taskId: string): Written {
    const written = { stdout: 0, stderr: 0 };
    this.#written.set(taskId, written);
    return written;
  }

  /** A child wrote this; the bytes are ours to keep. */
  add(taskId: string, stream: "stdout" | "stderr", bytes: Uint8Array): void {
    const written = this.#written.get(taskId) ?? this.begin(taskId);
    const piece = { taskId, stream, offset: written[stream], bytes };
    written[stream] += bytes.length;
    if (this.#send !== undefined && !this.#takes) return this.#send(this.#messageOf(piece));
    this.#pieces.push(piece);
    this.#size += costOf(piece);
    this.#pump(WINDOW);
    this.#mergeLast();
    if (this.#size > MAX_KEPT) this.#giveUpOldest();
    this.#regulate();
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
    this.#keep((piece) => piece.taskId !== taskId || piece.offset + piece.bytes.length > taken[piece.stream]);
    this.#pump(WINDOW);
  }

  /** Nothing of the task is left to do. */
  forget(taskId: string): void {
    this.#written.delete(taskId);
    this.#keep((piece) => piece.taskId !== taskId);
    this.#pump(WINDOW);
  }

  #messageOf({ taskId, stream, offset, bytes }: Piece): Output {
    return { type: "output", taskId, stream, data: this.#host.encodeBase64(bytes), offset };
  }

  #regulate(): void {
    if (this.#size > HIGH_WATER && this.#hold === undefined && !this.#heldEnough) {
      this.#hold = this.#host.setTimer(HOLD_MS, () => this.#release(true));
      this.#onHold(true);
    } else if (this.#size < LOW_WATER) this.#release(false);
  }

  #release(heldEnough: boolean): void {
    this.#heldEnough = heldEnough;
    if (this.#hold === undefined) return;
    this.#host.clearTimer(this.#hold);
    this.#hold = undefined;
    this.#onHold(false);
  }

  #pump(window: number): void {
    if (this.#send === undefined) return;
    for (let piece = this.#pieces[this.#sent]; piece !== undefined && this.#sentSize < window; piece = this.#pieces[this.#sent]) {
      this.#sent += 1;
      this.#sentSize += piece.bytes.length;
      this.#send(this.#messageOf(piece));
    }
  }

  /** A program that writes byte by byte must not fill this with pieces. */
  #mergeLast(): void {
    const [one, two] = this.#pieces.slice(-2);
    if (one === undefined || two === undefined || one.taskId !== two.taskId || one.stream !== two.stream) return;
    if (one.bytes.length + two.bytes.length > MERGED_BYTES) return;
    const bothSent = this.#sent === this.#pieces.length;
    if (!bothSent && this.#sent === this.#pieces.length - 1) return;
    this.#pieces.splice(-2, 2, { ...one, bytes: concat([one.bytes, two.bytes]) });
    this.#size -= PIECE_COST;
    if (bothSent) this.#sent -= 1;
  }

  /** Some more than is needed, so that it is not done for every piece. */
  #giveUpOldest(): void {
    let excess = this.#size - MAX_KEPT + MAX_KEPT / 16;
    this.#keep((piece, sent) => {
      if (sent || excess <= 0) return true;
      excess -= costOf(piece);
      this.#dropped += piece.bytes.length;
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
      this.#size += costOf(piece);
      if (index >= sent) continue;
      this.#sent += 1;
      this.#sentSize += piece.bytes.length;
    }
    this.#regulate();
  }
}

function costOf({ bytes }: Piece): number {
  return bytes.length + PIECE_COST;
}
