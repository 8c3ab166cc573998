import { agentSpeaksTls, checksAgentCertificate } from "@berth/mesos";
import { concat } from "./bytes.ts";
import type { Connection, ConnectionHandlers, Host } from "./host.ts";

/** Where the agent's executor API is, from the environment that the agent gives an executor. */
export interface AgentEndpoint {
  connect(host: Host, handlers: ConnectionHandlers): Connection;
  /** "127.0.0.1:5051" or the socket's path, for messages. */
  name: string;
  path: string;
  tls: boolean;
  authorization: string | undefined;
}

/** The variable with the executor's bearer token; read once, then erased: no child and no log may see it. */
export const TOKEN_VARIABLE = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN";

/** sockaddr_un holds 108 bytes with the closing zero. */
const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Reads MESOS_AGENT_ENDPOINT, MESOS_DOMAIN_SOCKET, MESOS_SLAVE_PID, LIBPROCESS_SSL_ENABLED, BERTH_AGENT_SCHEME and the token.
 * Returns what is wrong as a string where the environment is not one that an agent gives.
 */
export function agentEndpoint(host: Host): AgentEndpoint | string {
  const environment = host.environment();
  const token = environment[TOKEN_VARIABLE];
  host.eraseEnvironment(TOKEN_VARIABLE);
  const authorization = token === undefined || token === "" ? undefined : `Bearer ${token}`;
  // On its domain socket the agent takes only the exact path with its own process id; over TCP that works as well.
  const process = (environment.MESOS_SLAVE_PID ?? "").split("@")[0] ?? "";
  const path = `${process === "" ? "" : `/${process}`}/api/v1/executor`;

  const socket = environment.MESOS_DOMAIN_SOCKET ?? "";
  // A path that does not fit into a socket address is passed over: the agent serves TCP beside its socket.
  if (socket !== "" && host.encodeUtf8(socket).length <= MAX_SOCKET_PATH_BYTES) {
    const exact = process === "" ? `/slave(1)${path}` : path;
    return { connect: (on, handlers) => on.connectUnix(socket, handlers), name: socket, path: exact, tls: false, authorization };
  }
  const name = environment.MESOS_AGENT_ENDPOINT ?? "";
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:]+)):(\d{1,5})$/.exec(name);
  if (match === null) return `MESOS_AGENT_ENDPOINT is "${name}", which is no address:port`;
  const address = match[1] ?? (match[2] as string);
  const port = Number(match[3]);
  const tls = agentSpeaksTls(environment);
  if (!tls) return { connect: (on, handlers) => on.connectTcp(address, port, handlers), name, path, tls, authorization };
  if (host.connectTls === undefined) return "the agent wants TLS, which this build of the worker does not have";
  const caFile = environment.LIBPROCESS_SSL_CA_FILE;
  const ca = caFile === undefined ? null : host.readTextFile(caFile);
  const options = {
    verify: checksAgentCertificate(environment),
    ...(ca === null ? {} : { ca }),
  };
  return {
    connect: (on, handlers) => (on.connectTls as NonNullable<Host["connectTls"]>)(address, port, options, handlers),
    name,
    path,
    tls,
    authorization,
  };
}

/** One POST of a call, whole. */
export function encodeRequest(host: Host, endpoint: AgentEndpoint, body: Uint8Array): Uint8Array {
  const head = [
    `POST ${endpoint.path} HTTP/1.1`,
    `Host: ${endpoint.name.startsWith("/") ? "agent" : endpoint.name}`,
    // The agent compares this header with string equality: no charset.
    "Content-Type: application/json",
    "Accept: application/json",
    ...(endpoint.authorization === undefined ? [] : [`Authorization: ${endpoint.authorization}`]),
    `Content-Length: ${body.length}`,
  ];
  return concat([host.encodeUtf8(`${head.join("\r\n")}\r\n\r\n`), body]);
}
