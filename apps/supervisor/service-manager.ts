import { execFile } from "node:child_process";
import type { TaskLog } from "./task/ports.ts";

/**
 * Tells systemd how the daemon is (sd_notify(3)). Node has no unix datagram sockets, so the messages go through the
 * `systemd-notify` program; the unit therefore has NotifyAccess=all. Outside systemd every call does nothing.
 */
export class ServiceManager {
  readonly #active: boolean;
  readonly #watchdogMs: number | undefined;
  readonly #log: TaskLog;
  #timer: NodeJS.Timeout | undefined;

  constructor(environment: Readonly<Record<string, string | undefined>>, log: TaskLog) {
    this.#active = environment.NOTIFY_SOCKET !== undefined;
    const microseconds = Number(environment.WATCHDOG_USEC ?? Number.NaN);
    this.#watchdogMs = this.#active && microseconds > 0 ? microseconds / 1000 : undefined;
    this.#log = log;
  }

  /** The sockets are served. From now on the watchdog hears from the event loop: a loop that hangs stops telling. */
  ready(status: string): void {
    this.#tell("READY=1", `STATUS=${status}`);
    if (this.#watchdogMs === undefined) return;
    this.#timer = setInterval(() => this.#tell("WATCHDOG=1"), this.#watchdogMs / 3);
    this.#timer.unref();
  }

  stopping(): void {
    clearInterval(this.#timer);
    this.#tell("STOPPING=1");
  }

  #tell(...assignments: string[]): void {
    if (!this.#active) return;
    execFile("systemd-notify", ["--pid=parent", ...assignments], (error) => {
      if (error !== null) this.#log.warn({ err: error.message, assignments }, "systemd could not be told");
    });
  }
}
