/** What a parser tells of the responses on one connection, in order. Body bytes are the handler's to keep. */
export interface ResponseHandlers {
  head(status: number): void;
  body(bytes: Uint8Array): void;
  end(): void;
}

const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;
/** Of one header or chunk-size line, bytes. */
const MAX_LINE_BYTES = 64 * 1024;

type State = "status" | "headers" | "sized-body" | "endless-body" | "chunk-size" | "chunk" | "chunk-end" | "trailers";

/**
 * Incremental parser of HTTP/1.1 responses: Content-Length, chunked, and bodies that last until the connection closes; several
 * responses one after the other on a kept-alive connection. Bytes may be cut anywhere. Throws an Error when the peer does not
 * speak HTTP: the connection must be closed.
 */
export class ResponseParser {
  readonly #handlers: ResponseHandlers;
  #state: State = "status";
  #line = "";
  #status = 0;
  #length: number | undefined;
  #chunked = false;
  #left = 0;

  constructor(handlers: ResponseHandlers) {
    this.#handlers = handlers;
  }

  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === "sized-body" || this.#state === "chunk" || this.#state === "endless-body") {
        const take = this.#state === "endless-body" ? bytes.length - at : Math.min(this.#left, bytes.length - at);
        const part = bytes.slice(at, at + take);
        at += take;
        this.#left -= take;
        this.#handlers.body(part);
        if (this.#left === 0 && this.#state === "sized-body") this.#end();
        else if (this.#left === 0 && this.#state === "chunk") this.#state = "chunk-end";
        continue;
      }
      const byte = bytes[at++] as number;
      if (byte !== LINE_FEED) {
        if (byte !== CARRIAGE_RETURN) this.#line += String.fromCharCode(byte);
        if (this.#line.length > MAX_LINE_BYTES) throw new Error("a line of an HTTP header is too long");
        continue;
      }
      const line = this.#line;
      this.#line = "";
      this.#takeLine(line);
    }
  }

  /** The peer closed the connection. Returns whether that ended a response in order. */
  closed(): boolean {
    if (this.#state === "endless-body") this.#end();
    return this.#state === "status" && this.#line === "";
  }

  #takeLine(line: string): void {
    switch (this.#state) {
      case "status":
        return this.#takeStatus(line);
      case "headers":
        return line === "" ? this.#beginBody() : this.#takeHeader(line);
      case "chunk-size":
        return this.#takeChunkSize(line);
      case "chunk-end":
        if (line !== "") throw new Error("a chunk is longer than its length says");
        this.#state = "chunk-size";
        return;
      case "trailers":
        if (line === "") this.#end();
        return;
    }
  }

  #takeStatus(line: string): void {
    const match = /^HTTP\/1\.[01] (\d{3})/.exec(line);
    if (match === null) throw new Error("the peer does not answer in HTTP/1.1");
    this.#status = Number(match[1]);
    this.#length = undefined;
    this.#chunked = false;
    this.#state = "headers";
  }

  #takeHeader(line: string): void {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name === "content-length") {
      if (!/^\d{1,15}$/.test(value)) throw new Error("a Content-Length is no number");
      this.#length = Number(value);
    } else if (name === "transfer-encoding") this.#chunked = /\bchunked\b/i.test(value);
  }

  #beginBody(): void {
    // Interim answers (100 Continue) have no body and another status line follows.
    if (this.#status < 200) {
      this.#state = "status";
      return;
    }
    this.#handlers.head(this.#status);
    if (this.#chunked) this.#state = "chunk-size";
    else if (this.#length !== undefined && this.#length > 0) {
      this.#left = this.#length;
      this.#state = "sized-body";
    } else if (this.#length === 0 || this.#status === 204 || this.#status === 304) this.#end();
    else this.#state = "endless-body";
  }

  #takeChunkSize(line: string): void {
    const match = /^([0-9a-fA-F]{1,8})\s*(;.*)?$/.exec(line);
    if (match === null) throw new Error("a chunk's length is no number");
    this.#left = Number.parseInt(match[1] as string, 16);
    this.#state = this.#left === 0 ? "trailers" : "chunk";
  }

  #end(): void {
    this.#state = "status";
    this.#handlers.end();
  }
}
