/** TCP receivers that break, stall, refuse, hang and come back. Each one is a real socket. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { freePort, skipWithout, startConsul, startProcess, waitFor } from "@berth/test-harness";
import { LogRelay } from "./relay.ts";
import type { LogstashSink, SinkStatistics } from "./types.ts";

/** A receiver of JSON lines that does what it is told. */
class Receiver implements AsyncDisposable {
  readonly port: number;
  readonly sockets = new Set<Socket>();
  readonly messages: string[] = [];
  connections = 0;
  /** What becomes of a new connection. */
  mode: "read" | "pause" | "close" = "read";
  /** A line with this in it ends its connection: too long, or no frame that it knows. */
  refuses: string | undefined;
  #server: Server | undefined;

  private constructor(port: number) {
    this.port = port;
  }

  static async start(port?: number): Promise<Receiver> {
    const receiver = new Receiver(port ?? (await freePort()));
    await receiver.listen();
    return receiver;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => this.#take(socket));
    this.#server = server;
    server.listen(this.port, "127.0.0.1");
    await once(server, "listening");
  }

  /** Ends the listener and every connection, with a reset: what is not read is lost. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, "close");
    server.close();
    this.reset();
    await closed;
  }

  reset(): void {
    for (const socket of this.sockets) socket.resetAndDestroy();
    this.sockets.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #take(socket: Socket): void {
    this.connections += 1;
    this.sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.sockets.delete(socket));
    if (this.mode === "close") return void socket.resetAndDestroy();
    let rest = "";
    socket.setEncoding("utf8");
    // What a reset cuts off in the middle of a line is no line.
    const read = (text: string): void => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (this.refuses !== undefined && line.includes(this.refuses)) return void socket.destroy();
        this.messages.push((JSON.parse(line) as { message: string }).message);
      }
    };
    socket.on("data", read);
    if (this.mode === "pause") socket.pause();
  }
}

/** A command task whose output goes to Logstash receivers. */
class Sender implements Disposable {
  readonly relay: LogRelay;
  #number = 0;

  private constructor(relay: LogRelay) {
    this.relay = relay;
  }

  static async start(
    sink: Omit<LogstashSink, "type" | "transport"> & { transport?: "udp" },
    more: { keepLeftMs?: number } = {},
  ): Promise<Sender> {
    const events = { positions: () => undefined, output: () => {}, problem: () => {}, log: () => {} };
    const relay = new LogRelay({ docker: { url: "unix:///nowhere", socketPath: "/nowhere" }, ...more }, events);
    const sinks = [{ type: "logstash", transport: "tcp", ...sink } as const];
    relay.follow({ taskKey: "t", source: { kind: "pushed" }, sinks, fields: {}, hostname: "h" });
    await waitFor(() => relay.stats().tasks.length === 1);
    return new Sender(relay);
  }

  /** Writes so many numbered lines. */
  write(count: number, padding = ""): void {
    const lines = Array.from({ length: count }, () => `${this.#number++}${padding}\n`).join("");
    this.relay.push({ taskKey: "t", stream: "stdout", bytes: Buffer.from(lines) });
  }

  get written(): number {
    return this.#number;
  }

  get sink(): SinkStatistics {
    const sink = this.relay.stats().tasks[0]?.sinks[0];
    assert.ok(sink);
    return sink;
  }

  get dropped(): number {
    return Object.values(this.sink.dropped).reduce((sum, lines) => sum + lines, 0);
  }

