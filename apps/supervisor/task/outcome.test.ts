import assert from "node:assert/strict";
import { test } from "node:test";
import { type ExitContext, outcomeOfExit, outcomeOfVanishing } from "./outcome.ts";
import type { Stop, StopCause } from "./stop.ts";

const stopped = (cause: StopCause, more: Partial<Stop> = {}): Stop => ({
  cause,
  message: "why it was stopped",
  requestedAt: 1000,
  gracePeriodMs: 5000,
  signalBy: 2000,
  signalledAt: 2000,
  ...more,
});

function context(exitCode: number, stop?: Stop, more: Partial<ExitContext> & { oomKilled?: boolean } = {}): ExitContext {
  const { oomKilled = false, ...rest } = more;
  return {
    exit: { exitCode, oomKilled, startedAt: 1, finishedAt: 2 },
    stop,
    exitStates: "berth",
    successState: "TASK_FINISHED",
    memoryLimitBytes: undefined,
    noun: "container",
    ...rest,
  };
}

const TABLE: Array<[what: string, context: ExitContext, state: string, message: string]> = [
  ["exit 0", context(0), "TASK_FINISHED", "container exited with 0"],
  ["another exit code", context(3), "TASK_FAILED", "container exited with 3"],
  ["a signal nobody asked for", context(139), "TASK_FAILED", "container exited with 139: killed by SIGSEGV, which Berth did not send"],
  [
    "out of memory",
    context(137, undefined, { oomKilled: true, memoryLimitBytes: 64 * 1024 * 1024 }),
    "TASK_FAILED",
    "container exited with 137: OOM killed at 64 MiB",
  ],
  ["a kill that it heeds", context(0, stopped("framework-kill")), "TASK_KILLED", "why it was stopped; container exited with 0"],
  [
    "a kill by SIGTERM",
    context(143, stopped("framework-kill")),
    "TASK_KILLED",
    "why it was stopped; container exited with 143: ended by SIGTERM within the grace period",
  ],
  [
    "a kill that needs force",
    context(137, stopped("framework-kill", { killedAt: 7000 })),
    "TASK_KILLED",
    "why it was stopped; container exited with 137: killed by SIGKILL after the 5s grace period",
  ],
  ["the operator's drain", context(0, stopped("operator")), "TASK_KILLED", "why it was stopped; container exited with 0"],
  ["a failed health check", context(0, stopped("unhealthy")), "TASK_KILLED", "why it was stopped; container exited with 0"],
  ["Sidecar's verdict", context(0, stopped("sidecar-unhealthy")), "TASK_FAILED", "why it was stopped; container exited with 0"],
  [
    "the completion time",
    context(137, stopped("max-completion-time", { gracePeriodMs: 0, killedAt: 2000 })),
    "TASK_FAILED",
    "why it was stopped; container exited with 137: killed by SIGKILL without a grace period",
  ],
  [
    "the incumbent's table: 0 although killed",
    context(0, stopped("framework-kill"), { exitStates: "sidecar-executor" }),
    "TASK_FINISHED",
    "why it was stopped; container exited with 0",
  ],
  [
    "the incumbent's table: 129",
    context(129, undefined, { exitStates: "sidecar-executor" }),
    "TASK_KILLED",
    "container exited with 129: killed by SIGHUP, which Berth did not send",
  ],
  ["the incumbent's table: 165", context(165, undefined, { exitStates: "sidecar-executor" }), "TASK_KILLED", "container exited with 165"],
  ["the incumbent's table: 166", context(166, undefined, { exitStates: "sidecar-executor" }), "TASK_FAILED", "container exited with 166"],
];

for (const [what, given, state, message] of TABLE) {
  test(`outcome: ${what} → ${state}`, () => {
    const outcome = outcomeOfExit(given);

    assert.equal(outcome.state, state);
    assert.equal(outcome.message, message);
  });
}

test("outcome: a container that vanished is a failure, or a kill where one was under way", () => {
  assert.equal(outcomeOfVanishing(undefined, "berth-web").state, "TASK_FAILED");
  assert.equal(outcomeOfVanishing(stopped("framework-kill"), "berth-web").state, "TASK_KILLED");
});
