import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DockerApi } from "./docker-api.ts";
import { BUSYBOX_IMAGE, importBusybox } from "./image.ts";
import { freePort } from "./ports.ts";
import { type RunningProcess, startProcess } from "./process.ts";
import { tempDir } from "./temp-dir.ts";
import { command, installedServer } from "./tools.ts";

export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:port`: dockerd speaks plain HTTP to it without being told to. */
  address: string;
  username: string;
  password: string;
  /** The value of the header X-Registry-Auth that lets the Docker API in. */
  login(): string;
  process: RunningProcess;
  /** Pushes the busybox image as `<address>/<name>:<tag>` from the given engine, removes it there, and returns the full name. */
  push(host: string, name: string, tag?: string): Promise<string>;
  stop(): Promise<void>;
}

/** A Docker registry that asks for a password. */
export async function startRegistry(options: { port?: number } = {}): Promise<Registry> {
  const folder = await tempDir("registry");
  const port = options.port ?? (await freePort());
  const address = `127.0.0.1:${port}`;
  const username = "alice";
  const password = randomBytes(9).toString("base64url");
  await writeFile(join(folder.path, "htpasswd"), `${username}:${await bcrypt(password)}\n`);
  const template = await readFile(new URL("../servers/docker-registry/config.yml.in", import.meta.url), "utf8");
  const config = join(folder.path, "config.yml");
  await writeFile(config, template.replaceAll("@DIR@", folder.path).replaceAll("@PORT@", String(port)));
  const server = await startProcess({
    name: "docker-registry",
    command: installedServer("docker-registry"),
    args: ["serve", config],
    ready: async () => (await fetch(`http://${address}/v2/`)).status === 401,
  });

  function login(): string {
    const json = JSON.stringify({ username, password, serveraddress: address });
    // Go's decoder wants the padding, which Node's "base64url" leaves out.
    return Buffer.from(json).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
  }

  async function push(host: string, name: string, tag = "1"): Promise<string> {
    const api = new DockerApi(host);
    const repository = `${address}/${name}`;
    await importBusybox(host);
    await api.call("POST", `/images/${BUSYBOX_IMAGE}/tag?repo=${encodeURIComponent(repository)}&tag=${tag}`);
    // A failed push is answered with 200 and says so only in its stream.
    const progress = String(await api.call("POST", `/images/${repository}/push?tag=${tag}`, undefined, { "X-Registry-Auth": login() }));
    if (progress.includes("errorDetail")) throw new Error(`the push to the test registry failed: ${progress}`);
    await api.call("DELETE", `/images/${repository}:${tag}`);
    return `${repository}:${tag}`;
  }

  const stop = async (): Promise<void> => {
    await server.stop();
    await folder.remove();
  };
  return { address, username, password, login, process: server, push, stop, [Symbol.asyncDispose]: stop };
}

/** Registries take bcrypt only. Debian's base Perl reaches it through crypt(3), which spares apache2-utils. */
async function bcrypt(password: string): Promise<string> {
  return command(
    "perl",
    "-e",
    'print crypt($ARGV[0], "\\$2y\\$05\\$" . $ARGV[1])',
    "--",
    password,
    randomBytes(16).toString("hex").slice(0, 22),
  );
}
