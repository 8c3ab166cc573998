import assert from "node:assert/strict";
import { test } from "node:test";
import type { Observed } from "@berth/runtime";
import { decide } from "./decide.ts";
import { type Checkpoint, FRESH_CHECKPOINT, type Phase, type Situation } from "./situation.ts";
import type { Stop } from "./stop.ts";

const NOW = 1_000_000;
const created: Observed = { state: "created", id: "c1" };
const running: Observed = { state: "running", id: "c1", pid: 42, startedAt: NOW - 5000, addresses: [] };
const exited: Observed = {
  state: "exited",
  id: "c1",
  exit: { exitCode: 3, oomKilled: false, startedAt: NOW - 5000, finishedAt: NOW - 1000 },
};
const neverRan: Observed = {
  state: "exited",
  id: "c1",
  exit: { exitCode: 127, oomKilled: false, finishedAt: NOW - 1000, error: "no such file" },
};
const absent: Observed = { state: "absent" };

const stop: Stop = {
  cause: "framework-kill",
  message: "killed on request",
  requestedAt: NOW - 10,
  gracePeriodMs: 5000,
  signalBy: NOW + 10_000,
};
const statusRunning = { state: "TASK_RUNNING", at: NOW - 4000 } as const;
const statusStarting = { state: "TASK_STARTING", at: NOW - 6000 } as const;

interface Facts extends Partial<Omit<Situation, "checkpoint">> {
  checkpoint?: Partial<Checkpoint>;
}

function situation({ checkpoint, ...facts }: Facts): Situation {
  return {
    now: NOW,
    held: true,
    worker: "connected",
    observed: absent,
    planned: true,
    secretsResolved: true,
    imageReady: true,
    createdHere: true,
    absenceIsCertain: false,
    cleanedUp: false,
    logsCopied: false,
    removed: false,
    lastStatus: statusStarting,
    terminalAcknowledged: false,
    takesKilling: false,
    healthy: false,
    ...facts,
    checkpoint: { ...FRESH_CHECKPOINT, ...checkpoint },
  };
}

const at = (phase: Phase, more: Partial<Checkpoint> = {}): Partial<Checkpoint> => ({ phase, ...more });

