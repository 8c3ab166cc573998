/** Pulls through the whole system, from a real registry that asks for a password. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import type { RequestedUpdate } from "@berth/protocol";
import { type Dockerd, type Registry, ScriptedWorker, sharedDockerd, startRegistry, type TempDir, tempDir } from "@berth/test-harness";

let docker: Dockerd;
let registry: Registry;
let folder: TempDir;
let supervisor: LocalSupervisor;
const workers: ScriptedWorker[] = [];

before(async () => {
  docker = await sharedDockerd();
  registry = await startRegistry();
  folder = await tempDir("r");
  supervisor = await start("good", registry.password);
});

after(async () => {
  for (const worker of workers) await worker.disconnect();
  await supervisor?.stop();
  await registry?.stop();
  await docker?.stop();
  await folder?.remove();
});

/** A supervisor whose Docker config file knows the registry by that password. */
async function start(name: string, password: string): Promise<LocalSupervisor> {
  const config = join(folder.path, `${name}-docker`);
  await mkdir(config);
  const auth = Buffer.from(`${registry.username}:${password}`).toString("base64");
  await writeFile(join(config, "config.json"), JSON.stringify({ auths: { [registry.address]: { auth } } }));
  return await LocalSupervisor.start({
    directory: join(folder.path, name),
    environment: { DOCKER_HOST: docker.host, DOCKER_CONFIG: config, EXECUTOR_PULL_ATTEMPTS: "2" },
    logFile: join(folder.path, `${name}.log`),
  });
}

/** Launches a task with an image and waits for its end. */
async function run(
  image: string,
  options: { force?: boolean; by?: LocalSupervisor; exit?: number } = {},
): Promise<{ id: string; end: RequestedUpdate; what: string[] }> {
  const by = options.by ?? supervisor;
  const worker = new ScriptedWorker({ socket: by.socket, sandbox: folder.path });
  workers.push(worker);
  await worker.connect();
  const id = `r-${randomBytes(5).toString("hex")}`;
  worker.launch({
    task_id: { value: id },
    container: { type: "DOCKER", docker: { image, network: "NONE", ...(options.force === true ? { force_pull_image: true } : {}) } },
    command: { shell: true, value: `exit ${options.exit ?? 0}` },
  });
  const end = await Promise.race([worker.update(id, "TASK_FINISHED", 90_000), worker.update(id, "TASK_FAILED", 90_000)]);
  const events = (await by.admin.text("/v1/events")).split("\n").filter((line) => line.includes(id));
  return {
    id,
    end,
    what: events.map((line) => JSON.parse(line) as { what: string; detail?: string }).map(({ what, detail }) => `${what}: ${detail ?? ""}`),
  };
}

async function digestOf(image: string): Promise<string> {
  const { RepoDigests } = await docker.api.call<{ RepoDigests: string[] }>("GET", `/images/${image}/json`);
  return RepoDigests.find((each) => each.startsWith(registry.address)) ?? "";
}

async function forget(image: string): Promise<void> {
  await docker.api.call("DELETE", `/images/${image}?force=1`).catch(() => {});
}

describe("pulls", () => {
  test("a missing image is pulled with the registry's password, and the events say so", async () => {
    const image = await registry.push(docker.host, `app-${randomBytes(3).toString("hex")}`);

    const { end, what } = await run(image);

    assert.equal(end.state, "TASK_FINISHED", end.message);
    assert.ok(
      what.some((line) => line.startsWith("pulling: ") && line.includes(image)),
      what.join("\n"),
    );
    await forget(image);
  });

  test("one that is there is not pulled, unless the task wants that", async () => {
    const image = await registry.push(docker.host, `app-${randomBytes(3).toString("hex")}`);
    await run(image);

    assert.equal(
      (await run(image)).what.some((line) => line.startsWith("pulling")),
      false,
    );
    const forced = await run(image, { force: true });
    assert.equal(forced.end.state, "TASK_FINISHED", forced.end.message);
    assert.equal(
      forced.what.some((line) => line.startsWith("pulling")),
      true,
    );
    await forget(image);
  });

  test("a digest names the image as well as a tag", async () => {
    const image = await registry.push(docker.host, `app-${randomBytes(3).toString("hex")}`);
    await run(image);
    const byDigest = await digestOf(image);
    assert.match(byDigest, /@sha256:/);
    await forget(image);
    await forget(byDigest);

    const { end, what } = await run(byDigest);

    assert.equal(end.state, "TASK_FINISHED", end.message);
    assert.ok(what.some((line) => line.startsWith("pulling")));
    await forget(byDigest);
  });

  test("an unknown tag, an unknown image and a registry that is not there each fail with words that name them", async () => {
    const image = await registry.push(docker.host, `app-${randomBytes(3).toString("hex")}`);
    const cases: Array<[string, RegExp]> = [
      [image.replace(/:1$/, ":nope"), /:nope/],
      [`${registry.address}/nothing-of-that-name:1`, /nothing-of-that-name/],
      ["127.0.0.1:1/app:1", /127\.0\.0\.1:1/],
    ];
    for (const [wanted, message] of cases) {
      const { end } = await run(wanted);
      assert.deepEqual([end.state, message.test(end.message ?? "")], ["TASK_FAILED", true], end.message);
      assert.doesNotMatch(end.message ?? "", new RegExp(registry.password));
    }
  });

  test("a wrong password fails with words about credentials, and without them", async () => {
    const image = await registry.push(docker.host, `app-${randomBytes(3).toString("hex")}`);
    const wrong = await start("wrong", "not-the-password");
    try {
      const { end } = await run(image, { by: wrong });

      assert.equal(end.state, "TASK_FAILED");
      assert.match(end.message ?? "", /credentials|password|log ?in|unauthori[sz]ed|denied/i);
      assert.doesNotMatch(end.message ?? "", /not-the-password/);
    } finally {
      await wrong.stop();
    }
  });
});
