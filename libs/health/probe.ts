import type { CheckInfo, CommandInfo, HealthCheck } from "@berth/mesos/task-info";
import { runBesideProcess } from "./command-check.ts";
import { networkOf, touch } from "./dial.ts";
import { httpCheck } from "./http-check.ts";
import { limited } from "./limited.ts";
import type { Outcome } from "./outcome.ts";
import { Refused, TimedOut } from "./probe-error.ts";
import type { CheckedTask } from "./types.ts";

/** Makes one check of one task, but for commands in containers. */
export class Probe {
  readonly #procPath: string;

  constructor({ procPath }: { procPath: string }) {
    this.#procPath = procPath;
  }

  /** Rejects only for what is not the task's doing; whatever it started is killed when it settles. */
  async run(check: HealthCheck | CheckInfo, observed: CheckedTask["observed"], signal: AbortSignal): Promise<Outcome> {
    const timeoutMs = check.timeout_seconds * 1000;
    return await outcomeOf(timeoutMs, () => limited(timeoutMs, signal, (limit) => this.#probe(check, observed, limit)));
  }

  async #probe(check: HealthCheck | CheckInfo, observed: CheckedTask["observed"], limit: AbortSignal): Promise<Outcome> {
    switch (check.type) {
      case "COMMAND":
        return { kind: "command", ...(await runBesideProcess(observed.pid, commandOf(check), this.#procPath, limit)) };
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

/** What the task did, or did not do in time, as an outcome; rejects with all other errors. */
export async function outcomeOf(timeoutMs: number, probe: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await probe();
  } catch (error) {
    if (error instanceof TimedOut) return { kind: "timeout", afterMs: timeoutMs };
    if (error instanceof Refused) return { kind: "refused", why: error.message };
    throw error;
  }
}

/** Addresses, never the name `localhost`: a resolver may turn that into the other family's. */
function loopback(protocol: "IPv4" | "IPv6"): string {
  return protocol === "IPv6" ? "::1" : "127.0.0.1";
}

/** A container has an id of 64 hex digits, a command task its pid. */
export function isProcess(observed: CheckedTask["observed"]): boolean {
  return observed.id === String(observed.pid);
}

/** The command of a health check, or of a check, which has it one level deeper. */
export function commandOf(check: HealthCheck | CheckInfo): CommandInfo {
  const command = required(check.command, "command");
  return "command" in command ? command.command : command;
}

function required<T>(member: T | undefined, name: string): T {
  if (member === undefined) throw new Refused(`the check has no '${name}'`);
  return member;
}
