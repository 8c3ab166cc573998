import type { LogLane } from "@berth/logrelay";
import type { DockerEngine } from "@berth/runtime/docker/engine";
import type { VaultLane } from "@berth/vault";
import { type Counter, exposition, type LoopLag, type Metric } from "./admin/metrics.ts";
import type { Executors } from "./executor/executors.ts";
import { logMetrics } from "./logs/log-metrics.ts";

export interface MetricSources {
  executors: Executors;
  engine: DockerEngine;
  vault: VaultLane;
  logs: LogLane;
  /** TASK_* by state and reason, counted when an update is asked for. */
  transitions: Counter;
  lag: LoopLag;
  version: string;
}

/** Everything that `GET /metrics` tells. A part that does not answer is left out, the rest is told all the same. */
export async function hostMetrics(sources: MetricSources): Promise<string> {
  const { executors, engine, transitions, lag, version } = sources;
  const gauge = (name: string, help: string, value: number): Metric => ({ name, help, type: "gauge", samples: [{ value }] });
  const memory = process.memoryUsage();
  return exposition([
    {
      name: "berth_build_info",
      help: "Version of this supervisor.",
      type: "gauge",
      samples: [{ labels: { version, node: process.version }, value: 1 }],
    },
    {
      name: "berth_tasks",
      help: "Tasks of this host by the last state that the agent was told.",
      type: "gauge",
      samples: tasksByState(executors),
    },
    { name: "berth_worker_connections", help: "Workers that are connected.", type: "gauge", samples: [{ value: connected(executors) }] },
    { name: "berth_task_transitions_total", help: "Updates that went to the agent.", type: "counter", samples: transitions.samples },
    gauge("berth_docker_up", "1 while dockerd answers.", engine.health.up ? 1 : 0),
    gauge("berth_docker_thread_restarts_total", "How often the docker thread was replaced.", engine.restarts),
    ...(await dockerMetrics(engine)),
    ...(await vaultMetrics(sources.vault)),
    ...(await logMetrics(sources.logs)),
    gauge("berth_event_loop_lag_seconds", "Largest delay of the main thread since the last look.", lag.take()),
    gauge("process_resident_memory_bytes", "Resident memory of the supervisor, all threads.", memory.rss),
    gauge("process_heap_bytes", "Heap of the main thread in use.", memory.heapUsed),
  ]);
}

function tasksByState(executors: Executors): Metric["samples"] {
  const counts = new Map<string, number>();
  for (const task of executors.tasks()) {
    const state = task.describe().lastStatus?.state ?? "none";
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  return [...counts].map(([state, value]) => ({ labels: { state }, value }));
}

function connected(executors: Executors): number {
  return [...executors.all()].filter((executor) => executor.presence === "connected").length;
}

async function dockerMetrics(engine: DockerEngine): Promise<Metric[]> {
  try {
    const { calls, failures, timeouts, waiting, connections, eventStreamsOpened } = await engine.statistics();
    const counter = (name: string, help: string, value: number): Metric => ({ name, help, type: "counter", samples: [{ value }] });
    return [
      counter("berth_docker_requests_total", "Calls to dockerd.", calls),
      counter("berth_docker_request_failures_total", "Calls that failed.", failures),
      counter("berth_docker_request_timeouts_total", "Calls that were not answered in time.", timeouts),
      counter("berth_docker_event_streams_total", "How often the event stream was opened.", eventStreamsOpened),
      { name: "berth_docker_requests_waiting", help: "Calls that wait for a connection.", type: "gauge", samples: [{ value: waiting }] },
      {
        name: "berth_docker_connections",
        help: "Open connections to dockerd by use.",
        type: "gauge",
        samples: Object.entries(connections).map(([use, value]) => ({ labels: { use }, value })),
      },
    ];
  } catch {
    return [];
  }
}

async function vaultMetrics(vault: VaultLane): Promise<Metric[]> {
  const counters = await vault.counters();
  if (counters === undefined) return [];
  return Object.entries(counters).map(([name, value]) => ({
    name: `berth_vault_${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}_total`,
    help: "Of the host's Vault thread.",
    type: "counter",
    samples: [{ value }],
  }));
}