const TABLE: Array<[what: string, facts: Facts, step: object]> = [
  ["what is there is looked at first", { observed: undefined }, { kind: "inspect" }],

  // A launch, step by step
  ["a new task is planned", { planned: false, lastStatus: undefined }, { kind: "plan" }],
  ["the framework hears that it starts", { lastStatus: undefined }, { kind: "report-state", state: "TASK_STARTING" }],
  ["its image is made present", { imageReady: false }, { kind: "pull" }],
  ["its secrets are read", { secretsResolved: false }, { kind: "resolve-secrets" }],
  ["it is created", {}, { kind: "create" }],
  ["before its start hooks run", { observed: created }, { kind: "hooks", stage: "beforeStart" }],
  ["starting is held first", { observed: created, checkpoint: { stages: ["beforeStart"] } }, { kind: "enter", phase: "starting" }],
  [
    "an unheld starting waits",
    { observed: created, held: false, checkpoint: at("starting") },
    { kind: "wait", why: "the worker has not held the checkpoint yet" },
  ],
  ["a held starting starts", { observed: created, checkpoint: at("starting") }, { kind: "start" }],
  ["after its start hooks run", { observed: running, checkpoint: at("starting") }, { kind: "hooks", stage: "afterStart" }],
  [
    "then it is running",
    { observed: running, checkpoint: at("starting", { stages: ["afterStart"] }) },
    { kind: "enter", phase: "running" },
  ],
  ["and the framework hears it", { observed: running, checkpoint: at("running") }, { kind: "report-state", state: "TASK_RUNNING" }],
  [
    "a healthy task enters service",
    { observed: running, lastStatus: statusRunning, healthy: true, checkpoint: at("running") },
    { kind: "hooks", stage: "afterHealthy" },
  ],
  [
    "a running task is left alone",
    { observed: running, lastStatus: statusRunning, checkpoint: at("running") },
    { kind: "wait", why: "the task runs" },
  ],
  [
    "a health update goes out",
    { observed: running, lastStatus: statusRunning, pendingReport: { state: "TASK_RUNNING", healthy: false }, checkpoint: at("running") },
    { kind: "report-pending" },
  ],

  // A supervisor that comes back
  ["a container created in an earlier life is made anew", { observed: created, createdHere: false }, { kind: "discard" }],
  ["a container that runs although no start was held is kept", { observed: running }, { kind: "enter", phase: "starting" }],
  [
    "a start that was held and has not happened is made up for",
    { observed: created, createdHere: false, checkpoint: at("starting") },
    { kind: "start" },
  ],
  ["a start whose container is gone is never repeated", { checkpoint: at("starting") }, { kind: "conclude" }],
  ["unless it is certain that it never was", { planned: false, absenceIsCertain: true, checkpoint: at("starting") }, { kind: "plan" }],
  ["an adopted task is planned for its limits", { observed: running, planned: false, checkpoint: at("running") }, { kind: "plan" }],
  [
    "a task that ended meanwhile is concluded",
    { observed: exited, lastStatus: statusRunning, checkpoint: at("running") },
    { kind: "conclude" },
  ],
  [
    "a short task is reported running before its end",
    { observed: exited, checkpoint: at("starting") },
    { kind: "report-state", state: "TASK_RUNNING" },
  ],
  ["one that never ran is not", { observed: neverRan, checkpoint: at("starting") }, { kind: "conclude" }],
  ["a vanished container is concluded", { lastStatus: statusRunning, checkpoint: at("running") }, { kind: "conclude" }],

  // Kills
  ["a kill before create ends the launch", { checkpoint: { stop } }, { kind: "conclude" }],
  ["a kill between create and start too", { observed: created, checkpoint: at("starting", { stop }) }, { kind: "conclude" }],
  [
    "a kill is held before anything else",
    { observed: running, lastStatus: statusRunning, checkpoint: at("running", { stop }) },
    { kind: "enter", phase: "stopping" },
  ],
  [
    "an unheld kill waits",
    { observed: running, held: false, worker: "away", checkpoint: at("stopping", { stop }) },
    { kind: "wait", why: "the worker is away" },
  ],
  [
    "a framework that can take it hears of the kill",
    { observed: running, takesKilling: true, lastStatus: statusRunning, checkpoint: at("stopping", { stop }) },
    { kind: "report-state", state: "TASK_KILLING" },
  ],
  [
    "deregistration and drain come before the signal",
    { observed: running, checkpoint: at("stopping", { stop }) },
    { kind: "hooks", stage: "beforeStop", until: stop.signalBy },
  ],
  [
    "then SIGTERM",
    { observed: running, checkpoint: at("stopping", { stop, stages: ["beforeStop"] }) },
    { kind: "signal", signal: "SIGTERM" },
  ],
  [
    "SIGTERM also when the hooks' time was up",
    { observed: running, checkpoint: at("stopping", { stop: { ...stop, signalBy: NOW } }) },
    { kind: "signal", signal: "SIGTERM" },
  ],
  [
    "without a grace period SIGKILL at once",
    { observed: running, checkpoint: at("stopping", { stop: { ...stop, gracePeriodMs: 0 }, stages: ["beforeStop"] }) },
    { kind: "signal", signal: "SIGKILL" },
  ],
  [
    "the grace period runs",
    { observed: running, checkpoint: at("stopping", { stop: { ...stop, signalledAt: NOW - 1000 } }) },
    { kind: "wait", why: "the grace period runs", until: NOW + 4000 },
  ],
  [
    "and ends",
    { observed: running, checkpoint: at("stopping", { stop: { ...stop, signalledAt: NOW - 5000 } }) },
    { kind: "signal", signal: "SIGKILL" },
  ],
  [
    "what outlives SIGKILL is killed again",
    { observed: running, checkpoint: at("stopping", { stop: { ...stop, signalledAt: NOW - 60_000, killedAt: NOW - 20_000 } }) },
    { kind: "signal", signal: "SIGKILL" },
  ],
  ["a stopped container concludes", { observed: exited, checkpoint: at("stopping", { stop }) }, { kind: "conclude" }],

  // The end
  [
    "the outcome is held first",
    { observed: exited, held: false, checkpoint: at("ended") },
    { kind: "wait", why: "the worker has not held the checkpoint yet" },
  ],
  [
    "a task that ran is deregistered",
    { observed: exited, checkpoint: at("ended", { startedAt: 1 }) },
    { kind: "hooks", stage: "beforeStop" },
  ],
  ["cleanup runs before the terminal update", { observed: exited, checkpoint: at("ended") }, { kind: "hooks", stage: "afterStop" }],
  ["so does the copy of the last output", { observed: exited, cleanedUp: true, checkpoint: at("ended") }, { kind: "copy-logs" }],
  [
    "then the agent hears the outcome",
    { observed: exited, cleanedUp: true, logsCopied: true, checkpoint: at("ended") },
    { kind: "report-outcome" },
  ],
  [
    "a worker that is away hears it later",
    { observed: exited, worker: "away", cleanedUp: true, logsCopied: true, checkpoint: at("ended") },
    { kind: "wait", why: "the worker is away" },
  ],
  [
    "the acknowledgement is waited for",
    { cleanedUp: true, logsCopied: true, lastStatus: { state: "TASK_FAILED", at: NOW }, checkpoint: at("ended") },
    { kind: "wait", why: "the agent has not acknowledged the terminal update yet" },
  ],
  [
    "only then is the container removed",
    {
      cleanedUp: true,
      logsCopied: true,
      lastStatus: { state: "TASK_FAILED", at: NOW },
      terminalAcknowledged: true,
      checkpoint: at("ended"),
    },
    { kind: "remove" },
  ],
  [
    "and the task is finished",
    {
      cleanedUp: true,
      logsCopied: true,
      removed: true,
      lastStatus: { state: "TASK_FAILED", at: NOW },
      terminalAcknowledged: true,
      checkpoint: at("ended"),
    },
    { kind: "finish" },
  ],

  // Nobody to tell
  [
    "a dead worker's task is stopped without reports",
    { observed: running, worker: "dead", takesKilling: true, checkpoint: at("stopping", { stop, stages: ["beforeStop"] }) },
    { kind: "signal", signal: "SIGTERM" },
  ],
  [
    "and removed without an acknowledgement",
    { observed: exited, worker: "dead", cleanedUp: true, logsCopied: true, checkpoint: at("ended") },
    { kind: "remove" },
  ],
];

for (const [what, facts, step] of TABLE) {
  test(`decide: ${what}`, () => {
    const decided = decide(situation(facts));

    assert.deepEqual(decided, step);
  });
}

test("decide: no situation leads to a start of a task that may have been started before", () => {
  for (const phase of ["running", "stopping", "ended"] as const) {
    for (const observed of [undefined, absent, created, running, exited]) {
      for (const held of [true, false]) {
        const decided = decide(situation({ observed, held, checkpoint: at(phase) }));

        assert.notEqual(decided.kind, "start", `${phase} with ${observed?.state}`);
        assert.notEqual(decided.kind, "create", `${phase} with ${observed?.state}`);
      }
    }
  }
});
