import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { SinkConfig } from "@berth/logrelay";
import { parseTaskInfo } from "@berth/mesos/task-info";
import { type HostSettings, readSettings } from "../settings.ts";
import { taskLogOptions } from "./log-options.ts";
import { LogSinks } from "./sink-schema.ts";

const STARTED = 1_000_000;

function compile(environment: Record<string, string>, labels: Record<string, string> = {}, more: SinkConfig[] = []) {
  const settings: HostSettings = readSettings([], environment, () => undefined);
  const task = parseTaskInfo({
    task_id: { value: "t" },
    command: { value: "true" },
    labels: { labels: Object.entries(labels).map(([key, value]) => ({ key, value })) },
  });
  return taskLogOptions(settings.configured, settings.taskOptions({}), more, { executorId: "e", task, hostname: "node-1" });
}

function sinks(environment: Record<string, string>, labels?: Record<string, string>, more?: SinkConfig[]): SinkConfig[] {
  return compile(environment, labels, more)
    .sinks(STARTED)
    .map(({ queueBytes: _same, ...sink }) => sink as SinkConfig);
}

const LOGSTASH = { EXECUTOR_SERVICELOG_LOGSTASH_ADDRESS: "10.0.0.9:5000" };
const TCP = { connectMs: 2_000, keepAliveMs: 5_000 };
const FIELDS = { "instance-id": "e", srchost: "node-1" };
const SCRAPE = { all: false, ignoredKeys: [], fields: FIELDS, maxRecordBytes: 0, rateLimit: 0 };

describe("where a task's output goes", () => {
  const cases: Array<[what: string, environment: Record<string, string>, labels: Record<string, string>, expected: unknown[]]> = [
    ["nowhere by default", {}, {}, []],
    ["relay", { RELAY_SYSLOG: "true" }, {}, [{ type: "json-udp", address: "127.0.0.1:514" }]],
    [
      "relay at start-up only goes before relay",
      { RELAY_SYSLOG: "true", RELAY_SYSLOG_STARTUP_ONLY: "true", RELAY_SYSLOG_STARTUP_TIME: "2m" },
      {},
      [{ type: "json-udp", address: "127.0.0.1:514", until: STARTED + 120_000 }],
    ],
    [
      "syslog over TLS",
      { EXECUTOR_RELAY_SYSLOG: "true", EXECUTOR_SYSLOG_ADDR: "logs:6514", EXECUTOR_SYSLOG_FORMAT: "rfc5424-tls" },
      {},
      [{ type: "syslog", transport: "tls", address: "logs:6514", tls: {} }],
    ],
    [
      "syslog over TLS with a CA, a client certificate and the receiver's name",
      {
        EXECUTOR_RELAY_SYSLOG: "true",
        EXECUTOR_SYSLOG_ADDR: "logs:6514",
        EXECUTOR_SYSLOG_FORMAT: "rfc5424-tls",
        EXECUTOR_SYSLOG_CA: "/ca.pem",
        EXECUTOR_SYSLOG_CERT: "/cert.pem",
        EXECUTOR_SYSLOG_KEY: "/key.pem",
        SYSLOG_SERVER_NAME: "logs.example",
      },
      {},
      [
        {
          type: "syslog",
          transport: "tls",
          address: "logs:6514",
          tls: { ca: "/ca.pem", cert: "/cert.pem", key: "/key.pem", serverName: "logs.example" },
        },
      ],
    ],
    [
      "the sandbox",
      { CONTAINER_LOGS_STDOUT: "true", EXECUTOR_SANDBOX_LOG_FORMAT: "json", EXECUTOR_SANDBOX_LOG_SIZE: "1MiB" },
      {},
      [{ type: "sandbox", format: "json", maxBytes: 1_048_576, keep: 1 }],
    ],
    ["no scraping without the label", LOGSTASH, {}, []],
    ["no scraping for another value", LOGSTASH, { "log-scraping": "xml" }, []],
    ["no scraping without a Logstash", {}, { "log-scraping": "logstash" }, []],
    [
      "scraping to an address",
      LOGSTASH,
      { "log-scraping": "logstash" },
      [{ type: "logstash", transport: "tcp", ...TCP, addresses: ["10.0.0.9:5000"], scrape: { format: "logstash", ...SCRAPE } }],
    ],
    [
      "scraping of everything, by UDP to what Consul knows, with limits",
      {
        ALLEGRO_EXECUTOR_SERVICELOG_LOGSTASH_PROTOCOL: "udp",
        ALLEGRO_EXECUTOR_SERVICELOG_LOGSTASH_DISCOVERY_SERVICE_NAME: "logstash",
        ALLEGRO_EXECUTOR_SERVICELOG_LOGSTASH_RATE_LIMIT: "100",
        ALLEGRO_EXECUTOR_SERVICELOG_LOGSTASH_SIZE_LIMIT: "2000",
        ALLEGRO_EXECUTOR_SERVICELOG_IGNORE_KEYS: "a,b",
        CONSUL_TOKEN: "secret",
      },
      // Any value means yes, as in allegro's executor.
      { "log-scraping": "logfmt", "log-scraping-all": "0" },
      [
        {
          type: "logstash",
          transport: "udp",
          discovery: { consulUrl: "http://127.0.0.1:8500", service: "logstash", refreshMs: 1000, token: "secret" },
          scrape: { format: "logfmt", all: true, ignoredKeys: ["a", "b"], fields: FIELDS, maxRecordBytes: 2000, rateLimit: 100 },
        },
      ],
    ],
  ];
  for (const [what, environment, labels, expected] of cases) {
    test(what, () => assert.deepEqual(sinks(environment, labels), expected));
  }

  test("a Logstash by TCP, with the host's times; lines are cut where the host says", () => {
    const times = { EXECUTOR_SERVICELOG_LOGSTASH_TCP_TIMEOUT: "1s", ALLEGRO_EXECUTOR_SERVICELOG_LOGSTASH_TCP_KEEP_ALIVE: "9s" };
    const options = compile({ ...LOGSTASH, ...times, EXECUTOR_LOG_MAX_LINE: "64KiB" }, { "log-scraping": "logstash" });
    const [sink] = options.sinks(STARTED);
    assert.ok(sink?.type === "logstash");
    assert.deepEqual([sink.connectMs, sink.keepAliveMs], [1_000, 9_000]);
    assert.equal(options.follow.maxLineBytes, 65_536);
  });

  test("the host's own sinks come on top, with the host's queue where they name none", () => {
    const options = compile({ EXECUTOR_LOG_QUEUE_SIZE: "1MiB", RELAY_SYSLOG: "true" }, {}, [
      { type: "json-udp", address: "b:1", queueBytes: 5 },
    ]);
    const found = options.sinks(STARTED);
    assert.deepEqual(
      found.map(({ type, queueBytes }) => [type, queueBytes]),
      [
        ["json-udp", 1_048_576],
        ["json-udp", 5],
      ],
    );
  });
});

