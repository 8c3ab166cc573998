/**
 * Credentials for pulling an image, from the docker client's configuration file: `auths`, `credsStore` and `credHelpers`.
 * The file is read at each pull, so credentials that are renewed beneath a running supervisor are used at once. No message
 * from here holds a credential.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { callCredentialHelper } from "./credential-helper.ts";
import type { ImageReference } from "./image-reference.ts";

/** The JSON of an `X-Registry-Auth` header. Either a user and a password, or one of the tokens. */
export interface RegistryCredentials {
  username?: string;
  password?: string;
  /** Exchanged by the engine for an access token (`docker login` of some registries). */
  identitytoken?: string;
  /** Sent to the registry as it is. */
  registrytoken?: string;
  serveraddress: string;
}

export interface RegistryAuth {
  /** Absent: the image is pulled anonymously. */
  credentials?: RegistryCredentials;
  /** Where they are from, or why there are none, for logs and for the message of a pull that was refused. */
  source: string;
}

export interface RegistryAuthOptions {
  /** DOCKER_CONFIG, HOME and PATH are looked at. */
  environment: Readonly<Record<string, string | undefined>>;
  /** sidecar-executor's setting: the exact key whose credentials are used for every image, whatever registry it is from. */
  dockerRepository?: string;
  /** Deadline of a credential helper. Default 10 s: some ask a cloud's API. */
  helperTimeoutMs?: number;
  signal?: AbortSignal;
}

/** The key under which the docker client keeps the credentials of Docker Hub. */
export const HUB_KEY = "https://index.docker.io/v1/";
const HUB_HOSTS = ["index.docker.io", "docker.io", "registry-1.docker.io"];
const HELPER_TIMEOUT_MS = 10_000;

const AuthEntry = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
type AuthEntry = z.infer<typeof AuthEntry>;

const ConfigFile = z.object({
  auths: z.record(z.string(), AuthEntry).optional(),
  credsStore: z.string().optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
});
type ConfigFile = z.infer<typeof ConfigFile>;

/** The file of Docker before 1.7: the `auths` alone. */
const LegacyConfigFile = z.record(z.string(), AuthEntry);

/**
 * The credentials for an image by its own registry, as the docker client finds them. Never fails: what goes wrong is told in
 * `source`, and the pull goes on anonymously, because a public image needs no credentials at all.
 */
export async function registryAuth(image: ImageReference, options: RegistryAuthOptions): Promise<RegistryAuth> {
  const file = await readConfig(options.environment);
  if (file.config === undefined) return { source: file.source };
  const override = await overridden(file.config, image, options, file.source);
  if (override !== undefined) return override;

  const { config, source } = file;
  const serveraddress = image.registry === "docker.io" ? HUB_KEY : image.registry;
  const helper = helperFor(config, image.registry, serveraddress);
  const asked = helper === undefined ? undefined : await askHelper(helper, serveraddress, options);
  if (asked?.credentials !== undefined) return asked;

  const key = findKey(Object.keys(config.auths ?? {}), image.registry);
  const credentials = key === undefined ? undefined : credentialsOf(config.auths?.[key], serveraddress);
  if (credentials !== undefined) return { credentials, source: `${source}, entry ${key}` };
  if (asked !== undefined) return asked;
  return { source: key === undefined ? `${source} has no entry for ${serveraddress}` : `${source}, entry ${key}, holds no credentials` };
}

/** The value of the `X-Registry-Auth` header: URL-safe base64 of the JSON, padded, because engines before 23 insist on it. */
export function registryAuthHeader(credentials: RegistryCredentials): string {
  return Buffer.from(JSON.stringify(credentials)).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}

/**
 * sidecar-executor used one entry for all images, by default Docker Hub's. That default is no override here: it would send the
 * Hub's password to every registry and keep each image from its own registry's entry.
 */
async function overridden(
  config: ConfigFile,
  image: ImageReference,
  options: RegistryAuthOptions,
  source: string,
): Promise<RegistryAuth | undefined> {
  const key = options.dockerRepository;
  if (key === undefined || key === "" || (key === HUB_KEY && image.registry !== "docker.io")) return undefined;
  const entry = config.auths !== undefined && Object.hasOwn(config.auths, key) ? config.auths[key] : undefined;
  const credentials = credentialsOf(entry, key);
  if (credentials !== undefined) return { credentials, source: `${source}, entry ${key} (dockerRepository)` };
  const helper = helperFor(config, key, key);
  const asked = helper === undefined ? undefined : await askHelper(helper, key, options);
  return asked?.credentials === undefined ? undefined : asked;
}