  [Symbol.dispose](): void {
    this.relay.close();
  }
}

function missing(count: number, ...receivers: Array<{ messages: string[] }>): number[] {
  const got = new Set(receivers.flatMap(({ messages }) => messages.map((message) => Number.parseInt(message, 10))));
  return Array.from({ length: count }, (_, number) => number).filter((number) => !got.has(number));
}

test("what the kernel had taken and the receiver never read is sent again after a reset", async () => {
  await using receiver = await Receiver.start();
  receiver.mode = "pause";
  using sender = await Sender.start({ addresses: [receiver.address] });
  sender.write(2_000);
  await waitFor(() => sender.sink.sent === 2_000);

  receiver.mode = "read";
  receiver.reset();

  await waitFor(() => missing(2_000, receiver).length === 0, { what: "all lines" });
  assert.equal(sender.sink.resent, 2_000);
  assert.equal(sender.dropped, 0);
});

test("resets in the middle of a stream lose nothing", async () => {
  await using receiver = await Receiver.start();
  using sender = await Sender.start({ addresses: [receiver.address] });
  for (let round = 1; round <= 4; round++) {
    sender.write(1_000, " some text that makes a line longer");
    await waitFor(() => receiver.sockets.size === 1 && missing(sender.written, receiver).length === 0, { deadline: 20_000 });
    // It reads some of what comes now, then none.
    sender.write(500);
    for (const socket of receiver.sockets) socket.pause();
    sender.write(2_000, " more");
    await waitFor(() => sender.sink.sent === sender.written);
    receiver.reset();
  }
  sender.write(1);

  await waitFor(() => missing(sender.written, receiver).length === 0, { deadline: 20_000, what: "all lines" });
  assert.equal(sender.dropped, 0);
});

test("a receiver that is started again gets all of it", async () => {
  await using receiver = await Receiver.start();
  using sender = await Sender.start({ addresses: [receiver.address] });
  sender.write(500);
  await waitFor(() => receiver.messages.length === 500);

  await receiver.stop();
  sender.write(500);
  await waitFor(() => /ECONNREFUSED|closed|ECONNRESET/.test(sender.sink.problem ?? ""), { what: "a problem" });
  await receiver.listen();

  await waitFor(() => missing(1_000, receiver).length === 0, { deadline: 20_000, what: "all lines" });
  await waitFor(() => sender.sink.problem === undefined, { what: "no problem" });
  assert.equal(sender.dropped, 0);
});

test("what is old has arrived: a receiver that closes a quiet connection gets nothing twice", async () => {
  await using receiver = await Receiver.start();
  using sender = await Sender.start({ addresses: [receiver.address] });
  sender.write(10);
  await waitFor(() => receiver.messages.length === 10);
  await new Promise((resolve) => setTimeout(resolve, 2_100));
  receiver.reset();
  sender.write(1);
  await waitFor(() => receiver.messages.length >= 11);

  assert.deepEqual(missing(11, receiver), []);
  assert.equal(receiver.messages.length, 11);
  // The last line may have met the broken connection.
  assert.ok((sender.sink.resent ?? 0) <= 1);
});

test("a receiver that takes nothing: the queue is bounded, drops are counted, reading goes on", async () => {
  await using receiver = await Receiver.start();
  receiver.mode = "pause";
  using sender = await Sender.start({ addresses: [receiver.address], queueBytes: 300_000 });
  const padding = ` ${"x".repeat(1_000)}`;
  // More than two kernels' buffers, in pieces that the source holds.
  for (let piece = 0; piece < 40; piece++) {
    sender.write(1_000, padding);
    await waitFor(() => sender.relay.stats().tasks[0]?.lines === sender.written, { deadline: 30_000, what: "all lines read" });
  }

  assert.ok((sender.sink.dropped["queue full"] ?? 0) > 0);
  assert.ok(sender.sink.queuedBytes <= 300_000);
  const unsent = sender.written - sender.sink.sent - sender.dropped;
  assert.ok(unsent >= 0 && unsent * 1_000 <= 400_000);
  // One that reads again gets what waited.
  for (const socket of receiver.sockets) socket.resume();
  await waitFor(() => sender.sink.sent + sender.dropped === sender.written);
  await waitFor(() => receiver.messages.length === sender.sink.sent, { deadline: 20_000 });
});

test("a door behind which nobody is takes no lines: they wait, and come when somebody is", async () => {
  await using receiver = await Receiver.start();
  receiver.mode = "close";
  using sender = await Sender.start({ addresses: [receiver.address] });
  sender.write(100);
  await waitFor(() => receiver.connections >= 3, { deadline: 20_000 });
  sender.write(100);
  await waitFor(() => receiver.connections >= 5, { deadline: 20_000 });
  assert.ok(sender.sink.sent <= 100, "lines that nobody read are no longer taken for sent");
  assert.match(sender.sink.problem ?? "", /^tcp /);

  receiver.mode = "read";

  await waitFor(() => missing(200, receiver).length === 0, { deadline: 20_000, what: "all lines" });
  assert.equal(sender.dropped, 0);
});

test("a line that a receiver ends each connection for is given up and counted; what comes after it arrives", async () => {
  await using receiver = await Receiver.start();
  receiver.refuses = "poison";
  using sender = await Sender.start({ addresses: [receiver.address] });
  sender.write(10);
  await waitFor(() => missing(10, receiver).length === 0);

  sender.write(1, " poison");
  await waitFor(() => receiver.connections > 2);
  sender.write(10);

  const late = Array.from({ length: 10 }, (_, index) => 11 + index);
  await waitFor(() => !missing(21, receiver).some((number) => late.includes(number)), { deadline: 60_000 });
  assert.ok((sender.sink.dropped["refused by the receiver"] ?? 0) >= 1);
  assert.ok(sender.sink.sent + sender.dropped >= 21);
});

test("several receivers share the lines; one that breaks leaves its own to the others and gets its share when it is back", async () => {
  await using one = await Receiver.start();
  await using two = await Receiver.start();
  await using three = await Receiver.start();
  using sender = await Sender.start({ addresses: [one.address, two.address, three.address] });
  const all = [one, two, three];
  const until = async (condition: () => boolean): Promise<void> => {
    const write = (): boolean => {
      sender.write(1);
      return condition();
    };
    await waitFor(write, { deadline: 20_000, interval: 5 });
  };
  await until(() => all.every(({ messages }) => messages.length > 5));

  // It takes lines and reads none of them.
  for (const socket of two.sockets) socket.pause();
  const before = sender.written;
  await until(() => sender.written > before + 60);
  await two.stop();
  await waitFor(() => missing(sender.written, ...all).length === 0, { deadline: 5_000, what: "the lines of the one that broke" });
  await until(() => /ECONNREFUSED.*2 others take its lines/.test(sender.sink.problem ?? ""));

  const had = two.messages.length;
  await two.listen();
  await until(() => two.messages.length > had + 5);
  await waitFor(() => missing(sender.written, ...all).length === 0, { what: "all lines" });
  await waitFor(() => sender.sink.problem === undefined);
  assert.equal(sender.dropped, 0);
});

test("beside others a receiver that takes nothing is given up within seconds", async () => {
  await using one = await Receiver.start();
  await using two = await Receiver.start();
  two.mode = "pause";
  using sender = await Sender.start({ addresses: [one.address, two.address] });
  const padding = ` ${"x".repeat(1_000)}`;
  const stuck = (): boolean => /took nothing/.test(sender.sink.problem ?? "");
  await waitFor(
    () => {
      if (sender.relay.stats().tasks[0]?.lines === sender.written) sender.write(60, padding);
      return stuck();
    },
    { deadline: 60_000, interval: 2 },
  );

  await waitFor(() => missing(sender.written, one).length === 0, { deadline: 10_000, what: "all lines at the one that reads" });
  assert.equal(sender.dropped, 0);
});

/** Listens, and answers no SYN: its queue of two is full. */
const BLACKHOLE = `use Socket; socket(S, PF_INET, SOCK_STREAM, 0) or die; bind(S, sockaddr_in($ARGV[0], inet_aton("127.0.0.1"))) or die; listen(S, 0) or die; sleep 600;`;

test("a receiver that does not answer at all delays nobody", async () => {
  const port = await freePort();
  await using _blackhole = await startProcess({
    name: "blackhole",
    command: "perl",
    args: ["-e", BLACKHOLE, String(port)],
    ready: () => connects(port),
  });
  const fillers = [connect(port, "127.0.0.1"), connect(port, "127.0.0.1")];
  for (const filler of fillers) filler.on("error", () => {});
  await using one = await Receiver.start();
  using sender = await Sender.start({ addresses: [`127.0.0.1:${port}`, one.address], connectMs: 300 });
  sender.write(1_000);

  await waitFor(() => missing(1_000, one).length === 0);
  await waitFor(
    () => {
      sender.write(1);
      return /no answer in time \(1 other takes its lines\)/.test(sender.sink.problem ?? "");
    },
    { deadline: 20_000 },
  );
  assert.equal(sender.dropped, 0);
  for (const filler of fillers) filler.destroy();
});

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

test("receivers that Consul knows: lines wait for the first, a new one gets its share, one that is gone gets nothing", {
  skip: skipWithout("consul"),
}, async () => {
  await using consul = await startConsul();
  await using one = await Receiver.start();
  await using two = await Receiver.start();
  const register = async (name: string, { port }: Receiver): Promise<void> => {
    const body = JSON.stringify({ ID: name, Name: "logstash", Address: "127.0.0.1", Port: port });
    await fetch(`${consul.address}/v1/agent/service/register`, { method: "PUT", body });
  };
  using sender = await Sender.start({ discovery: { consulUrl: consul.address, service: "logstash", refreshMs: 100 } });
  sender.write(50);
  await waitFor(() => /no healthy instance of logstash/.test(sender.sink.problem ?? ""));

  await register("one", one);
  await waitFor(() => missing(50, one).length === 0, { what: "what waited" });
  await register("two", two);
  await waitFor(() => {
    sender.write(1);
    return two.messages.length > 5;
  });
  await fetch(`${consul.address}/v1/agent/service/deregister/one`, { method: "PUT" });
  await waitFor(() => {
    sender.write(1);
    return one.sockets.size === 0;
  });

  await waitFor(() => missing(sender.written, one, two).length === 0, { what: "all lines" });
  assert.equal(sender.dropped, 0);
});

test("an instance that Consul knows with a port that is none takes no lines from the others", { skip: skipWithout("consul") }, async () => {
  await using consul = await startConsul();
  await using one = await Receiver.start();
  for (const [id, port] of Object.entries({ wrong: 70_000, one: one.port })) {
    const body = JSON.stringify({ ID: id, Name: "logstash", Address: "127.0.0.1", Port: port });
    const { ok } = await fetch(`${consul.address}/v1/agent/service/register`, { method: "PUT", body });
    assert.ok(ok);
  }
  using sender = await Sender.start({ discovery: { consulUrl: consul.address, service: "logstash", refreshMs: 100 } });

  sender.write(50);

  await waitFor(() => missing(50, one).length === 0);
});

test("a password in Consul's address is in no problem that is told", async () => {
  const consulUrl = `http://user:hidden@127.0.0.1:${await freePort()}`;
  using sender = await Sender.start({ discovery: { consulUrl, service: "logstash", refreshMs: 100 } });
  sender.write(1);

  await waitFor(() => /cannot be asked/.test(sender.sink.problem ?? ""));

  assert.doesNotMatch(sender.sink.problem ?? "", /hidden/);
});

test("several UDP receivers share the lines; one that refuses is left to itself, and lines wait for the first that Consul names", {
  skip: skipWithout("consul"),
}, async () => {
  await using consul = await startConsul();
  const sockets = [createSocket("udp4"), createSocket("udp4")];
  const receivers: Array<{ messages: string[]; port: number }> = [];
  for (const socket of sockets) {
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    const receiver = { messages: [] as string[], port: socket.address().port };
    receivers.push(receiver);
    socket.on("message", (bytes) => receiver.messages.push((JSON.parse(bytes.toString()) as { message: string }).message));
  }
  const ports = [...receivers.map(({ port }) => port), await freePort()];
  using sender = await Sender.start({ transport: "udp", discovery: { consulUrl: consul.address, service: "logstash", refreshMs: 100 } });
  sender.write(10);
  await waitFor(() => /no healthy instance/.test(sender.sink.problem ?? ""));

  for (const [index, Port] of ports.entries()) {
    const body = JSON.stringify({ ID: `u${index}`, Name: "logstash", Address: "127.0.0.1", Port });
    await fetch(`${consul.address}/v1/agent/service/register`, { method: "PUT", body });
  }
  await waitFor(() => {
    sender.write(1);
    return receivers.every(({ messages }) => messages.length > 20) && sender.sink.problem?.startsWith("udp ") === true;
  });

  // The closed port has had some. From now on it is only tried now and then, with a parcel: a line here.
  const before = missing(sender.written, ...receivers).length;
  for (let line = 0; line < 60; line++) {
    sender.write(1);
    await waitFor(() => sender.sink.sent + sender.dropped === sender.written);
  }
  await waitFor(() => missing(sender.written, ...receivers).length <= before + 10);
  for (const socket of sockets) socket.close();
});

test("the last lines of a task that is over reach a receiver that comes back later; its end does not wait", async () => {
  await using receiver = await Receiver.start();
  await receiver.stop();
  using sender = await Sender.start({ addresses: [receiver.address] });
  sender.write(100);
  await waitFor(() => sender.sink.problem !== undefined);

  const statistics = await sender.relay.stop({ taskKey: "t", drain: true, deadline: Number.MAX_SAFE_INTEGER });
  assert.deepEqual([statistics?.sinks[0]?.left, statistics?.sinks[0]?.sent, statistics?.sinks[0]?.dropped], [100, 0, {}]);
  assert.ok(sender.relay.stats().leftBytes > 0);
  await receiver.listen();

  await waitFor(() => missing(100, receiver).length === 0, { deadline: 20_000, what: "all lines" });
  await waitFor(() => sender.relay.stats().totals.sinks.logstash?.sent === 100);
  assert.equal(sender.relay.stats().leftBytes, 0);
});

test("a task that is only handed over leaves nothing behind: its next follower reads it again", async () => {
  await using receiver = await Receiver.start();
  await receiver.stop();
  using sender = await Sender.start({ addresses: [receiver.address] });
  sender.write(100);
  await waitFor(() => sender.sink.problem !== undefined);

  await sender.relay.stop({ taskKey: "t", drain: false, deadline: Date.now() + 10_000 });

  assert.equal(sender.relay.stats().leftBytes, 0);
  assert.deepEqual(sender.relay.stats().totals.sinks.logstash?.dropped, { "not delivered in time": 100 });
});

test("what is left behind is dropped and counted after a while", async () => {
  const nobody = `127.0.0.1:${await freePort()}`;
  using sender = await Sender.start({ addresses: [nobody] }, { keepLeftMs: 200 });
  sender.write(100);
  await waitFor(() => sender.sink.problem !== undefined);
  await sender.relay.stop({ taskKey: "t", drain: true, deadline: Date.now() + 10_000 });

  await waitFor(() => sender.relay.stats().totals.sinks.logstash?.dropped["not delivered in time"] === 100);
  assert.equal(sender.relay.stats().leftBytes, 0);
});
