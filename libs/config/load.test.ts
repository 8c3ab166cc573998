import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { describeSettings } from "./describe.ts";
import { flagName } from "./flags.ts";
import { describeMistake, type LoadInput, loadSettings } from "./load.ts";
import type { OptionTable } from "./option.ts";
import { OPTIONS } from "./options.ts";

const PATH = "/etc/berth/berth.yaml";

function load(input: Partial<LoadInput> & { file?: string }) {
  return loadSettings({
    argv: input.argv ?? [],
    environment: input.environment ?? {},
    readFile: input.readFile ?? ((path) => (path === PATH ? input.file : undefined)),
    ...(input.schemas === undefined ? {} : { schemas: input.schemas }),
  });
}

describe("precedence", () => {
  const everywhere = {
    argv: ["--http-timeout", "1s"],
    environment: { EXECUTOR_HTTP_TIMEOUT: "2m", HTTP_TIMEOUT: "3m" },
    file: "# a comment\nhttpTimeout: 4m\n",
  };
  const cases: [string, Partial<LoadInput> & { file?: string }, number, string][] = [
    ["a flag goes first", everywhere, 1000, "--http-timeout"],
    ["then the prefixed name", { ...everywhere, argv: [] }, 120_000, "EXECUTOR_HTTP_TIMEOUT in the environment"],
    ["then the bare name", { ...everywhere, argv: [], environment: { HTTP_TIMEOUT: "3m" } }, 180_000, "HTTP_TIMEOUT in the environment"],
    ["then the file", { file: everywhere.file }, 240_000, `${PATH}:2`],
    ["then the default", {}, 2000, "default"],
  ];
  for (const [title, input, value, origin] of cases) {
    it(title, () => {
      const { settings, origins, mistakes } = load(input);

      assert.deepEqual(mistakes, []);
      assert.equal(settings.httpTimeout, value);
      assert.equal(origins.httpTimeout, origin);
    });
  }

  it("takes another file by BERTH_CONFIG, and before it by --config", () => {
    const read: string[] = [];
    const readFile = (path: string): string => {
      read.push(path);
      return "debug: true";
    };

    load({ environment: { BERTH_CONFIG: "/a.yaml" }, readFile });
    load({ environment: { BERTH_CONFIG: "/a.yaml" }, argv: ["--config=/b.yaml"], readFile });

    assert.deepEqual(read, ["/a.yaml", "/b.yaml"]);
  });
});

describe("mistakes", () => {
  it("are listed all at once, each with its place and what was expected", () => {
    const { mistakes } = load({
      argv: ["--kill-task-timeot=3", "--force-cpu-limit=maybe", "--docker-connections"],
      environment: { EXECUTOR_LOGS_SINCE: "180", EXECUTOR_EXIT_STATES: "mesos" },
      file: "sidecarMaxFials: 2\nsidecarUrl: localhost:7777\npullAttempts: [1]\nsyslogAddr: 10.0.0.1:99999\n",
    });

    assert.deepEqual(mistakes.map(describeMistake).sort(), [
      "--docker-connections: needs a value",
      '--force-cpu-limit: expected true or false, not "maybe"',
      "--kill-task-timeot: is no flag of berthd; did you mean --kill-task-timeout?",
      `${PATH}:1: "sidecarMaxFials" is no setting; did you mean sidecarMaxFails?`,
      `${PATH}:2: sidecarUrl: expected an http:// or https:// URL, not "localhost:7777"`,
      `${PATH}:3: pullAttempts: expected a single value, not "[1]"`,
      `${PATH}:4: syslogAddr: expected host:port or [IPv6 address]:port, not "10.0.0.1:99999"`,
      'EXECUTOR_EXIT_STATES in the environment: exitStates: expected one of berth, sidecar-executor, not "mesos"',
      'EXECUTOR_LOGS_SINCE in the environment: logsSince: expected a duration like 30s or 1m30s (a unit is missing: 180s?), not "180"',
    ]);
  });

  const single: [string, Partial<LoadInput> & { file?: string }, RegExp][] = [
    ["a file that is named and missing", { argv: ["--config", "/no/such"] }, /^\/no\/such: does not exist, but is named by --config$/],
    ["a file that is no YAML", { file: "a: [1\nb: 2" }, /^\/etc\/berth\/berth.yaml:[12]: /],
    ["a file that is a list", { file: "- a" }, /:1: expected lines of the form key: value/],
    ["a key twice", { file: "debug: true\ndebug: false" }, /:2: is not valid YAML \(a key stands twice\)$/],
    ["a key of Object's own", { file: "toString: 1" }, /"toString" is no setting/],
    ["a secret as a flag", { argv: ["--vault-token=s.123"] }, /^--vault-token: would show .* VAULT_TOKEN in the environment/],
    ["a word that is no flag", { argv: ["start"] }, /^argument 1: is not a flag/],
    ["an override that is the host's", { file: "taskOverrides: [vaultAddr]" }, /"vaultAddr" is a setting of the host and cannot be opened/],
    ["an override that is none", { file: "taskOverrides: [logSince]" }, /"logSince" is no setting; did you mean logsSince/],
    ["a socket path that is too long", { argv: [`--socket=/${"x".repeat(107)}`] }, /^--socket: expected a path of at most 107 bytes/],
    ["a poll interval of 0", { environment: { EXECUTOR_SIDECAR_POLL_INTERVAL: "0s" } }, /a duration of 1ms or more/],
  ];
  for (const [title, input, expected] of single) {
    it(title, () => {
      const { mistakes } = load(input);

      assert.equal(mistakes.length, 1);
      assert.match(mistakes.map(describeMistake).join(), expected);
    });
  }

  it("of a section come from its schema, with the path inside", () => {
    const issues = [{ path: ["rules", 0, "image"], message: "expected a text" }];
    const { mistakes } = load({
      file: "\npolicy: {rules: [{image: 1}]}",
      schemas: { policy: { safeParse: () => ({ success: false, error: { issues } }) } },
    });

    assert.deepEqual(mistakes.map(describeMistake), [`${PATH}:2: policy.rules.0.image: expected a text`]);
  });

  const secretive: [string, Partial<LoadInput> & { file?: string }, number][] = [
    ["as a flag with =", { argv: ["--vault-token=verysecret"] }, 1],
    ["as a flag's next word", { argv: ["--vault-token", "verysecret"] }, 1],
    ["behind a flag that is misspelt", { argv: ["--vault-tokn", "verysecret"] }, 1],
    ["as a word of its own", { argv: ["-token=verysecret", "verysecret"] }, 2],
    ["as a list and a map", { file: "vaultToken: [verysecret]\nredisUrl: {a: verysecret}" }, 2],
    ["in a file that is no YAML", { file: 'a: b\nvaultToken: "verysecret" verysecret\n' }, 1],
    ["behind an alias that is none", { file: "vaultToken: *verysecret" }, 1],
    ["as the user of a URL", { environment: { VAULT_ADDR: "ftp://u:verysecret@v", EXECUTOR_SIDECAR_URL: "u://:verysecret@s" } }, 2],
  ];
  for (const [title, input, count] of secretive) {
    it(`never tell a secret ${title}`, () => {
      const { mistakes, warnings } = load(input);

      assert.equal(mistakes.length, count);
      assert.doesNotMatch(JSON.stringify([mistakes, warnings]), /verysecret/);
    });
  }
});

