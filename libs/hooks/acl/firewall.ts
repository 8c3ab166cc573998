import { existsSync } from "node:fs";
import { runTool } from "../tool.ts";

export type Family = "IPv4" | "IPv6";

/** A chain of our own and the jumps that lead to it. Arguments are written as iptables takes them, without quoting. */
export interface OwnChain {
  table: "filter" | "nat";
  /** At most 28 characters. */
  name: string;
  rules: readonly string[];
  /** Put at the head of their chains, so that no accept of somebody else's comes first. */
  jumps: ReadonlyArray<{ from: string; match: string }>;
}

const PROGRAMS: Record<Family, { save: string; restore: string }> = {
  IPv4: { save: "iptables-save", restore: "iptables-restore" },
  IPv6: { save: "ip6tables-save", restore: "ip6tables-restore" },
};
/** How long iptables waits for another one's lock, seconds. */
const LOCK_WAIT = "10";

/**
 * The packet filter of one network namespace.
 *
 * INVARIANTS
 * - Only chains that the caller names, and jumps to them, are touched; each change of a family is one atomic restore.
 * - Putting chains in twice, or taking out what is not there, changes nothing.
 * - Calls are made one after the other: what is read is still so when the change is made.
 */
export class Firewall {
  readonly #enter: readonly string[];
  #last: Promise<unknown> = Promise.resolve();

  /** @param namespace Path of the network namespace ("/proc/<pid>/ns/net"); our own where it is absent. */
  constructor(namespace?: string) {
    this.#enter = namespace === undefined ? [] : ["nsenter", `--net=${namespace}`];
  }

  /** The families that this host's kernel has. */
  get families(): Family[] {
    return existsSync("/proc/net/if_inet6") ? ["IPv4", "IPv6"] : ["IPv4"];
  }

  /** Makes these chains and jumps so, whatever of them was there before. */
  put(family: Family, chains: readonly OwnChain[], signal: AbortSignal): Promise<void> {
    return this.#alone(async () => {
      const saved = await this.#save(family, signal);
      await this.#restore(
        family,
        chains.map((chain) => ({ table: chain.table, lines: putLines(saved, chain) })),
        signal,
      );
    });
  }

  /** Takes out every chain of these names, in any table, with the jumps that lead to it. */
  remove(family: Family, names: readonly string[], signal: AbortSignal): Promise<void> {
    return this.#alone(async () => {
      const saved = await this.#save(family, signal);
      const changes = [...saved.keys()].map((table) => ({ table, lines: removeLines(saved.get(table) ?? [], names) }));
      await this.#restore(family, changes, signal);
    });
  }

  /** Whether a chain is there. */
  async has(family: Family, table: string, chain: string, signal: AbortSignal): Promise<boolean> {
    const saved = await this.#alone(() => this.#save(family, signal));
    return (saved.get(table) ?? []).some((line) => line.startsWith(`:${chain} `));
  }

  /** Lines of `iptables-save` by table. */
  async #save(family: Family, signal: AbortSignal): Promise<Map<string, string[]>> {
    const text = await runTool({ argv: [...this.#enter, PROGRAMS[family].save], signal });
    const tables = new Map<string, string[]>();
    let current: string[] = [];
    for (const line of text.split("\n")) {
      if (line.startsWith("*")) {
        current = [];
        tables.set(line.slice(1), current);
      } else if (line.startsWith(":") || line.startsWith("-A ")) current.push(line);
    }
    return tables;
  }

  async #restore(family: Family, changes: ReadonlyArray<{ table: string; lines: string[] }>, signal: AbortSignal): Promise<void> {
    const tables = new Map<string, string[]>();
    for (const { table, lines } of changes) tables.set(table, [...(tables.get(table) ?? []), ...lines]);
    const input = [...tables]
      .filter(([, lines]) => lines.length > 0)
      // Chains are declared before any rule names them.
      .map(([table, lines]) => [`*${table}`, ...lines.filter(isDeclaration), ...lines.filter((line) => !isDeclaration(line)), "COMMIT", ""])
      .map((lines) => lines.join("\n"))
      .join("");
    if (input === "") return;
    await runTool({ argv: [...this.#enter, PROGRAMS[family].restore, "-w", LOCK_WAIT, "--noflush"], input, signal });
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function isDeclaration(line: string): boolean {
  return line.startsWith(":");
}

function putLines(saved: ReadonlyMap<string, string[]>, chain: OwnChain): string[] {
  return [
    // With --noflush, declaring a chain that exists empties it.
    `:${chain.name} - [0:0]`,
    ...jumpsTo(saved.get(chain.table) ?? [], chain.name),
    ...chain.rules.map((rule) => `-A ${chain.name} ${rule}`),
    ...chain.jumps.map(({ from, match }) => `-I ${from} 1 ${match} -j ${chain.name}`.replaceAll("  ", " ")),
  ];
}

function removeLines(saved: readonly string[], names: readonly string[]): string[] {
  const present = names.filter((name) => saved.some((line) => line.startsWith(`:${name} `)));
  return [
    ...present.flatMap((name) => jumpsTo(saved, name)),
    ...present.map((name) => `-F ${name}`),
    ...present.map((name) => `-X ${name}`),
  ];
}

/** Deletes each jump to the chain, as often as it is there. */
function jumpsTo(saved: readonly string[], name: string): string[] {
  return saved.filter((line) => line.startsWith("-A ") && line.endsWith(` -j ${name}`)).map((line) => `-D ${line.slice(3)}`);
}
