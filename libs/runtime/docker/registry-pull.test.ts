/** Names and credentials, shown to a real engine and a real registry that asks for a password. */
import assert from "node:assert/strict";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sharedDockerd, startRegistry, tempDir } from "@berth/test-harness";
import { canonicalName, type ImageReference, parseImageReference, pullArguments, sameImage } from "./image-reference.ts";
import { registryAuth, registryAuthHeader } from "./registry-auth.ts";

test("an engine pulls by tag and by digest with what the configuration file and a helper say, and not without", async () => {
  await using engine = await sharedDockerd();
  await using registry = await startRegistry();
  await using folder = await tempDir("pull");
  const environment = { HOME: folder.path, PATH: `${folder.path}:${process.env.PATH}` };
  await mkdir(join(folder.path, ".docker"));
  const configure = (config: object): Promise<void> => writeFile(join(folder.path, ".docker", "config.json"), JSON.stringify(config));
  const tagged = parseImageReference(await registry.push(engine.host, "team/box", "1"));

  async function pull(image: ImageReference): Promise<string> {
    const { credentials } = await registryAuth(image, { environment });
    const headers = credentials === undefined ? {} : { "X-Registry-Auth": registryAuthHeader(credentials) };
    const query = new URLSearchParams({ ...pullArguments(image) });
    try {
      return String(await engine.api.call("POST", `/images/create?${query}`, undefined, headers));
    } catch (error) {
      return `errorDetail: ${error}`;
    }
  }

  assert.match(await pull(tagged), /errorDetail/);

  await configure({
    auths: { [`http://${registry.address}/v2/`]: { auth: Buffer.from(`${registry.username}:${registry.password}`).toString("base64") } },
  });
  assert.doesNotMatch(await pull(tagged), /errorDetail/);
  const { RepoTags, RepoDigests } = await engine.api.call<{ RepoTags: string[]; RepoDigests: string[] }>(
    "GET",
    `/images/${tagged.written}/json`,
  );
  assert.ok(RepoTags.some((name) => sameImage(name, tagged)));
  const digested = parseImageReference(RepoDigests.find((name) => name.startsWith(`${registry.address}/`)) as string);
  assert.ok(RepoDigests.some((name) => sameImage(name, { ...tagged, ...digested })));
  await engine.api.call("DELETE", `/images/${tagged.written}`);

  const helper = join(folder.path, "docker-credential-test");
  await writeFile(helper, `#!/bin/sh\ncat > /dev/null\necho '{"Username": "${registry.username}", "Secret": "${registry.password}"}'\n`);
  await chmod(helper, 0o755);
  await configure({ credHelpers: { [registry.address]: "test" } });
  for (const image of [digested, parseImageReference(`${tagged.written}@${digested.digest}`)]) {
    assert.doesNotMatch(await pull(image), /errorDetail/);
    await engine.api.call("DELETE", `/images/${canonicalName(digested)}`);
  }
});
