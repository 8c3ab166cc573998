/** dockerd replays at most its last 256 events, so that many of ours can come twice after a re-opening. */
const REMEMBERED = 512;

/** Knows which events were seen lately: a stream opened again begins a moment before the last one that came. */
export class RecentEvents {
  readonly #seen = new Set<string>();

  /** False when it was here already. */
  add(event: { timeNano: bigint; id: string; action: string; detail?: string }): boolean {
    const key = `${event.timeNano} ${event.id} ${event.action} ${event.detail ?? ""}`;
    if (this.#seen.has(key)) return false;
    this.#seen.add(key);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value as string);
    return true;
  }
}
