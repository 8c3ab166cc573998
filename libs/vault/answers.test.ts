import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, it } from "node:test";
import { TaskFailure } from "@berth/mesos";
import fc from "fast-check";
import { VaultError } from "./errors.ts";
import { pickValue, SecretValueError } from "./secret-value.ts";
import { vaultSettingsFrom } from "./settings.ts";
import { parseAnswer } from "./transport.ts";
import { answerFrom } from "./vault-api.ts";
import { VaultService } from "./vault-service.ts";

describe("pickValue", () => {
  const fields = {
    value: "v",
    "a.b": "exact",
    a: { b: "nested", list: [{ c: 1 }] },
    json: '{"x":{"y":"deep"}}',
    n: 5,
    t: true,
    none: null,
    nul: "a\0b",
  };
  for (const [key, expected] of [
    ["value", "v"],
    ["a.b", "exact"],
    ["a.list.0.c", "1"],
    ["json.x.y", "deep"],
    ["n", "5"],
    ["t", "true"],
    ["a", '{"b":"nested","list":[{"c":1}]}'],
  ] as const) {
    it(`finds ${key}`, () => assert.equal(pickValue(fields, key), expected));
  }
  for (const [key, words] of [
    ["missing", /no key "missing"/],
    ["value.x", /no key "value.x"/],
    ["toString", /no key/],
    ["__proto__.x", /no key/],
    ["none", /holds null/],
    ["nul", /NUL byte/],
  ] as const) {
    it(`says what is wrong with ${key}`, () => assert.throws(() => pickValue(fields, key), words));
  }

  it("gives text without NUL or a SecretValueError for any fields and key", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string(), (fields, key) => {
        try {
          assert.ok(!pickValue(fields, key).includes("\0"));
        } catch (error) {
          assert.ok(error instanceof SecretValueError);
        }
      }),
    );
  });
});

describe("parseAnswer", () => {
  it("keeps numbers as they were stored", () => {
    const { big, float, small } = parseAnswer('{"big":12345678901234567890,"float":1.0,"small":42}') as Record<string, unknown>;
    assert.deepEqual([big, float, small], ["12345678901234567890", "1.0", 42]);
  });
});

describe("answerFrom", () => {
  it("takes or refuses an answer of any shape, never anything else", () => {
    const near = fc.record(
      { data: fc.jsonValue(), lease_id: fc.jsonValue(), lease_duration: fc.jsonValue(), renewable: fc.jsonValue(), auth: fc.jsonValue() },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), near), (body) => {
        try {
          const answer = answerFrom(body);
          assert.equal(typeof answer.leaseId, "string");
          assert.ok(answer.leaseDurationMs >= 0);
        } catch (error) {
          assert.ok(error instanceof VaultError && error.kind === "malformed");
        }
      }),
    );
  });
});

describe("a server that answers anything", () => {
  it("costs a clear failure or gives the value, and no token or value is in the failure", async () => {
    let answer = { status: 200, body: "" };
    const server = createServer((incoming, outgoing) => {
      incoming.resume();
      const login = incoming.url?.includes("/login/");
      if (incoming.url?.includes("sys/health")) outgoing.end('{"initialized":true,"sealed":false}');
      else if (login)
        outgoing.end('{"auth":{"client_token":"s.the-token-of-the-test","lease_duration":3600,"renewable":true,"policies":["app"]}}');
      else if (incoming.url?.includes("mounts")) outgoing.end('{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}');
      else outgoing.writeHead(answer.status).end(answer.body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const service = new VaultService({
      settings: vaultSettingsFrom({
        ...{ VAULT_ADDR: address, VAULT_USERNAME: "svc", VAULT_PASSWORD: "the-password-of-the-test", VAULT_MAX_RETRIES: "0" },
        ...{ EXECUTOR_VAULT_SECRET_CACHE: "0", EXECUTOR_VAULT_WAIT: "5s" },
      }),
      log: { debug: () => {}, info: () => {}, warn: () => {} },
      onSensitive: () => {},
      onWaiting: () => {},
      onLeaseLost: () => {},
      onLeases: () => {},
      // The backoff after a rejected token would make this test wait.
      random: () => 0,
    });
    const bodies = fc.oneof(
      fc.string(),
      fc.json(),
      fc.jsonValue().map((data) => JSON.stringify({ data: { data } })),
      fc.string().map((value) => JSON.stringify({ data: { data: { value } } })),
      fc.array(fc.string()).map((errors) => JSON.stringify({ errors: [...errors, "s.the-token-of-the-test"] })),
    );
    const status = fc.constantFrom(200, 200, 200, 204, 400, 403, 404, 405, 412, 418, 500, 502);
    try {
      await fc.assert(
        fc.asyncProperty(status, bodies, async (code, body) => {
          answer = { status: code, body };
          try {
            const { environment } = await service.resolveEnvironment(
              { taskKey: "task", environment: { KEY: "vault://secret/app" } },
              new AbortController().signal,
            );
            const stored = (JSON.parse(body) as { data: { data: { value: unknown } } }).data.data.value;
            assert.equal(environment.KEY, typeof stored === "string" ? stored : (JSON.stringify(stored) as string));
          } catch (error) {
            assert.ok(TaskFailure.is(error), String(error));
            assert.match(error.message, /^cannot get the variable KEY from vault:\/\/secret\/app: /);
            assert.doesNotMatch(error.message, /the-(token|password)-of-the-test/);
            assert.ok(error.message.length < 600);
          }
        }),
        { numRuns: 300 },
      );
    } finally {
      await service.close();
      server.closeAllConnections();
      server.close();
    }
  });
});
