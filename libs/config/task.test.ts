import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { describeSettings, settingsEnvironment } from "./describe.ts";
import { loadSettings } from "./load.ts";
import type { OptionTable } from "./option.ts";
import { OPTIONS } from "./options.ts";
import { taskSettings } from "./task.ts";

function host(file = "", environment: Record<string, string> = {}) {
  return loadSettings({ argv: [], environment, readFile: () => file });
}

describe("taskSettings", () => {
  it("takes what is allowed and says where it is from", () => {
    const { settings, origins, mistakes, warnings } = taskSettings(host("logsSince: 9m"), {
      EXECUTOR_KILL_TASK_TIMEOUT: "30",
      SIDECAR_BACKOFF: "5s",
    });

    assert.deepEqual([settings.killTaskTimeout, settings.sidecarBackoff, settings.logsSince], [30_000, 5000, 540_000]);
    assert.equal(origins.killTaskTimeout, "EXECUTOR_KILL_TASK_TIMEOUT in the executor's environment");
    assert.equal(origins.logsSince, "/etc/berth/berth.yaml:1");
    assert.deepEqual([mistakes, warnings], [[], []]);
  });

  it("ignores what is not allowed, with a warning where the name is surely meant for us", () => {
    const environment = { EXECUTOR_SYSLOG_ADDR: "evil:514", LOG_HOSTNAME: "app", EXECUTOR_FORCE_CPU_LIMIT: "0" };
    const { settings, warnings } = taskSettings(host(), environment);

    assert.equal(settings.syslogAddr, "127.0.0.1:514");
    assert.equal(settings.logHostname, "");
    // FORCE_CPU_LIMIT says what the host says: nothing to tell.
    assert.deepEqual(warnings, ["EXECUTOR_SYSLOG_ADDR in the executor's environment is ignored: taskOverrides does not hold syslogAddr"]);
  });

  it("tells what was meant for an executor and has no effect on one task, and nothing about the application's own variables", () => {
    const environment = {
      ALLEGRO_EXECUTOR_API_PATH: "/api/v1/executor",
      ALLEGRO_EXECUTOR_HTTPT_IMEOUT: "3s",
      ALLEGRO_EXECUTOR_DEBUG: "true",
      ALLEGRO_EXECUTOR_SENTRY_DSN: "https://key@sentry/1",
      ALLEGRO_EXECUTOR_MESOSCONFIG_SANDBOX: "/x",
      ALLEGRO_EXECUTOR_KILL_POLICY_GRACE_PEROID: "9s",
      EXECUTOR_SUPERVISOR_TIMEOUT: "5s",
      EXECUTOR_HTTP_TIMEOUT: "2s",
      DEBUG: "true",
      VAULT_ADDR: "http://vault",
    };

    assert.deepEqual(taskSettings(host(), environment).warnings, [
      "ALLEGRO_EXECUTOR_KILL_POLICY_GRACE_PEROID in the executor's environment is no setting; did you mean ALLEGRO_EXECUTOR_KILL_POLICY_GRACE_PERIOD?",
      "ALLEGRO_EXECUTOR_DEBUG in the executor's environment is ignored: debug is a setting of the host",
      "ALLEGRO_EXECUTOR_API_PATH in the executor's environment has no effect: the worker takes the path from what the agent gives it",
      "ALLEGRO_EXECUTOR_HTTPT_IMEOUT in the executor's environment has no effect: the worker's limits towards the agent follow from Mesos's own",
      "ALLEGRO_EXECUTOR_SENTRY_DSN in the executor's environment has no effect: Berth does not report to Sentry",
    ]);
  });

  it("opens more when taskOverrides says so, and all is closed by an empty list", () => {
    const environment = { EXECUTOR_LOG_HOSTNAME: "web", EXECUTOR_LOGS_SINCE: "1s" };

    const open = taskSettings(host("taskOverrides: [logHostname]"), environment);
    const closed = taskSettings(host("taskOverrides: []"), environment);

    assert.deepEqual([open.settings.logHostname, open.settings.logsSince], ["web", 180_000]);
    assert.deepEqual([closed.settings.logHostname, closed.warnings.length], ["", 2]);
  });

  it("names an override that does not fit as a mistake, and keeps the host's value", () => {
    const { settings, mistakes } = taskSettings(host(), { EXECUTOR_SIDECAR_BACKOFF: "soon", DEBUG: "x" });

    assert.equal(settings.sidecarBackoff, 60_000);
    assert.deepEqual(mistakes, [
      {
        setting: "sidecarBackoff",
        where: "EXECUTOR_SIDECAR_BACKOFF in the executor's environment",
        problem: 'expected a duration like 30s or 1m30s, not "soon"',
      },
    ]);
  });

  it("holds a task's AWS lease to the host's limit", () => {
    const { mistakes } = taskSettings(host("awsRoleMaxTtl: 2h"), { EXECUTOR_AWS_ROLE_TTL: "3h" });

    assert.deepEqual(
      mistakes.map(({ setting }) => setting),
      ["awsRoleTtl"],
    );
  });

  it("by default opens no secret, address, URL or limit", () => {
    const opened = OPTIONS.taskOverrides.default.map((name) => (OPTIONS as OptionTable)[name]);

    for (const option of opened) {
      assert.equal(option?.scope, "task");
      assert.equal(option.secret, undefined);
      assert.ok(!["address", "url", "path"].includes(option.type));
    }
    assert.ok(!OPTIONS.taskOverrides.default.some((name) => /limit|shares|enabled$/i.test(name)));
  });
});

describe("describeSettings", () => {
  it("masks by the table and tells the source", () => {
    const { settings, origins } = host("redisUrl: redis://:pw@r", { VAULT_TOKEN: "hvs.x", VAULT_USERNAME: "joe" });
    const rows = new Map(describeSettings(settings, origins).map(({ name, value }) => [name, value]));

    assert.equal(rows.get("vaultToken"), "(secret, from VAULT_TOKEN)");
    assert.equal(rows.get("redisUrl"), "(secret, from /etc/berth/berth.yaml:1)");
    assert.equal(rows.get("vaultUsername"), "joe");
    assert.equal(rows.get("consulToken"), "(unset)");
    assert.equal(rows.get("sidecarBackoff"), "1m");
  });
});

describe("settingsEnvironment", () => {
  it("leaves out what was passed over, so that no one who reads variables stumbles over it", () => {
    const given = { VAULT_CONCURRENCY: "many", VAULT_ADDR: "", EXECUTOR_DEBUG: "1", OTHER: "stays" };
    const { settings, origins, mistakes } = host("", given);

    assert.deepEqual(mistakes, []);
    assert.deepEqual(settingsEnvironment(given, { ...settings }, origins), { OTHER: "stays", EXECUTOR_DEBUG: "true" });
  });

  it("gives the file's values to who reads variables, and reads back to the same settings", () => {
    const loaded = host("vaultAddr: http://v:1\nvaultTtl: 2h\nkillTaskTimeout: 9\nlogThreadHeap: 64MiB\nsendDockerLabels: [a, b]", {
      HOME: "/h",
    });
    const environment = settingsEnvironment({ HOME: "/h" }, loaded.settings, loaded.origins);

    assert.equal(environment.VAULT_ADDR, "http://v:1");
    assert.equal(environment.VAULT_TTL, "7200");
    assert.equal(environment.HOME, "/h");
    assert.deepEqual(loadSettings({ argv: [], environment, readFile: () => undefined }).settings, loaded.settings);
  });
});
