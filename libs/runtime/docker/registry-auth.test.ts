import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { parseImageReference } from "./image-reference.ts";
import { HUB_KEY, type RegistryAuth, type RegistryAuthOptions, registryAuth, registryAuthHeader } from "./registry-auth.ts";

const basic = (user: string, password: string): { auth: string } => ({ auth: Buffer.from(`${user}:${password}`).toString("base64") });

let directory = "";
let home = "";

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "berth-registry-auth-"));
});
beforeEach(async () => {
  home = await mkdtemp(join(directory, "home-"));
  await mkdir(join(home, ".docker"));
});
after(async () => {
  await rm(directory, { recursive: true });
});

async function configure(config: unknown): Promise<void> {
  await writeFile(join(home, ".docker", "config.json"), typeof config === "string" ? config : JSON.stringify(config));
}

function ask(image: string, options: Partial<RegistryAuthOptions> = {}): Promise<RegistryAuth> {
  return registryAuth(parseImageReference(image), {
    environment: { HOME: home, PATH: `${home}${delimiter}${process.env.PATH}` },
    ...options,
  });
}

/** Writes a real helper program; `body` is shell. */
async function helper(name: string, body: string): Promise<void> {
  const path = join(home, `docker-credential-${name}`);
  await writeFile(path, `#!/bin/sh\nread -r server\n${body}\n`);
  await chmod(path, 0o755);
}

test("each image gets the credentials of its own registry, however the key was written", async () => {
  await configure({
    auths: {
      [HUB_KEY]: basic("hub", "p:w"),
      "reg.example:5000": basic("port", "a"),
      "https://scheme.example/v2/": basic("scheme", "b"),
      "plain.example": { username: "plain", password: "c" },
    },
  });

  const user = async (image: string): Promise<unknown> => (await ask(image)).credentials;
  assert.deepEqual(await user("web"), { username: "hub", password: "p:w", serveraddress: HUB_KEY });
  assert.deepEqual(await user("docker.io/team/web:1"), { username: "hub", password: "p:w", serveraddress: HUB_KEY });
  assert.deepEqual(await user("reg.example:5000/web"), { username: "port", password: "a", serveraddress: "reg.example:5000" });
  assert.deepEqual(await user("scheme.example/web"), { username: "scheme", password: "b", serveraddress: "scheme.example" });
  assert.deepEqual(await user("plain.example/web"), { username: "plain", password: "c", serveraddress: "plain.example" });
  assert.equal(await user("reg.example/web"), undefined);
  assert.equal(await user("other.example/web"), undefined);
});

test("tokens go in the place of a password", async () => {
  await configure({ auths: { "a.example": { ...basic("u", "p"), identitytoken: "id" }, "b.example": { registrytoken: "reg" } } });

  assert.deepEqual((await ask("a.example/x")).credentials, { username: "u", identitytoken: "id", serveraddress: "a.example" });
  assert.deepEqual((await ask("b.example/x")).credentials, { registrytoken: "reg", serveraddress: "b.example" });
});

test("DOCKER_CONFIG goes before HOME, and the old file comes last", async () => {
  await writeFile(join(home, ".dockercfg"), JSON.stringify({ "a.example": basic("old", "x") }));
  assert.equal((await ask("a.example/x")).credentials?.username, "old");

  await configure({ auths: { "a.example": basic("home", "x") } });
  assert.equal((await ask("a.example/x")).credentials?.username, "home");

  const other = await mkdtemp(join(directory, "config-"));
  await writeFile(join(other, "config.json"), JSON.stringify({ auths: { "a.example": basic("config", "x") } }));
  assert.equal((await ask("a.example/x", { environment: { HOME: home, DOCKER_CONFIG: other } })).credentials?.username, "config");
});

test("the file is read anew each time", async () => {
  assert.match((await ask("a.example/x")).source, /no docker configuration file/);
  await configure({ auths: { "a.example": basic("u", "one") } });
  assert.equal((await ask("a.example/x")).credentials?.password, "one");
  await configure({ auths: { "a.example": basic("u", "two") } });
  assert.equal((await ask("a.example/x")).credentials?.password, "two");
});