describe("what berth.yaml may say of further sinks", () => {
  const cases: Array<[what: string, sink: object, mistake: RegExp]> = [
    ["an address where the transport needs one", { type: "syslog", transport: "tls" }, /address.*is needed for this transport/s],
    ["whole paths", { type: "syslog", transport: "tls", address: "h:1", tls: { ca: "ca.pem" } }, /expected the whole path of a file/],
    ["a file of the sandbox, not of the host", { type: "file", path: "/etc/x" }, /name of a file in the sandbox/],
    ["no way out of the sandbox", { type: "file", path: ".." }, /name of a file in the sandbox/],
    ["not the task's own output", { type: "file", path: "stdout" }, /name of a file in the sandbox/],
    ["a certificate with its key", { type: "syslog", transport: "tls", address: "h:1", tls: { cert: "/c" } }, /cert and key go together/],
  ];
  for (const [what, sink, mistake] of cases) {
    test(what, () => {
      const { error } = LogSinks.safeParse([sink]);
      assert.match(JSON.stringify(error?.issues), mistake);
    });
  }

  test("a file in the sandbox", () =>
    assert.equal(LogSinks.parse([{ type: "file", path: "stdout.json", format: "json", maxBytes: 9 }]).length, 1));

  test("unix needs no address", () => assert.equal(LogSinks.parse([{ type: "syslog", transport: "unix" }]).length, 1));
});

describe("fields of each record", () => {
  test("labels that are always sent, and those that are asked for", () => {
    const { fields, hostname } = compile({ SEND_DOCKER_LABELS: "Team,Missing" });
    assert.deepEqual(fields({ ServiceName: "s", Environment: "e", Team: "t", Other: "o" }), {
      ServiceName: "s",
      Environment: "e",
      Team: "t",
    });
    assert.equal(hostname, "node-1");
  });

  test("a scraped event has allegro's, each only if it is known; other records have not", () => {
    const known = { ...LOGSTASH, CLOUD_REGION: "eu", CLOUD_AVAILABILITY_ZONE: "eu-1a", CLOUD_HOSTNAME: "named" };
    const scraped = (scId: string): unknown => {
      const options = compile(known, { "log-scraping": "logstash", scId });
      const [sink] = options.sinks(STARTED);
      assert.deepEqual(options.fields({}), {});
      return sink?.type === "logstash" ? sink.scrape?.fields : undefined;
    };
    assert.deepEqual(scraped("0012"), { scid: 12, "instance-id": "e", srchost: "named", region: "eu", zone: "eu-1a" });
    assert.deepEqual(scraped("x"), { scid: "x", "instance-id": "e", srchost: "named", region: "eu", zone: "eu-1a" });
  });
});
