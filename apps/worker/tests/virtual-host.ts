import { type Event, isTerminal, type StatusUpdate } from "@berth/mesos";
import { encodeFrame, type SupervisorMessage, type WorkerMessage } from "@berth/protocol";
import { encodeRecord, RecordDecoder } from "@berth/recordio";
import type { Connection, ConnectionHandlers, Host } from "../core/host.ts";

/** A machine whose clock only moves when a test says so: for the minutes that the worker waits. Sockets lead to the two peers below. */
export class VirtualHost {
  readonly agent = new VirtualAgent(this);
  readonly supervisor = new VirtualSupervisor(this);
  readonly environment: Record<string, string>;
  now = 0;
  exitCode: number | undefined;
  log = "";
  #timers: Array<{ id: number; at: number; callback: () => void }> = [];
  #nextTimer = 1;
  #seed = 1;

  constructor(environment: Record<string, string> = {}) {
    this.environment = {
      MESOS_AGENT_ENDPOINT: "192.0.2.1:5051",
      MESOS_SLAVE_PID: "slave(1)@192.0.2.1:5051",
      MESOS_SLAVE_ID: "S0",
      MESOS_FRAMEWORK_ID: "f",
      MESOS_EXECUTOR_ID: "e",
      MESOS_DIRECTORY: "/sandbox",
      MESOS_CHECKPOINT: "1",
      MESOS_RECOVERY_TIMEOUT: "15mins",
      MESOS_SUBSCRIPTION_BACKOFF_MAX: "2secs",
      ...environment,
    };
  }

  /** Calls everything that is due within this time, in order. */
  advance(milliseconds: number): void {
    const end = this.now + milliseconds;
    while (this.exitCode === undefined) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at || a.id - b.id)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.now = Math.max(this.now, next.at);
      next.callback();
    }
    this.now = Math.max(this.now, end);
  }

  /** Calls back from the event loop, not from within the call that asks for it. */
  soon(callback: () => void): void {
    this.#setTimer(0, callback);
  }

  #setTimer(delay: number, callback: () => void): number {
    const id = this.#nextTimer++;
    this.#timers.push({ id, at: this.now + delay, callback });
    return id;
  }

  get host(): Host {
    const none = { kind: "other", device: "", inode: "" } as const;
    return {
      connectUnix: (_, handlers) => this.supervisor.connect(handlers),
      connectTcp: (_address, _port, handlers) => this.agent.connect(handlers),
      setTimer: (delay, callback) => this.#setTimer(delay, callback),
      clearTimer: (id) => {
        this.#timers = this.#timers.filter((timer) => timer.id !== id);
      },
      wallClock: () => 1_763_716_500_000 + this.now,
      monotonicClock: () => this.now,
      spawn: () => "this machine has no processes",
      readChildren: () => {},
      kill: () => false,
      onSignal: () => {},
      pid: () => 4711,
      arguments: () => [],
      environment: () => this.environment,
      eraseEnvironment: (name) => delete this.environment[name],
      setTitle: () => {},
      descriptor: () => none,
      writeDescriptor: (_, bytes) => {
        this.log += Buffer.from(bytes).toString();
        return bytes.length;
      },
      readTextFile: () => null,
      writeTextFile: () => false,
      listDirectory: () => [],
      makeDirectory: () => false,
      removeDirectory: () => false,
      readLink: () => null,
      encodeUtf8: (text) => Buffer.from(text),
      decodeUtf8: (bytes) => Buffer.from(bytes).toString(),
      encodeBase64: (bytes) => Buffer.from(bytes).toString("base64"),
      decodeBase64: (text) => Buffer.from(text, "base64"),
      randomBytes: (count) => Uint8Array.from({ length: count }, () => this.#random()),
      exit: (code) => {
        this.exitCode ??= code;
      },
    };
  }

  /** All byte values come, in an order that is the same in each run. */
  #random(): number {
    this.#seed = (this.#seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return (this.#seed >> 16) & 255;
  }
}

/** One end of a connection that a peer holds. */
class Line {
  closed = false;
  readonly #handlers: ConnectionHandlers;

  constructor(handlers: ConnectionHandlers) {
    this.#handlers = handlers;
  }

  close(): void {
    this.closed = true;
  }

  say(bytes: Uint8Array): void {
    if (!this.closed) this.#handlers.data(bytes);
  }