test("helpers: the registry's own goes before the store, both before the file, and the file is the last resort", async () => {
  await helper("own", `echo "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"own of $server\\",\\"Secret\\":\\"s\\"}"`);
  await helper(
    "store",
    `case "$server" in *empty*) echo "credentials not found in native keychain"; exit 1;; *) echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"token of $server\\"}";; esac`,
  );
  await configure({
    auths: { "own.example": {}, "empty.example": basic("file", "x") },
    credsStore: "store",
    credHelpers: { "own.example": "own" },
  });

  assert.deepEqual((await ask("own.example/x")).credentials, {
    username: "own of own.example",
    password: "s",
    serveraddress: "own.example",
  });
  assert.deepEqual((await ask("web")).credentials, { identitytoken: `token of ${HUB_KEY}`, serveraddress: HUB_KEY });
  assert.equal((await ask("empty.example/x")).credentials?.username, "file");
  assert.match((await ask("empty2.example/x")).source, /no credentials for empty2.example/);
});

test("a helper that is missing, fails, hangs or talks nonsense costs nothing but its credentials, and is not quoted", async () => {
  await helper("fails", "echo hunter2; exit 3");
  await helper("nonsense", "echo hunter2");
  await helper("hangs", "sleep 600");
  await helper("deaf", "exec 0<&-; exit 4");
  const problems: Array<[string, RegExp]> = [
    ["missing", /not installed/],
    ["fails", /exit code 3/],
    ["nonsense", /not the JSON/],
    ["hangs", /did not answer/],
    ["deaf", /exit code 4/],
    ["../evil", /not the name/],
  ];

  for (const [credsStore, expected] of problems) {
    await configure({ credsStore });
    const auth = await ask("a.example/x", { helperTimeoutMs: credsStore === "hangs" ? 200 : 10_000 });
    assert.equal(auth.credentials, undefined);
    assert.match(auth.source, expected);
    assert.doesNotMatch(auth.source, /hunter2/);
  }
});

test("a helper that is stopped takes its own children along", async () => {
  await helper("parent", `sleep 600 & echo $! > ${home}/child; wait`);
  await configure({ credsStore: "parent" });

  const { source } = await ask("a.example/x", { helperTimeoutMs: 500 });

  assert.match(source, /did not answer/);
  const child = Number(await readFile(join(home, "child"), "utf8"));
  const deadline = Date.now() + 10_000;
  while (isAlive(child) && Date.now() < deadline) await setTimeout(10);
  assert.ok(!isAlive(child));
});

test("an aborted pull does not wait for its helper", async () => {
  await helper("hangs", "exec sleep 600");
  await configure({ credsStore: "hangs" });

  assert.match((await ask("a.example/x", { signal: AbortSignal.timeout(50) })).source, /was stopped/);
  assert.match((await ask("a.example/x", { signal: AbortSignal.abort() })).source, /was stopped/);
});

/** A killed process whose new parent has not waited for it yet counts as gone. */
function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

test("a broken file is told without its content, and the pull goes on anonymously", async () => {
  for (const text of [
    '{"auths": {"a": "hunter2"',
    '"hunter2"',
    '{"auths": {"a.example": {"auth": 3}}}',
    '{"auths": {"a.example": {"auth": "aHVudGVyMg=="}}}',
  ]) {
    await configure(text);

    const auth = await ask("a.example/x");

    assert.equal(auth.credentials, undefined);
    assert.match(auth.source, /config\.json/);
    assert.doesNotMatch(auth.source, /hunter2/);
  }
});

test("dockerRepository uses one exact entry for every image, except that the Hub's stays with the Hub", async () => {
  await configure({ auths: { "team key": basic("team", "x"), [HUB_KEY]: basic("hub", "x"), "a.example": basic("own", "x") } });

  const user = async (image: string, dockerRepository: string): Promise<unknown> =>
    (await ask(image, { dockerRepository })).credentials?.username;
  assert.equal(await user("a.example/x", "team key"), "team");
  assert.equal(await user("web", "team key"), "team");
  assert.equal(await user("a.example/x", HUB_KEY), "own");
  assert.equal(await user("web", HUB_KEY), "hub");
  assert.equal(await user("a.example/x", "no such key"), "own");
});

test("the header is URL-safe base64 with its padding", () => {
  const credentials = { username: "üser", password: "~~~???>>>", serveraddress: "a.example" };

  const header = registryAuthHeader(credentials);

  assert.match(header, /^[\w-]+=*$/);
  assert.equal(header.length % 4, 0);
  assert.deepEqual(JSON.parse(Buffer.from(header, "base64url").toString("utf8")), credentials);
});
