import assert from "node:assert/strict";
import { test } from "node:test";
import type { HostEvent } from "@berth/admin-api";
import { EventJournal } from "./event-journal.ts";

function add(journal: EventJournal, count: number, from = 1): void {
  for (let i = 0; i < count; i++) journal.add({ at: from + i, taskId: "t", what: `event ${from + i}` });
}

async function take(events: AsyncGenerator<HostEvent>, count: number): Promise<string[]> {
  const taken: string[] = [];
  for (let i = 0; i < count; i++) taken.push(((await events.next()).value as HostEvent).what);
  return taken;
}

test("journal: it keeps the last events, and tells those since a time", () => {
  const journal = new EventJournal(3);
  add(journal, 5);

  assert.deepEqual(
    journal.since(0).map(({ sequence }) => sequence),
    [3, 4, 5],
  );
  assert.deepEqual(
    journal.since(5).map(({ what }) => what),
    ["event 5"],
  );
});

test("journal: a follower gets what was and what comes, each once and in order", async () => {
  const journal = new EventJournal();
  add(journal, 2);
  const stop = new AbortController();
  const events = journal.follow(0, stop.signal);

  assert.deepEqual(await take(events, 2), ["event 1", "event 2"]);
  add(journal, 2, 3);
  assert.deepEqual(await take(events, 2), ["event 3", "event 4"]);

  const waiting = events.next();
  stop.abort();
  assert.equal((await waiting).done, true);
  assert.equal(journal.followers, 0);
});

test("journal: a follower that falls behind is told how much it missed, and costs no memory meanwhile", async () => {
  const journal = new EventJournal(3);
  const stop = new AbortController();
  const events = journal.follow(0, stop.signal);
  const first = events.next();
  add(journal, 1);
  await first;

  add(journal, 10, 2);

  const missed = (await events.next()).value as HostEvent;
  assert.deepEqual([missed.what, missed.detail], ["missed", "7 events"]);
  assert.deepEqual(await take(events, 3), ["event 9", "event 10", "event 11"]);
  stop.abort();
});
