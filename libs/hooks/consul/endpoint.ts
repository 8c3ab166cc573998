import { readFileSync } from "node:fs";
import type { ConsulConfig } from "../config.ts";
import { type EndpointOptions, type HttpEndpoint, httpEndpoint } from "../http.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_ADDRESS = "127.0.0.1:8500";

/**
 * Where Consul is, by the variables that its own clients read: CONSUL_HTTP_ADDR, CONSUL_HTTP_SSL, CONSUL_CACERT,
 * CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY, CONSUL_TLS_SERVER_NAME, CONSUL_HTTP_SSL_VERIFY. An executor may name another address;
 * files are only read where the daemon names them. Connections are shared by all tasks with the same address.
 */
export function consulEndpoints(config: ConsulConfig, environment: Environment): (executorEnvironment: Environment) => HttpEndpoint {
  const known = new Map<string, HttpEndpoint>();
  return (executorEnvironment) => {
    const address = executorEnvironment.CONSUL_HTTP_ADDR || config.address || environment.CONSUL_HTTP_ADDR || DEFAULT_ADDRESS;
    const secure = isTrue(executorEnvironment.CONSUL_HTTP_SSL ?? environment.CONSUL_HTTP_SSL);
    const key = secure && !address.includes("://") ? `https://${address}` : address;
    let endpoint = known.get(key);
    if (endpoint === undefined) {
      endpoint = httpEndpoint(key, tlsOptions(environment));
      known.set(key, endpoint);
    }
    return endpoint;
  };
}

function tlsOptions(environment: Environment): EndpointOptions {
  const named: Array<[keyof EndpointOptions, string | undefined]> = [
    ["ca", environment.CONSUL_CACERT],
    ["cert", environment.CONSUL_CLIENT_CERT],
    ["key", environment.CONSUL_CLIENT_KEY],
    ["serverName", environment.CONSUL_TLS_SERVER_NAME],
  ];
  const given = Object.fromEntries(named.filter(([, value]) => value !== undefined && value !== ""));
  return { ...given, ...(isFalse(environment.CONSUL_HTTP_SSL_VERIFY) ? { verify: false } : {}) };
}

/**
 * The headers that let a call in: CONSUL_TOKEN or CONSUL_HTTP_TOKEN of the executor, else of the daemon, else what its
 * CONSUL_HTTP_TOKEN_FILE holds; and CONSUL_HTTP_AUTH ("user:password"). The daemon's own never go to an address that an executor
 * has named.
 */
export function consulCredentials(executorEnvironment: Environment, environment: Environment): Record<string, string> {
  const trusted = executorEnvironment.CONSUL_HTTP_ADDR ? {} : environment;
  const token =
    executorEnvironment.CONSUL_TOKEN ||
    executorEnvironment.CONSUL_HTTP_TOKEN ||
    trusted.CONSUL_TOKEN ||
    trusted.CONSUL_HTTP_TOKEN ||
    (trusted.CONSUL_HTTP_TOKEN_FILE ? readFileSync(trusted.CONSUL_HTTP_TOKEN_FILE, "utf8").trim() : "");
  const login = executorEnvironment.CONSUL_HTTP_AUTH || trusted.CONSUL_HTTP_AUTH || "";
  return {
    ...(token === "" ? {} : { "x-consul-token": token }),
    ...(login === "" ? {} : { authorization: `Basic ${Buffer.from(login).toString("base64")}` }),
  };
}

function isTrue(value: string | undefined): boolean {
  return /^(1|t|true)$/i.test(value ?? "");
}

function isFalse(value: string | undefined): boolean {
  return /^(0|f|false)$/i.test(value ?? "");
}
