/** `system` is dockerd's own word in the stream: an error while it read the log. */
export type FrameStream = "stdout" | "stderr" | "system";

export interface Frame {
  stream: FrameStream;
  /** One write of the container, whole; with the logs API one line. A view into the chunk where the frame lay in one chunk. */
  data: Buffer;
}

/** The bytes are no multiplexed stream (a terminal's raw output has no frames) or a frame is larger than the limit. */
export class DemultiplexError extends Error {
  override readonly name = "DemultiplexError";
  readonly code = "BERTH_DOCKER_PROTOCOL";
}

const HEADER_BYTES = 8;
const DEFAULT_MAX_FRAME_BYTES = 16 * 1024 * 1024;

/**
 * Takes Docker's multiplexed stream apart (`[type, 0, 0, 0, length as u32 big endian]` before each payload). A plain loop over
 * each chunk: the usual recursive implementations copy the rest of the chunk for every frame and end in a stack overflow after
 * a few thousand small frames.
 *
 * INVARIANTS: frames come out whole and in order, however the bytes were cut; at most one frame is buffered.
 */
export class Demultiplexer {
  readonly #maxFrameBytes: number;
  #parts: Buffer[] = [];
  #buffered = 0;

  constructor(options: { maxFrameBytes?: number } = {}) {
    this.#maxFrameBytes = options.maxFrameBytes ?? DEFAULT_MAX_FRAME_BYTES;
  }

  /** Bytes of an incomplete frame; not 0 at the end of a stream means that the stream was cut. */
  get pendingBytes(): number {
    return this.#buffered;
  }

  /** Calls `onFrame` for each frame that this chunk completes. Throws {@link DemultiplexError}; the stream is then useless. */
  push(chunk: Buffer, onFrame: (frame: Frame) => void): void {
    const bytes = this.#join(chunk);
    if (bytes === undefined) return;
    let offset = 0;
    while (bytes.length - offset >= HEADER_BYTES) {
      const length = bytes.readUInt32BE(offset + 4);
      const stream = streamOf(bytes, offset);
      if (length > this.#maxFrameBytes)
        throw new DemultiplexError(`a frame of ${length} bytes is over the limit of ${this.#maxFrameBytes}`);
      const end = offset + HEADER_BYTES + length;
      if (end > bytes.length) break;
      onFrame({ stream, data: bytes.subarray(offset + HEADER_BYTES, end) });
      offset = end;
    }
    this.#keep(bytes.subarray(offset));
  }

  /** Everything that is there, once it may hold a whole frame; undefined while it surely does not, so that nothing is copied twice. */
  #join(chunk: Buffer): Buffer | undefined {
    if (this.#buffered === 0) return chunk;
    this.#parts.push(chunk);
    this.#buffered += chunk.length;
    if (this.#buffered < HEADER_BYTES) return undefined;
    if ((this.#parts[0] as Buffer).length < HEADER_BYTES) this.#parts = [Buffer.concat(this.#parts)];
    const first = this.#parts[0] as Buffer;
    if (this.#buffered < HEADER_BYTES + first.readUInt32BE(4) && first.readUInt32BE(4) <= this.#maxFrameBytes) return undefined;
    return this.#parts.length === 1 ? first : Buffer.concat(this.#parts);
  }

  #keep(rest: Buffer): void {
    this.#parts = rest.length === 0 ? [] : [rest];
    this.#buffered = rest.length;
  }
}

function streamOf(bytes: Buffer, offset: number): FrameStream {
  const type = bytes[offset];
  const framed = bytes[offset + 1] === 0 && bytes[offset + 2] === 0 && bytes[offset + 3] === 0;
  if (framed && (type === 1 || type === 0)) return "stdout";
  if (framed && type === 2) return "stderr";
  if (framed && type === 3) return "system";
  throw new DemultiplexError("the stream is not multiplexed: it holds no frame header where one must be");
}