describe("bare names", () => {
  it("that do not fit are passed over with a warning, the file counts", () => {
    const { settings, mistakes, warnings } = load({ environment: { DEBUG: "express:*" }, file: "debug: true" });

    assert.deepEqual(mistakes, []);
    assert.equal(settings.debug, true);
    assert.deepEqual(warnings, ["DEBUG in the environment is ignored: as debug it would have to be true or false"]);
  });

  it("and others that are empty count as not set, with a warning", () => {
    const environment = { EXECUTOR_HTTP_TIMEOUT: "", HTTP_TIMEOUT: "9s", EXECUTOR_LOGS_SINCE: "", VAULT_ADDR: "" };
    const { settings, mistakes, warnings } = load({ environment, file: "logsSince: 7m" });

    assert.deepEqual(mistakes, []);
    assert.deepEqual([settings.httpTimeout, settings.logsSince, settings.vaultAddr], [9000, 420_000, "https://127.0.0.1:8200"]);
    assert.deepEqual(warnings, [
      "EXECUTOR_HTTP_TIMEOUT in the environment is empty, which counts as not set",
      "EXECUTOR_LOGS_SINCE in the environment is empty, which counts as not set",
      "VAULT_ADDR in the environment is empty, which counts as not set",
    ]);
  });

  it("keep their empty text where that has a meaning: no port of the master", () => {
    const { settings, warnings } = load({ environment: { EXECUTOR_MESOS_MASTER_PORT: "" } });

    assert.deepEqual([settings.mesosMasterPort, warnings], ["", []]);
  });
});

describe("the file", () => {
  const file = `
vaultNamespace: 1.10
sidecarMaxFails: 010
vaultRoleId: no
sendDockerLabels: &labels [1.0, "a b"]
servicelogIgnoreKeys: *labels
sigtermExcludeProcesses: a, b
debug:
`;

  it("is read as the environment is: a value is its text", () => {
    const { settings, mistakes } = load({ file });

    assert.deepEqual(mistakes, []);
    assert.deepEqual([settings.vaultNamespace, settings.sidecarMaxFails, settings.vaultRoleId], ["1.10", 8, "no"]);
    assert.deepEqual(
      [settings.sendDockerLabels, settings.servicelogIgnoreKeys],
      [
        ["1.0", "a b"],
        ["1.0", "a b"],
      ],
    );
    assert.deepEqual([settings.sigtermExcludeProcesses, settings.debug], [["a", "b"], false]);
  });

  it("gives sections the type and the defaults of their schemas", () => {
    const Acl = z.strictObject({ chain: z.string().default("DOCKER-USER") }).prefault({});
    const Policy = z.strictObject({ privileged: z.boolean() }).optional();

    const { settings, mistakes } = load({ file: "policy: {privileged: true}", schemas: { acl: Acl, policy: Policy } });
    const chain: unknown = (settings.acl as z.infer<typeof Acl>).chain;

    assert.deepEqual(mistakes, []);
    assert.deepEqual([chain, settings.policy], ["DOCKER-USER", { privileged: true }]);
  });
});

