import type { FollowOptions, SinkConfig, TlsOptions } from "@berth/logrelay";
import { label, type TaskInfo } from "@berth/mesos/task-info";
import type { HostSettings, TaskOptions } from "../settings.ts";

/** What the settings and a task's labels make of its output. */
export interface TaskLogOptions {
  /** Where its lines go while it runs; empty: nowhere. Those with a time limit count it from the start given. */
  sinks: (startedAt: number) => SinkConfig[];
  follow: FollowOptions;
  /** How far back the last output of a failed or killed task is copied, milliseconds. */
  logsSinceMs: number;
  /** The most of it that is copied, bytes. */
  lastLogsBytes: number;
  /** Keys and values of each JSON record, from the container's labels. */
  fields: (dockerLabels: Readonly<Record<string, string>>) => Record<string, string>;
  hostname: string;
}

export interface LogFacts {
  executorId: string;
  /** Absent for a task that is only cleaned up. */
  task: TaskInfo | undefined;
  /** Of this host, where no setting names another. */
  hostname: string;
}

/** Docker labels that sidecar-executor puts into every record. */
const ALWAYS_SENT = ["ServiceName", "Environment"];
/** The label of a task whose lines are log events for Logstash. */
const SCRAPING_LABEL = "log-scraping";
const SCRAPE_ALL_LABEL = "log-scraping-all";

/** Compiles the settings of one task's output. */
export function taskLogOptions(
  host: HostSettings["configured"],
  { settings }: TaskOptions,
  sinks: readonly SinkConfig[],
  facts: LogFacts,
): TaskLogOptions {
  const scraped = scrapingSink(host, settings, facts);
  const any = (startedAt: number): SinkConfig[] => [
    ...relaySink(host, settings, startedAt),
    ...(settings.containerLogsStdout
      ? [{ type: "sandbox", format: settings.sandboxLogFormat, maxBytes: settings.sandboxLogSize, keep: settings.sandboxLogKeep } as const]
      : []),
    ...(scraped === undefined ? [] : [scraped]),
    ...sinks,
  ];
  const hostname = settings.logHostname === "" ? facts.hostname : settings.logHostname;
  return {
    sinks: (startedAt) => any(startedAt).map((sink) => ({ queueBytes: host.logQueueSize, ...sink })),
    follow: {
      maxLineBytes: host.logMaxLine,
      ...(settings.multilinePattern === "" ? {} : { multiLine: { start: settings.multilinePattern } }),
    },
    logsSinceMs: settings.logsSince,
    lastLogsBytes: settings.lastLogsSize,
    fields: (dockerLabels) => sentLabels(dockerLabels, [...ALWAYS_SENT, ...settings.sendDockerLabels]),
    hostname,
  };
}

type Settings = TaskOptions["settings"];
type Host = HostSettings["configured"];

function relaySink(host: Host, settings: Settings, startedAt: number): SinkConfig[] {
  if (!settings.relaySyslog && !settings.relaySyslogStartupOnly) return [];
  // Relaying at start-up only goes before relaying for good, as in sidecar-executor.
  const until = settings.relaySyslogStartupOnly ? { until: startedAt + settings.relaySyslogStartupTime } : {};
  const address = settings.syslogAddr;
  switch (settings.syslogFormat) {
    case "json-udp":
      return [{ type: "json-udp", address, ...until }];
    case "rfc5424-unix":
      return [{ type: "syslog", transport: "unix", ...until }];
    case "rfc5424-tls":
      return [{ type: "syslog", transport: "tls", address, ...until, tls: tlsOptions(host) }];
    case "rfc5424-tcp":
      return [{ type: "syslog", transport: "tcp", address, ...until }];
    case "rfc5424-udp":
      return [{ type: "syslog", transport: "udp", address, ...until }];
  }
}

function tlsOptions({ syslogCa, syslogCert, syslogKey, syslogServerName }: Host): TlsOptions {
  const all = { ca: syslogCa, cert: syslogCert, key: syslogKey, serverName: syslogServerName };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ""));
}

/** Only tasks that ask for it are scraped, and only where Logstash can be found. */
function scrapingSink(host: Host, settings: Settings, facts: LogFacts): SinkConfig | undefined {
  const { task } = facts;
  const format = task === undefined ? undefined : label(task, SCRAPING_LABEL);
  if (task === undefined || (format !== "logstash" && format !== "logfmt")) return undefined;
  const service = host.logstashDiscoveryServiceName;
  if (host.logstashAddress === "" && service === "") return undefined;
  return {
    type: "logstash",
    transport: host.logstashProtocol,
    ...(host.logstashProtocol === "tcp" ? { connectMs: host.logstashTcpTimeout, keepAliveMs: host.logstashTcpKeepAlive } : {}),
    ...(service === ""
      ? { addresses: [host.logstashAddress] }
      : { discovery: { consulUrl: consulUrl(host), service, refreshMs: host.logstashDiscoveryRefreshInterval, ...consulToken(host) } }),
    scrape: {
      format,
      all: (label(task, SCRAPE_ALL_LABEL) ?? "") !== "",
      ignoredKeys: [...settings.servicelogIgnoreKeys],
      fields: scrapingFields(settings, facts),
      maxRecordBytes: host.logstashSizeLimit,
      rateLimit: host.logstashRateLimit,
    },
  };
}

function consulUrl(host: Host): string {
  const address = host.consulHttpAddr === "" ? "127.0.0.1:8500" : host.consulHttpAddr;
  return address.includes("://") ? address : `http://${address}`;
}

function consulToken(host: Host): { token?: string } {
  const token = host.consulHttpToken === "" ? host.consulToken : host.consulHttpToken;
  return token === "" ? {} : { token };
}

/** What allegro's executor adds to each scraped event. */
function scrapingFields(settings: Settings, { executorId, task, hostname }: LogFacts): Record<string, string | number> {
  const all = {
    "instance-id": executorId,
    scid: integerOr(task === undefined ? "" : (label(task, "scId") ?? "")),
    srchost: settings.cloudHostname || hostname,
    region: settings.cloudRegion,
    zone: settings.cloudAvailabilityZone,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ""));
}

/** The label is a whole number, and is sent as one; what is none is sent as it is. */
function integerOr(text: string): string | number {
  const number = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(number) ? number : text;
}

function sentLabels(labels: Readonly<Record<string, string>>, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (labels[name] === undefined ? [] : [[name, labels[name]]])));
}
