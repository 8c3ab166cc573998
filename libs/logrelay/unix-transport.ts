import { type ChildProcess, spawn } from "node:child_process";
import { type Parcel, RETRY_MS, type Transport } from "./transport.ts";

/** Reads `<u32 length><datagram>` and sends each to the socket; ends with its stdin. Answers one byte per datagram: 1 sent, 0 not. */
const HELPER = `use Socket; my $p = shift; my $s; $| = 1;
sub c { socket($s, PF_UNIX, SOCK_DGRAM, 0) && connect($s, sockaddr_un($p)) }
sub r { my ($n) = @_; my $b = ""; while (length($b) < $n) { my $k = sysread(STDIN, $b, $n - length($b), length($b)); exit 0 unless $k; } $b }
c(); while (1) { my $d = r(unpack("N", r(4))); my $ok = defined(send($s, $d, 0)); unless ($ok) { c(); $ok = defined(send($s, $d, 0)); } syswrite(STDOUT, $ok ? "1" : "0"); }`;

const IN_FLIGHT = 64;

/**
 * Datagrams to a unix socket (/dev/log). Node has no unix datagrams, so that one small Perl process per host, which is there on
 * every Debian, passes them on. It ends with its stdin, also when this process is killed.
 */
export class UnixTransport implements Transport {
  readonly #path: string;
  #helper: ChildProcess | undefined;
  #queue: Parcel[] = [];
  #open = 0;
  #lost = 0;
  #closed = false;
  problem: string | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  get alive(): boolean {
    return this.#helper !== undefined || this.problem === undefined;
  }

  send(parcel: Parcel): void {
    this.#queue.push(parcel);
    this.#flush();
  }

  close(): void {
    this.#closed = true;
    this.#helper?.stdin?.end();
  }

  #flush(): void {
    this.#helper ??= this.#start();
    const helper = this.#helper;
    while (helper !== undefined && this.#open < IN_FLIGHT) {
      const parcel = this.#queue.find(({ cancelled, next, ends }) => !cancelled && next < ends.length);
      if (parcel === undefined) break;
      const start = parcel.next === 0 ? 0 : (parcel.ends[parcel.next - 1] as number);
      const datagram = parcel.bytes.subarray(start, parcel.ends[parcel.next]);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(datagram.length);
      helper.stdin?.write(Buffer.concat([length, datagram]));
      parcel.next += 1;
      this.#open += 1;
    }
  }

  #answered(bytes: Buffer): void {
    for (const byte of bytes) {
      this.#open -= 1;
      if (byte === 0x30) this.#lost += 1;
      this.problem = byte === 0x30 ? `${this.#path} takes no message` : undefined;
      this.#settle();
    }
    this.#flush();
  }

  /** Answers come in order: a parcel is done when as many are open as were sent after it. */
  #settle(): void {
    let sent = 0;
    for (const { next } of this.#queue) sent += next;
    while (this.#queue.length > 0) {
      const first = this.#queue[0] as Parcel;
      if (!first.cancelled && (first.next < first.ends.length || this.#open > sent - first.next)) return;
      sent -= first.next;
      this.#queue.shift();
      if (!first.cancelled) first.done(first.ends.length - this.#lost, this.#lost, "refused by the receiver");
      this.#lost = 0;
    }
  }

  #start(): ChildProcess | undefined {
    if (this.#closed) return undefined;
    const helper = spawn("perl", ["-e", HELPER, this.#path], { stdio: ["pipe", "pipe", "ignore"], env: {} });
    helper.stdout?.on("data", (bytes: Buffer) => this.#answered(bytes));
    helper.stdin?.on("error", () => {});
    helper.on("error", (error) => this.#ended(`perl, which ${this.#path} needs, cannot be started: ${error.message}`));
    helper.on("exit", () => this.#ended(`the process that writes to ${this.#path} ended`));
    return helper;
  }

  #ended(problem: string): void {
    this.problem = problem;
    this.#open = 0;
    for (const parcel of this.#queue) parcel.next = 0;
    if (this.#closed) return;
    setTimeout(() => {
      this.#helper = undefined;
      if (this.#queue.length > 0) this.#flush();
    }, RETRY_MS).unref();
  }
}