  break(error: string | null): void {
    if (this.closed) return;
    this.closed = true;
    this.#handlers.close(error);
  }
}

interface HeardCall {
  at: number;
  type: string;
  status?: StatusUpdate;
}

/** Answers as an agent does, at once; `down` names the error that connections meet. */
class VirtualAgent {
  down: string | undefined;
  acknowledges = true;
  /** When somebody tried to connect. */
  readonly attempts: number[] = [];
  readonly calls: HeardCall[] = [];
  readonly #world: VirtualHost;
  readonly #lines = new Set<Line>();
  #stream: Line | undefined;

  constructor(world: VirtualHost) {
    this.#world = world;
  }

  /** Breaks every connection; with an error new ones meet it, until `up`. */
  fall(error: string): void {
    this.down = error;
    this.#stream = undefined;
    for (const line of [...this.#lines]) line.break(error);
    this.#lines.clear();
  }

  up(): void {
    this.down = undefined;
  }

  launch(taskId: string): void {
    this.send({ type: "LAUNCH", launch: { task: { task_id: { value: taskId } } } });
  }

  send(event: Event): void {
    const record = Buffer.from(encodeRecord(Buffer.from(JSON.stringify(event))));
    this.#stream?.say(Buffer.concat([Buffer.from(`${record.length.toString(16)}\r\n`), record, Buffer.from("\r\n")]));
  }

  connect(handlers: ConnectionHandlers): Connection {
    this.attempts.push(this.#world.now);
    const line = new Line(handlers);
    this.#world.soon(() => {
      if (line.closed) return;
      if (this.down !== undefined) return line.break(this.down);
      this.#lines.add(line);
      handlers.open();
    });
    return {
      write: (bytes) => this.#world.soon(() => this.#answer(line, Buffer.from(bytes).toString())),
      close: () => line.close(),
    };
  }

  #answer(line: Line, request: string): void {
    if (line.closed || this.down !== undefined) return;
    const call = JSON.parse(request.slice(request.indexOf("\r\n\r\n"))) as { type: string; update?: { status: StatusUpdate } };
    const status = call.update?.status;
    this.calls.push({ at: this.#world.now, type: call.type, ...(status === undefined ? {} : { status }) });
    if (call.type === "SUBSCRIBE") {
      this.#stream = line;
      line.say(Buffer.from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
      this.send({ type: "SUBSCRIBED", subscribed: { container_id: { value: "c" } } });
      return;
    }
    line.say(Buffer.from("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"));
    if (status === undefined || !this.acknowledges) return;
    this.#world.soon(() => this.send({ type: "ACKNOWLEDGED", acknowledged: { task_id: status.task_id, uuid: status.uuid } }));
  }
}

/** Welcomes every worker, unless `down`; lets it go when every task is acknowledged. */
class VirtualSupervisor {
  down = false;
  readonly attempts: number[] = [];
  readonly heard: WorkerMessage[] = [];
  readonly #world: VirtualHost;
  readonly #open = new Set<string>();
  #line: Line | undefined;

  constructor(world: VirtualHost) {
    this.#world = world;
  }

  say(message: SupervisorMessage): void {
    this.#line?.say(encodeFrame(message, Buffer.from));
  }

  fall(): void {
    this.down = true;
    this.#line?.break("ECONNRESET");
    this.#line = undefined;
  }

  connect(handlers: ConnectionHandlers): Connection {
    this.attempts.push(this.#world.now);
    const line = new Line(handlers);
    const decoder = new RecordDecoder((record) => this.#hear(JSON.parse(Buffer.from(record).toString()) as WorkerMessage));
    this.#world.soon(() => {
      if (this.down) return line.break("ECONNREFUSED");
      this.#line = line;
      handlers.open();
    });
    return { write: (bytes) => this.#world.soon(() => line.closed || decoder.push(bytes)), close: () => line.close() };
  }

  #hear(message: WorkerMessage): void {
    this.heard.push(message);
    if (message.type === "hello") this.say({ type: "welcome", protocol: 1, version: "virtual" });
    if (message.type === "hello" || message.type === "launch") for (const { taskId } of message.tasks) this.#open.add(taskId);
    if (message.type !== "acknowledged" || !isTerminal(message.state)) return;
    this.#open.delete(message.taskId);
    if (this.#open.size === 0) this.say({ type: "exit", code: 0 });
  }
}