interface ReadConfig {
  config?: ConfigFile;
  source: string;
}

/** The first of the three places that has a file, as the docker client looks for it. */
async function readConfig(environment: RegistryAuthOptions["environment"]): Promise<ReadConfig> {
  const { DOCKER_CONFIG, HOME } = environment;
  // A daemon that an init system starts may have no HOME; its own configuration then is root's.
  const home = HOME === undefined || HOME === "" ? "/root" : HOME;
  const places = [
    ...(DOCKER_CONFIG ? [join(DOCKER_CONFIG, "config.json")] : []),
    join(home, ".docker", "config.json"),
    join(home, ".dockercfg"),
  ];
  for (const path of places) {
    const text = await readIfThere(path);
    if (typeof text === "string") return parseConfig(path, text);
    if (text !== undefined) return { source: `${path} cannot be read (${text.code ?? "unknown error"})` };
  }
  return { source: `there is no docker configuration file (${places.join(", ")})` };
}

async function readIfThere(path: string): Promise<string | NodeJS.ErrnoException | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOENT" || code === "ENOTDIR" ? undefined : (error as NodeJS.ErrnoException);
  }
}

function parseConfig(path: string, text: string): ReadConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's own message quotes the text around the mistake.
    return { source: `${path} is not JSON` };
  }
  if (path.endsWith(".dockercfg")) {
    const legacy = LegacyConfigFile.safeParse(json);
    return legacy.success ? { config: { auths: legacy.data }, source: path } : { source: `${path} is not a docker configuration` };
  }
  const result = ConfigFile.safeParse(json);
  return result.success ? { config: result.data, source: path } : { source: `${path} is not a docker configuration` };
}

/** Finds the key for a registry whether it was written as a host, with a scheme or with a path. */
function findKey(keys: readonly string[], registry: string): string | undefined {
  const hosts = registry === "docker.io" ? HUB_HOSTS : [registry];
  if (registry === "docker.io" && keys.includes(HUB_KEY)) return HUB_KEY;
  for (const host of hosts) {
    if (keys.includes(host)) return host;
    const key = keys.find((candidate) => hostOf(candidate) === host);
    if (key !== undefined) return key;
  }
  return undefined;
}

function hostOf(key: string): string {
  const withoutScheme = key.replace(/^https?:\/\//, "");
  const slash = withoutScheme.indexOf("/");
  return slash === -1 ? withoutScheme : withoutScheme.slice(0, slash);
}

function credentialsOf(entry: AuthEntry | undefined, serveraddress: string): RegistryCredentials | undefined {
  if (entry === undefined) return undefined;
  const { username, password } = decodeAuth(entry);
  const { identitytoken, registrytoken } = entry;
  if (!identitytoken && !registrytoken && (!username || password === undefined)) return undefined;
  return {
    ...(username ? { username } : {}),
    // A token stands in the password's place: sent with both, engines log in with the password.
    ...(password !== undefined && !identitytoken && !registrytoken ? { password } : {}),
    ...(identitytoken ? { identitytoken } : {}),
    ...(registrytoken ? { registrytoken } : {}),
    serveraddress,
  };
}

/** `auth` is base64 of `user:password`; Docker pads it with NUL bytes at times. */
function decodeAuth({ auth, username, password }: AuthEntry): { username?: string | undefined; password?: string | undefined } {
  if (auth === undefined || auth === "") return { username, password };
  const text = Buffer.from(auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (colon === -1) return { username, password };
  return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, "") };
}

/** A helper of the registry's own goes before the store for all. */
function helperFor(config: ConfigFile, registry: string, serveraddress: string): string | undefined {
  const helpers = config.credHelpers ?? {};
  const key = Object.hasOwn(helpers, serveraddress) ? serveraddress : findKey(Object.keys(helpers), registry);
  const helper = key === undefined ? config.credsStore : helpers[key];
  return helper === "" ? undefined : helper;
}

async function askHelper(helper: string, serveraddress: string, options: RegistryAuthOptions): Promise<RegistryAuth> {
  const source = `docker-credential-${helper}`;
  const answer = await callCredentialHelper(helper, serveraddress, {
    environment: options.environment,
    timeoutMs: options.helperTimeoutMs ?? HELPER_TIMEOUT_MS,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  if ("problem" in answer) return { source: `${source}: ${answer.problem}` };
  // A user of this name says that the secret is an identity token.
  if (answer.username === "<token>") return { credentials: { identitytoken: answer.secret, serveraddress }, source };
  return { credentials: { username: answer.username, password: answer.secret, serveraddress }, source };
}
