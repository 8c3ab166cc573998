import { dirname, join } from "node:path";
import {
  type HookRow,
  HookRows,
  HostEvent,
  HostInfo,
  Killed,
  LogLine,
  PlanView,
  type SettingRow,
  SettingRows,
  TaskInspection,
  TaskSummaries,
  type TaskSummary,
  VaultView,
} from "@berth/admin-api";
import { formatDuration, parseGoDuration } from "@berth/duration";
import { type Command, InvalidArgumentError } from "commander";
import { AdminClient, type Answer } from "../admin-client.ts";
import { infoText } from "../info-text.ts";
import { inspectionText } from "../inspection-text.ts";
import { readJsonFile } from "../json-file.ts";
import { age, eventLine, print, table, yesNo } from "../output.ts";

/** ps, inspect, events, logs, kill, plan, hooks, info: everything that asks a running berthd. */
export function addOperatorCommands(cli: Command): void {
  const admin = (): AdminClient => new AdminClient(adminSocket(cli.opts<{ socket?: string }>().socket));
  /** With --json the answer as it came, which may say more than is known here. */
  const show = <Value>({ value, text }: Answer<Value>, readable: (value: Value) => string): void =>
    print(cli.opts<{ json?: boolean }>().json === true ? text : readable(value));

  cli
    .command("ps")
    .description("list the tasks of this host")
    .action(async () => show(await admin().ask(TaskSummaries, "GET", "/v1/tasks"), taskTable));

  cli
    .command("inspect <task>")
    .description(
      "show everything about one task, by its id, container name or container id, or a prefix of one; with --json its TaskInfo too",
    )
    .action(async (task: string) =>
      show(await admin().ask(TaskInspection, "GET", `/v1/tasks/${encodeURIComponent(task)}`), inspectionText),
    );

  cli
    .command("events")
    .description("show what happened to tasks")
    .option("-f, --follow", "go on as it happens")
    .option("--since <time>", "only what is newer than this long ago (10m) or this time (2026-01-31T12:00:00Z)", moment)
    .action(async (options: { follow?: boolean; since?: number }) => {
      const query = new URLSearchParams({ since: String(options.since ?? 0) });
      if (options.follow === true) query.set("follow", "true");
      for await (const event of admin().lines(HostEvent, `/v1/events?${query}`)) show(event, eventLine);
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
      const json = cli.opts<{ json?: boolean }>().json === true;
      for await (const { value, text } of admin().lines(LogLine, `/v1/tasks/${encodeURIComponent(task)}/logs?${query}`)) {
        if (json) print(text);
        else (value.stream === "stderr" ? process.stderr : process.stdout).write(`${value.text}\n`);
      }
    });

  cli
    .command("kill <task>")
    .description("stop a task gracefully; the framework hears TASK_KILLED")
    .option("--grace <duration>", "from SIGTERM to SIGKILL, instead of the task's own grace period", duration)
    .action(async (task: string, options: { grace?: number }) => {
      const body = options.grace === undefined ? {} : { gracePeriodMs: options.grace };
      const killed = await admin().ask(Killed, "POST", `/v1/tasks/${encodeURIComponent(task)}/kill`, body);
      show(killed, ({ taskId, gracePeriodMs }) => `${taskId} is being stopped (grace period ${formatDuration(gracePeriodMs)})`);
    });

  cli
    .command("plan <file>")
    .alias("explain")
    .description("show what would be created for a TaskInfo, which hooks would act and which rules refuse it, without doing anything")
    .action(async (file: string) => {
      const taskInfo = await readJsonFile(file);
      const plan = await admin().ask(PlanView, "POST", "/v1/plan", { taskInfo });
      show(plan, () => indented(plan.text));
    });

  cli
    .command("hooks")
    .description("list the hooks in the order in which they run")
    .action(async () => show(await admin().ask(HookRows, "GET", "/v1/hooks"), hookTable));

  cli
    .command("config")
    .description("show every setting of the running supervisor and where it came from")
    .action(async () => show(await admin().ask(SettingRows, "GET", "/v1/config"), settingTable));

  cli
    .command("info")
    .description("show the supervisor's own state: version, dockerd, worker threads")
    .action(async () => show(await admin().ask(HostInfo, "GET", "/v1/info"), infoText));

  const vault = cli.command("vault").description("the host's Vault token");
  vault
    .command("status")
    .description("show address, auth method, token and counters; never the token itself")
    .action(async () => {
      const status = await admin().ask(VaultView, "GET", "/v1/vault");
      show(status, () => indented(status.text));
    });
}

/** The admin socket lies beside the workers' socket. */
export function adminSocket(socket: string | undefined): string {
  return join(dirname(socket ?? process.env.BERTH_SOCKET ?? "/run/berth/berthd.sock"), "admin.sock");
}

function taskTable(tasks: readonly TaskSummary[]): string {
  const rows = tasks.map((task) => [
    task.taskId,
    (task.state ?? "-").replace("TASK_", ""),
    yesNo(task.healthy),
    age(task.launchedAt),
    task.runtime,
    (task.id ?? "-").slice(0, 12),
    task.image ?? "-",
    task.worker,
    task.step,
  ]);
  return table([["TASK", "STATE", "HEALTHY", "AGE", "RUNTIME", "ID", "IMAGE", "WORKER", "NOW"], ...rows]);
}

function hookTable(hooks: readonly HookRow[]): string {
  const rows = hooks.map((hook) => [
    hook.name,
    String(hook.priority),
    formatDuration(hook.timeoutMs),
    hook.failsTask ? "yes" : "no",
    hook.stages.join(", "),
  ]);
  return table([["HOOK", "PRIORITY", "TIMEOUT", "FAILS TASK", "STAGES"], ...rows]);
}

function settingTable(settings: readonly SettingRow[]): string {
  return table([["SETTING", "VALUE", "FROM"], ...settings.map((row) => [row.name, row.value, row.origin])]);
}

function indented(json: string): string {
  return JSON.stringify(JSON.parse(json), undefined, 2);
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
