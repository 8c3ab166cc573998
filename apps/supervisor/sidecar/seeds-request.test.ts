import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { type TempDir, tempDir } from "@berth/test-harness";
import { type MesosAccess, seedsRequest } from "./seeds-request.ts";

const NONE: MesosAccess = { agent: "", masterPort: "5050", credential: "", ca: "", hide: () => {} };
const PLAIN = { agentEndpoint: "10.0.0.1:5051", masterPort: "5050", scheme: "http", verify: false };
const AGENT = { MESOS_AGENT_ENDPOINT: "10.0.0.1:5051" };

let folder: TempDir;
before(async () => {
  folder = await tempDir("seeds");
});
after(() => folder.remove());

function file(text: string): string {
  const path = `${folder.path}/credential`;
  writeFileSync(path, text);
  return path;
}

describe("the request for seeds", () => {
  test("goes where the executor's environment says, in the scheme that the worker speaks", async () => {
    assert.equal(await seedsRequest(NONE, {}), undefined);
    assert.deepEqual(await seedsRequest(NONE, AGENT), PLAIN);
    assert.deepEqual(await seedsRequest(NONE, { ...AGENT, LIBPROCESS_SSL_ENABLED: "1" }), { ...PLAIN, scheme: "https" });
    const checking = { ...AGENT, BERTH_AGENT_SCHEME: "https", LIBPROCESS_SSL_VERIFY_SERVER_CERT: "true" };
    assert.deepEqual(await seedsRequest(NONE, checking), { ...PLAIN, scheme: "https", verify: true });
    assert.deepEqual(await seedsRequest(NONE, { ...AGENT, LIBPROCESS_SSL_ENABLED: "1", BERTH_AGENT_SCHEME: "http" }), PLAIN);
  });

  for (const [what, text] of [
    ["JSON", '{\n "principal": "p", "secret": "s3cr3t" }\n'],
    ["two words", "p s3cr3t\n"],
  ] as const) {
    test(`carries a credential that is ${what}, to the host's own agent only`, async () => {
      const hidden: string[] = [];
      const access = { ...NONE, credential: file(text), hide: (secret: string) => void hidden.push(secret) };
      const request = await seedsRequest({ ...access, agent: "127.0.0.1:5051" }, AGENT);
      assert.deepEqual(request?.credentials, { principal: "p", secret: "s3cr3t" });
      assert.equal(request?.agentEndpoint, "127.0.0.1:5051");
      assert.equal(request?.verify, true);
      assert.deepEqual(hidden, ["s3cr3t"]);
      await assert.rejects(seedsRequest(access, AGENT), /mesosCredential needs mesosAgent/);
    });
  }

  test("is TLS with an authority, whatever the executor's environment says", async () => {
    const request = await seedsRequest({ ...NONE, ca: file("-----BEGIN") }, { ...AGENT, BERTH_AGENT_SCHEME: "http" });
    assert.deepEqual(request, { ...PLAIN, scheme: "https", verify: true, ca: "-----BEGIN" });
  });

  for (const text of ['{"principal": "p", "secret": "s3cr3t"', '{"principal": "p s3cr3t"}', "s3cr3t", "p s3cr3t more", ""]) {
    test(`is not made with the credential file ${text}, and the error does not quote it`, async () => {
      const access = { ...NONE, agent: "127.0.0.1:5051", credential: file(text) };
      await assert.rejects(seedsRequest(access, {}), ({ message }: Error) => {
        assert.match(message, /of mesosCredential cannot be used: it is neither/);
        return !message.includes("s3cr3t");
      });
    });
  }

  test("names the setting of a file that is not there", async () => {
    await assert.rejects(
      seedsRequest({ ...NONE, ca: "/no/such/file" }, AGENT),
      /the file \/no\/such\/file of mesosCa cannot be used: ENOENT/,
    );
  });
});
