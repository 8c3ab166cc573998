import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TaskFailure } from "@berth/mesos/task-failure";
import { DockerApi, type Dockerd, freePort, type Registry, sharedDockerd, startRegistry, tempDir, waitFor } from "@berth/test-harness";
import { openTestEngine, startHttpProxy } from "./engine-test-kit.ts";
import type { PullRequest } from "./engine-types.ts";

describe("pulling from a registry with a password", { timeout: 120_000 }, () => {
  let dockerd: Dockerd;
  let registry: Registry;
  before(async () => {
    [dockerd, registry] = await Promise.all([sharedDockerd(), startRegistry()]);
  });
  after(async () => {
    await registry.stop();
    await dockerd.stop();
  });

  /** The failure of a pull that must fail, after a single attempt unless more are asked for. */
  async function failure(request: PullRequest, host = dockerd.host): Promise<TaskFailure> {
    await using kit = await openTestEngine(host);
    const error = await kit.engine.pull({ attempts: 1, ...request }).then(undefined, (reason) => reason);
    assert.ok(TaskFailure.is(error), String(error));
    return error;
  }

  /** Pushes an image with a layer that this dockerd does not have, so that a pull has something to transfer. */
  async function pushFresh(name: string): Promise<string> {
    const api = new DockerApi(dockerd.host);
    await using folder = await tempDir("layer");
    await writeFile(join(folder.path, "random"), randomBytes(300_000));
    const repository = encodeURIComponent(`${registry.address}/${name}`);
    const tar = execFileSync("tar", ["-C", folder.path, "-c", "."]);
    await api.call("POST", `/images/create?fromSrc=-&repo=${repository}&tag=1`, tar);
    const reference = `${registry.address}/${name}:1`;
    await api.call("POST", `/images/${registry.address}/${name}/push?tag=1`, undefined, { "X-Registry-Auth": registry.login() });
    await forget(reference);
    return reference;
  }

  async function forget(reference: string): Promise<void> {
    await new DockerApi(dockerd.host).call("DELETE", `/images/${reference}?force=1`);
  }

  test("the right credentials get the image, by tag and by digest, and progress is told", async () => {
    await using kit = await openTestEngine(dockerd.host);
    const reference = await pushFresh("team/app");
    assert.equal(await kit.engine.imagePresent({ reference }), undefined);

    const { imageId } = await kit.engine.pull({ reference, auth: registry.login(), follow: 1 });

    assert.match(imageId, /^sha256:/);
    assert.equal(await kit.engine.imagePresent({ reference }), imageId);
    const end = kit.progress.at(-1);
    assert.equal(end?.message, "pulled");
    assert.equal(end?.layers, end?.layersDone);
    assert.equal(end?.layers, 1);
    assert.equal(end?.downloaded, end?.total);

    const [digest] = (await new DockerApi(dockerd.host).call<{ RepoDigests: string[] }>("GET", `/images/${reference}/json`)).RepoDigests;
    await forget(reference);
    assert.equal(await kit.engine.imagePresent({ reference: digest ?? "" }), undefined);
    assert.deepEqual(await kit.engine.pull({ reference: digest ?? "", auth: registry.login() }), { imageId });
    assert.equal(await kit.engine.imagePresent({ reference: digest ?? "" }), imageId);
    // With both, the digest counts.
    const both = `${registry.address}/team/app:other@${digest?.split("@")[1]}`;
    assert.equal(await kit.engine.imagePresent({ reference: both }), imageId);
    await forget(digest ?? "");
    assert.deepEqual(await kit.engine.pull({ reference: both, auth: registry.login() }), { imageId });
    await forget(digest ?? "");
  });

  test("a name without a tag means latest, and only that tag is pulled", async () => {
    await using kit = await openTestEngine(dockerd.host);
    for (const tag of ["latest", "other"]) await registry.push(dockerd.host, "team/tags", tag);
    const repository = `${registry.address}/team/tags`;

    await kit.engine.pull({ reference: repository, auth: registry.login() });

    assert.ok(await kit.engine.imagePresent({ reference: repository }));
    assert.equal(await kit.engine.imagePresent({ reference: `${repository}:other` }), undefined);
    await forget(`${repository}:latest`);
  });

  test("each refusal names image and registry, says what to do, and is not tried again", async () => {
    const reference = await registry.push(dockerd.host, "team/secret", "1");
    const wrong = Buffer.from(JSON.stringify({ username: "alice", password: "wrong-secret", serveraddress: registry.address })).toString(
      "base64",
    );
    const attempts: number[] = [];
    await using proxy = await startHttpProxy(dockerd.host, (request: IncomingMessage) => {
      if (request.url?.startsWith("/images/create")) attempts.push(1);
      return false;
    });
    const cases: Array<[name: string, request: PullRequest, expected: RegExp]> = [
      ["no credentials", { reference }, /wants credentials.*add a login for 127\.0\.0\.1:\d+ to the Docker config file/],
      ["wrong credentials", { reference, auth: wrong }, /refused this host's credentials/],
      ["unknown tag", { reference: `${registry.address}/team/secret:nosuch`, auth: registry.login() }, /no such repository, tag or digest/],
      ["unknown name", { reference: `${registry.address}/team/nosuch:1`, auth: registry.login() }, /no such repository, tag or digest/],
      [
        "unknown digest",
        { reference: `${registry.address}/team/secret@sha256:${"0".repeat(64)}`, auth: registry.login() },
        /no such repository, tag or digest/,
      ],
      ["no reference", { reference: "127.0.0.1:5000/UPPER case" }, /this is no image reference/],
    ];
    for (const [name, request, expected] of cases) {
      attempts.length = 0;
      const error = await failure({ ...request, attempts: 3 }, proxy.host);

      assert.match(error.message, expected, name);
      assert.ok(error.message.includes(request.reference) && error.message.includes("127.0.0.1:"), name);
      assert.ok(!error.message.includes("wrong-secret") && !error.message.includes(registry.password), name);
      assert.equal(error.recoverable, false, name);
      assert.equal(error.state, name === "no reference" ? "TASK_ERROR" : "TASK_FAILED");
      assert.equal(attempts.length, 1, name);
    }
  });

  test("a registry that is not there is tried again, and then named", async () => {
    await using kit = await openTestEngine(dockerd.host);
    const reference = `127.0.0.1:${await freePort()}/x:1`;

    const error = await kit.engine.pull({ reference, attempts: 2, follow: 1 }).then(undefined, (reason) => reason);

    assert.ok(TaskFailure.is(error) && error.recoverable);
    assert.match(error.message, /registry cannot be reached.*connection refused/);
    assert.equal(kit.progress.filter(({ message }) => /attempt 1 of 2 failed/.test(message)).length, 1);
  });

  test("tasks that want the same image share one pull; one that gives up leaves it to the others", async () => {
    const reference = await registry.push(dockerd.host, "team/shared", "1");
    let pulls = 0;
    await using proxy = await startHttpProxy(dockerd.host, (request) => {
      if (request.url?.startsWith("/images/create")) pulls += 1;
      return false;
    });
    await using kit = await openTestEngine(proxy.host);
    const request = { reference, auth: registry.login() };
    const impatient = new AbortController();

    const given = kit.engine.pull(request, impatient.signal);
    const others = Array.from({ length: 5 }, () => kit.engine.pull(request));
    impatient.abort(new Error("killed"));

    await assert.rejects(given, /killed/);
    const ids = new Set((await Promise.all(others)).map(({ imageId }) => imageId));
    assert.equal(ids.size, 1);
    assert.equal(pulls, 1);
    await forget(reference);
  });

  test("another task's credentials do not serve a pull that has none", async () => {
    const reference = await registry.push(dockerd.host, "team/mixed", "1");
    await using kit = await openTestEngine(dockerd.host);

    const [allowed, refused] = await Promise.allSettled([
      kit.engine.pull({ reference, auth: registry.login() }),
      kit.engine.pull({ reference, attempts: 1 }),
    ]);

    assert.equal(allowed.status, "fulfilled");
    assert.ok(refused.status === "rejected" && /wants credentials/.test(String(refused.reason)));
    await forget(reference);
  });

  test("a pull that goes silent, and one whose waiters have all gone, are ended", async () => {
    let open = 0;
    await using proxy = await startHttpProxy(dockerd.host, (request, response) => {
      if (!request.url?.startsWith("/images/create")) return false;
      open += 1;
      response.on("close", () => {
        open -= 1;
      });
      response.writeHead(200, { "content-type": "application/json" });
      response.write('{"status":"Pulling fs layer","progressDetail":{},"id":"a1"}\n');
      return true;
    });
    await using kit = await openTestEngine(proxy.host, { timeouts: { pullSilence: 300 } });
    await using patient = await openTestEngine(proxy.host);

    const silent = await kit.engine.pull({ reference: "example.invalid/x", attempts: 1 }).then(undefined, (error) => error);
    assert.ok(TaskFailure.is(silent) && silent.recoverable);
    assert.match(silent.message, /example\.invalid\/x:latest cannot be pulled from example\.invalid: the pull made no progress for 0\.3 s/);

    const controller = new AbortController();
    const abandoned = patient.engine.pull({ reference: "example.invalid/x" }, controller.signal);
    await waitFor(() => open === 1);
    controller.abort(new Error("killed"));
    await assert.rejects(abandoned, /killed/);
    await waitFor(() => open === 0);
  });
});
