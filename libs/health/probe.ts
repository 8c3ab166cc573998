import type { CheckInfo, CommandInfo, HealthCheck } from "@berth/mesos/task-info";
import { runBesideProcess, runInContainer } from "./command-check.ts";
import { networkOf, touch } from "./dial.ts";
import { httpCheck } from "./http-check.ts";
import { limited } from "./limited.ts";
import type { Outcome } from "./outcome.ts";
import { Refused, TimedOut } from "./probe-error.ts";
import type { CheckedTask, HealthParts } from "./types.ts";

/** Makes one check of one task. */
export class Probe {
  readonly #exec: HealthParts["exec"];
  readonly #procPath: string;

  constructor(parts: Pick<HealthParts, "exec"> & { procPath: string }) {
    this.#exec = parts.exec;
    this.#procPath = parts.procPath;
  }

  /** Rejects only for what is not the task's doing; whatever it started is gone when it settles. */
  async run(check: HealthCheck | CheckInfo, observed: CheckedTask["observed"], signal: AbortSignal): Promise<Outcome> {
    const timeoutMs = check.timeout_seconds * 1000;
    try {
      return await limited(timeoutMs, signal, (limit) => this.#probe(check, observed, timeoutMs, limit, signal));
    } catch (error) {
      if (error instanceof TimedOut) return { kind: "timeout", afterMs: timeoutMs };
      if (error instanceof Refused) return { kind: "refused", why: error.message };
      throw error;
    }
  }

  async #probe(
    check: HealthCheck | CheckInfo,
    observed: CheckedTask["observed"],
    timeoutMs: number,
    limit: AbortSignal,
    signal: AbortSignal,
  ): Promise<Outcome> {
    switch (check.type) {
      case "COMMAND": {
        const command = commandOf(check);
        // The engine keeps the time of an exec itself: only it can kill one. It must not be cut off before it has.
        const ran = isProcess(observed)
          ? runBesideProcess(observed.pid, command, this.#procPath, limit)
          : runInContainer(this.#exec, observed.id, command, timeoutMs, signal);
        return { kind: "command", ...(await ran) };
      }
      case "TCP": {
        const { port, protocol } = { protocol: "IPv4" as const, ...required(check.tcp, "tcp") };
        await touch(await networkOf(observed.pid, this.#procPath), loopback(protocol), port, limit);
        return { kind: "tcp", connected: true };
      }
      case "HTTP": {
        const http = { protocol: "IPv4" as const, scheme: "http" as const, ...required(check.http, "http") };
        const target = { scheme: http.scheme, host: loopback(http.protocol), port: http.port, path: http.path ?? "/" };
        return { kind: "http", ...(await httpCheck(await networkOf(observed.pid, this.#procPath), target, limit)) };
      }
    }
  }
}

/** Addresses, never the name `localhost`: a resolver may turn that into the other family's. */
function loopback(protocol: "IPv4" | "IPv6"): string {
  return protocol === "IPv6" ? "::1" : "127.0.0.1";
}

/** A container has an id of 64 hex digits, a command task its pid. */
function isProcess(observed: CheckedTask["observed"]): boolean {
  return observed.id === String(observed.pid);
}

function commandOf(check: HealthCheck | CheckInfo): CommandInfo {
  const command = required(check.command, "command");
  return "command" in command ? command.command : command;
}

function required<T>(member: T | undefined, name: string): T {
  if (member === undefined) throw new Refused(`the check has no '${name}'`);
  return member;
}
