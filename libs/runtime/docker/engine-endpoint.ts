import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { DockerEndpoint } from "./engine-types.ts";

const DEFAULT_HOST = "unix:///var/run/docker.sock";

/**
 * Where dockerd is, from DOCKER_HOST (`unix:///path`, `tcp://host:port`), DOCKER_TLS_VERIFY, DOCKER_CERT_PATH (ca.pem, cert.pem,
 * key.pem) and DOCKER_API_VERSION ("1.41"), read as the docker command reads them. Throws an Error that names the variable.
 */
export function dockerEndpoint(environment: Readonly<Record<string, string | undefined>>): DockerEndpoint {
  const url = environment.DOCKER_HOST || DEFAULT_HOST;
  const apiVersion = readApiVersion(environment.DOCKER_API_VERSION);
  if (url.startsWith("unix://")) return { url, socketPath: readSocketPath(url), ...apiVersion };
  const { hostname, port } = readTcp(url);
  const tls = readTls(environment);
  return { url, host: hostname, port: port ?? (tls === undefined ? 2375 : 2376), ...(tls === undefined ? {} : { tls }), ...apiVersion };
}

function readSocketPath(url: string): string {
  const path = url.slice("unix://".length);
  if (!path.startsWith("/")) throw new Error(`DOCKER_HOST ${url}: the path of a unix socket must be absolute, as in ${DEFAULT_HOST}`);
  return path;
}

function readTcp(url: string): { hostname: string; port?: number } {
  const parsed = URL.parse(url.includes("://") ? url : `tcp://${url}`);
  if (parsed === null || parsed.hostname === "" || !["tcp:", "http:", "https:"].includes(parsed.protocol)) {
    throw new Error(`DOCKER_HOST ${url}: give unix:///path/of/docker.sock or tcp://host:port`);
  }
  // A URL writes an IPv6 address in brackets, a socket wants it bare.
  const hostname = parsed.hostname.replace(/^\[(.*)\]$/, "$1");
  return parsed.port === "" ? { hostname } : { hostname, port: Number(parsed.port) };
}

/** As with the docker command: any DOCKER_TLS_VERIFY but an empty one verifies; only a DOCKER_CERT_PATH means TLS without verifying. */
function readTls(environment: Readonly<Record<string, string | undefined>>): DockerEndpoint["tls"] {
  const verify = Boolean(environment.DOCKER_TLS_VERIFY);
  const directory = environment.DOCKER_CERT_PATH || (verify && environment.HOME ? join(environment.HOME, ".docker") : "");
  if (!verify && !directory) return undefined;
  const read = (file: string): string => {
    try {
      return readFileSync(join(directory, file), "utf8");
    } catch (error) {
      throw new Error(`DOCKER_CERT_PATH ${directory}: ${file} cannot be read: ${(error as Error).message}`);
    }
  };
  return { verify, ca: read("ca.pem"), cert: read("cert.pem"), key: read("key.pem") };
}

function readApiVersion(value: string | undefined): { apiVersion?: string } {
  if (!value) return {};
  if (!/^v?\d+\.\d+$/.test(value)) throw new Error(`DOCKER_API_VERSION ${value}: give a version as in 1.41`);
  return { apiVersion: value.startsWith("v") ? value : `v${value}` };
}
