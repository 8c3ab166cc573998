import { dirname, join } from "node:path";
import { formatDuration, parseGoDuration } from "@berth/duration";
import { type Command, InvalidArgumentError } from "commander";
import { AdminClient } from "../admin-client.ts";
import { readJsonFile } from "../json-file.ts";
import { age, clock, print, table } from "../output.ts";

interface Summary {
  taskId: string;
  executorId: string;
  name: string;
  runtime: string;
  state: string | null;
  step: string;
  healthy: boolean | null;
  id: string | null;
  image: string | null;
  worker: string;
  launchedAt: number;
}

interface HostEvent {
  at: number;
  taskId: string;
  what: string;
  detail?: string;
}

/** ps, inspect, events, logs, kill, plan, hooks, info: everything that asks a running berthd. */
export function addOperatorCommands(cli: Command): void {
  const admin = (): AdminClient => new AdminClient(adminSocket(cli.opts<{ socket?: string }>().socket));
  const asJson = (): boolean => cli.opts<{ json?: boolean }>().json === true;

  cli
    .command("ps")
    .description("list the tasks of this host")
    .action(async () => {
      const tasks = await admin().call<Summary[]>("GET", "/v1/tasks");
      print(asJson() ? JSON.stringify(tasks) : taskTable(tasks));
    });

  cli
    .command("inspect <task>")
    .description("show everything about one task, by its id, container name or container id, or a prefix of one")
    .action(async (task: string) => {
      const description = await admin().call<object>("GET", `/v1/tasks/${encodeURIComponent(task)}`);
      print(JSON.stringify(description, undefined, asJson() ? 0 : 2));
    });

  cli
    .command("events")
    .description("show what happened to tasks")
    .option("-f, --follow", "go on as it happens")
    .option("--since <time>", "only what is newer than this long ago (10m) or this time (2026-01-31T12:00:00Z)", moment)
    .action(async (options: { follow?: boolean; since?: number }) => {
      const query = new URLSearchParams({ since: String(options.since ?? 0) });
      if (options.follow === true) query.set("follow", "true");
      for await (const event of admin().lines<HostEvent>(`/v1/events?${query}`)) {
        print(
          asJson()
            ? JSON.stringify(event)
            : `${clock(event.at)}  ${event.taskId}  ${event.what}${event.detail === undefined ? "" : `: ${event.detail.replaceAll("\n", "\n    ")}`}`,
        );
      }
    });

  cli
    .command("logs <task>")
    .description("show the output of a task")
    .option("-f, --follow", "go on as it writes")
    .option("--since <time>", "only what is newer than this long ago (10m) or this time (2026-01-31T12:00:00Z)", moment)
    .option("--tail <lines>", "only the last so many lines", count)
    .option("--stderr", "only what it wrote to stderr")
    .action(async (task: string, options: { follow?: boolean; since?: number; tail?: number; stderr?: boolean }) => {
      const query = new URLSearchParams();
      if (options.follow === true) query.set("follow", "true");
      if (options.since !== undefined) query.set("since", String(options.since));
      if (options.stderr === true) query.set("stream", "stderr");
      if (options.tail !== undefined) query.set("tail", String(options.tail));
      for await (const line of admin().lines<{ stream: "stdout" | "stderr"; text: string }>(
        `/v1/tasks/${encodeURIComponent(task)}/logs?${query}`,
      )) {
        if (asJson()) print(JSON.stringify(line));
        else (line.stream === "stderr" ? process.stderr : process.stdout).write(`${line.text}\n`);
      }
    });

  cli
    .command("kill <task>")
    .description("stop a task gracefully; the framework hears TASK_KILLED")
    .option("--grace <duration>", "from SIGTERM to SIGKILL, instead of the task's own grace period", duration)
    .action(async (task: string, options: { grace?: number }) => {
      const body = options.grace === undefined ? {} : { gracePeriodMs: options.grace };
      const killed = await admin().call<{ taskId: string; gracePeriodMs: number }>(
        "POST",
        `/v1/tasks/${encodeURIComponent(task)}/kill`,
        body,
      );
      print(asJson() ? JSON.stringify(killed) : `${killed.taskId} is being stopped (grace period ${formatDuration(killed.gracePeriodMs)})`);
    });

  cli
    .command("plan <file>")
    .alias("explain")
    .description("show what would be created for a TaskInfo, which hooks would act and which rules refuse it, without doing anything")
    .action(async (file: string) => {
      const taskInfo = await readJsonFile(file);
      print(JSON.stringify(await admin().call("POST", "/v1/plan", { taskInfo }), undefined, asJson() ? 0 : 2));
    });

  cli
    .command("hooks")
    .description("list the hooks in the order in which they run")
    .action(async () => {
      const hooks = await admin().call<Array<{ name: string; priority: number; stages: string[]; timeoutMs: number; failsTask: boolean }>>(
        "GET",
        "/v1/hooks",
      );
      const rows = hooks.map((hook) => [
        hook.name,
        String(hook.priority),
        formatDuration(hook.timeoutMs),
        hook.failsTask ? "yes" : "no",
        hook.stages.join(", "),
      ]);
      print(asJson() ? JSON.stringify(hooks) : table([["HOOK", "PRIORITY", "TIMEOUT", "FAILS TASK", "STAGES"], ...rows]));
    });

  cli
    .command("config")
    .description("show every setting of the running supervisor and where it came from")
    .action(async () => {
      const rows = await admin().call<Array<{ name: string; value: string; origin: string }>>("GET", "/v1/config");
      print(
        asJson() ? JSON.stringify(rows) : table([["SETTING", "VALUE", "FROM"], ...rows.map((row) => [row.name, row.value, row.origin])]),
      );
    });

  cli
    .command("info")
    .description("show the supervisor's own state: version, dockerd, worker threads")
    .action(async () => print(JSON.stringify(await admin().call("GET", "/v1/info"), undefined, asJson() ? 0 : 2)));

  const vault = cli.command("vault").description("the host's Vault token");
  vault
    .command("status")
    .description("show address, auth method, token and counters; never the token itself")
    .action(async () => print(JSON.stringify(await admin().call("GET", "/v1/vault"), undefined, asJson() ? 0 : 2)));
}