describe("old names", () => {
  const cases: [string, string, keyof typeof OPTIONS, unknown][] = [
    ["ALLEGRO_EXECUTOR_DEBUG", "true", "debug", true],
    ["ALLEGRO_EXECUTOR_KILL_POLICY_GRACE_PERIOD", "7s", "killTaskTimeout", 7000],
    ["EXECUTOR_KILL_TASK_TIMEOUT", "010", "killTaskTimeout", 8000],
    ["ALLEGRO_EXECUTOR_SIGTERM_EXCLUDE_PROCESSES", "a, b", "sigtermExcludeProcesses", ["a", "b"]],
    ["ALLEGRO_EXECUTOR_SERVICELOG_LOGSTASH_PROTOCOL", "udp", "logstashProtocol", "udp"],
    ["ALLEGRO_EXECUTOR_CONSUL_TOKEN", "t", "consulToken", "t"],
    ["SIDECAR_MAX_FAILS", "0x10", "sidecarMaxFails", 16],
  ];
  for (const [name, text, setting, value] of cases) {
    it(`${name}=${text}`, () => {
      const { settings, mistakes } = load({ environment: { [name]: text } });

      assert.deepEqual(mistakes, []);
      assert.deepEqual(settings[setting], value);
    });
  }

  it("warns of deprecated, unsupported and unknown ones", () => {
    const { warnings } = load({
      environment: { ALLEGRO_EXECUTOR_APIP_ATH: "/x", ALLEGRO_EXECUTOR_SENTRY_DSN: "https://k@s/1", EXECUTOR_SIDECAR_MAXFAILS: "1" },
    });

    assert.deepEqual(warnings, [
      "EXECUTOR_SIDECAR_MAXFAILS in the environment is no setting; did you mean EXECUTOR_SIDECAR_MAX_FAILS?",
      "ALLEGRO_EXECUTOR_APIP_ATH is deprecated: use ALLEGRO_EXECUTOR_API_PATH",
      "ALLEGRO_EXECUTOR_APIP_ATH in the environment has no effect: the worker takes the path from what the agent gives it",
      "ALLEGRO_EXECUTOR_SENTRY_DSN in the environment has no effect: Berth does not report to Sentry",
    ]);
  });
});

describe("flags", () => {
  it("switches, negated switches, -debug, requests", () => {
    const { settings, request, mistakes } = load({ argv: ["-debug", "--no-remove-containers", "--keep-failed=1h", "--help"] });

    assert.deepEqual([settings.debug, settings.removeContainers, settings.keepFailed, request], [true, false, 3_600_000, "help"]);
    assert.deepEqual(mistakes, []);
  });
});

describe("any input", () => {
  const names = Object.values(OPTIONS as OptionTable).flatMap((option) => option.environment.map(({ name }) => name));

  it("gives whole settings and no exception", () => {
    const environment = fc.dictionary(fc.constantFrom(...names), fc.string());
    fc.assert(
      fc.property(environment, fc.array(fc.string()), fc.string(), (variables, argv, file) => {
        const { settings, origins } = load({ environment: variables, argv, readFile: () => file });

        assert.deepEqual(Object.keys(settings), Object.keys(OPTIONS));
        assert.deepEqual(Object.keys(origins), Object.keys(OPTIONS));
        assert.ok(Object.values(settings).every((value) => value !== undefined));
      }),
      { numRuns: 300 },
    );
  });

  it("never shows a secret, wherever it stands", () => {
    const secrets = Object.entries(OPTIONS as OptionTable).filter(([, option]) => option.secret);
    const place = fc.constantFrom("environment", "flag", "next word", "file", "list in the file", "broken file");
    const secret = fc.stringMatching(/^[A-Za-z0-9#:@/*&"'{}[ ]{3,12}$/).map((text) => `verysecret${text}verysecret`);
    fc.assert(
      fc.property(fc.constantFrom(...secrets), place, secret, ([name, option], where, text) => {
        const inputs: Record<typeof where, Partial<LoadInput> & { file?: string }> = {
          environment: { environment: Object.fromEntries(option.environment.map((variable) => [variable.name, text])) },
          flag: { argv: [`--${flagName(name)}=${text}`] },
          "next word": { argv: [`--${flagName(name)}`, text] },
          file: { file: `${name}: ${text}` },
          "list in the file": { file: `${name}: [${JSON.stringify(text)}]` },
          "broken file": { file: `${name}: "${text}" ${text}: [` },
        };
        const { settings, origins, mistakes, warnings } = load(inputs[where]);

        const told = JSON.stringify([mistakes, warnings, describeSettings({ ...settings }, origins)]);
        assert.doesNotMatch(told, /verysecret/);
      }),
      { numRuns: 500 },
    );
  });
});