/** The admin socket lies beside the workers' socket. */
export function adminSocket(socket: string | undefined): string {
  return join(dirname(socket ?? process.env.BERTH_SOCKET ?? "/run/berth/berthd.sock"), "admin.sock");
}

function taskTable(tasks: readonly Summary[]): string {
  const rows = tasks.map((task) => [
    task.taskId,
    (task.state ?? "-").replace("TASK_", ""),
    task.healthy === null ? "-" : task.healthy ? "yes" : "NO",
    age(task.launchedAt),
    task.runtime,
    (task.id ?? "-").slice(0, 12),
    task.image ?? "-",
    task.worker,
    task.step,
  ]);
  return table([["TASK", "STATE", "HEALTHY", "AGE", "RUNTIME", "ID", "IMAGE", "WORKER", "NOW"], ...rows]);
}

function duration(text: string): number {
  const milliseconds = parseGoDuration(text);
  if (milliseconds === undefined) throw new InvalidArgumentError("a duration looks like 90s, 10m or 1h30m");
  return milliseconds;
}

/** A duration before now, RFC 3339, or seconds since the epoch, as `docker logs` has it; as milliseconds since the epoch. */
function moment(text: string): number {
  const ago = parseGoDuration(text);
  if (ago !== undefined) return Math.max(0, Date.now() - ago);
  const at = /^\d{9,11}(\.\d+)?$/.test(text) ? Number(text) * 1000 : /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) throw new InvalidArgumentError("a time looks like 10m, 1h30m or 2026-01-31T12:00:00Z");
  return Math.max(0, at);
}

function count(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("a whole number is expected");
  return Number(text);
}
