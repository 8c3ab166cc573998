import { TaskFailure } from "@berth/mesos/task-failure";
import type { DockerError } from "./engine-errors.ts";

/** One way in which dockerd says no: how it is known, and what a person can do about it. */
interface KnownFailure {
  /** Looked for in dockerd's own words. */
  words: RegExp;
  /** Follows "the container cannot be created: " or the like. */
  meaning: string;
  advice?: string;
  /** The task's own description is wrong: launching it again cannot help anywhere. */
  invalid?: boolean;
  /** May pass by itself. */
  recoverable?: boolean;
}

/** Why create, connect and start fail; the first that fits. The texts are those of dockerd and runc. */
const RUN_FAILURES: readonly KnownFailure[] = [
  {
    words: /port is already allocated|address already in use/i,
    meaning: "a host port is already taken",
    advice: "find who listens there (ss -ltnp), or let the framework offer another port",
  },
  {
    words: /executable file not found in \$PATH|exec: "[^"]*": stat [^:]*: no such file|exec [^:]*: no such file or directory/i,
    meaning: "the command does not exist in the image",
    advice: "check the command's spelling, the image's PATH, or whether its interpreter (#! line, dynamic loader) is in the image",
  },
  {
    words: /exec format error/i,
    meaning: "the command is no program for this machine",
    advice: "check the image's architecture, or whether a script lacks its #! line",
  },
  {
    words: /exec: "[^"]*"(: .*)?: (permission denied|is a directory)|exec [^:]*: permission denied/i,
    meaning: "the command cannot be executed",
    advice: "check that it is a file with the execute bit set",
  },
  {
    words: /unable to find (user|group)|no matching entries in (passwd|group) file/i,
    meaning: "the user or group does not exist in the image",
    advice: "name one that is in the image's /etc/passwd, or give a number",
  },
  {
    words:
      /bind source path does not exist|error while creating mount source path|not a directory: unknown: Are you trying to mount|error mounting|failed to mount/i,
    meaning: "a volume cannot be mounted",
    advice: "check that the path exists on this host and is of the kind that the task expects (file or directory)",
  },
  {
    words: /invalid (mount|volume)|Duplicate mount point|invalid bind mount|mount path must be absolute/i,
    meaning: "a volume is described wrongly",
    invalid: true,
  },
  {
    words: /logging plugin|no log driver named|unknown log opt|logger:|log opt/i,
    meaning: "the log driver or one of its options is not known to this dockerd",
    advice: "see the Log line of docker info",
  },
  {
    words: /VolumeDriver|plugin "?[^" ]*"? not found|Error looking up volume plugin/i,
    meaning: "the volume driver is not installed on this host",
    advice: "see docker plugin ls",
  },
  {
    words: /No such network|network .* not found|could not find a network|network [^ ]+ is ambiguous/i,
    meaning: "the network does not exist on this host",
    advice: "see docker network ls",
  },
  {
    words: /joining network namespace of container|No such container: .*network|cannot join network of a non running container/i,
    meaning: "the container whose network it shares is not running",
  },
  {
    words: /could not select device driver|error gathering device information/i,
    meaning: "a device is not there on this host",
  },
  { words: /unknown or invalid runtime|runtime .* not found/i, meaning: "the container runtime is not configured on this host" },
  {
    words:
      /invalid reference format|invalid characters|invalid hostname|Invalid container name|invalid (port|containerPort|IP|env|user|ulimit|CPU|memory|sysctl)|Minimum memory limit|must be|Conflicting options|conflicting options/i,
    meaning: "the task's description is not one that Docker takes",
    invalid: true,
  },
  {
    words: /sysctl .* not in a separate kernel namespace|is not in a separate kernel namespace|not allowed/i,
    meaning: "the task asks for something that this network or namespace mode does not allow",
  },
  {
    words: /no space left on device|disk quota exceeded/i,
    meaning: "this host's disk is full",
    advice: "free space under Docker's root directory",
  },
  {
    words: /cannot allocate memory|resource temporarily unavailable|no child processes/i,
    meaning: "this host is short of memory or processes",
    recoverable: true,
  },
  {
    words:
      /context deadline exceeded|timed? ?out|ttrpc|shim|transport is closing|connection refused|dbus|device or resource busy|layer does not exist/i,
    meaning: "Docker's own machinery failed",
    recoverable: true,
  },
];

/**
 * Turns dockerd's refusal of a create, connect or start into what the task's owner should read. dockerd's health (no answer,
 * no connection) is no verdict on the task: such an error is given back as it is.
 */
export function runFailure(error: DockerError, step: string, image?: string): DockerError | TaskFailure {
  if (error.statusCode === undefined) return error;
  const known = RUN_FAILURES.find(({ words }) => words.test(error.detail));
  const subject = image === undefined ? "the container" : `the container of image ${image}`;
  const meaning = known === undefined ? "" : `${known.meaning}${known.advice === undefined ? "" : `; ${known.advice}`}`;
  const said = `dockerd said: ${shorten(error.detail)}`;
  return new TaskFailure(`${subject} cannot be ${step}: ${meaning === "" ? said : `${meaning} (${said})`}`, {
    state: known?.invalid ? "TASK_ERROR" : "TASK_FAILED",
    reason: known?.invalid ? "REASON_TASK_INVALID" : "REASON_CONTAINER_LAUNCH_FAILED",
    recoverable: known?.recoverable === true,
    cause: error,
  });
}

/** Why pulls fail; the first that fits. `recoverable` ones are tried again. */
const PULL_FAILURES: readonly KnownFailure[] = [
  {
    words: /invalid reference format|invalid repository name|invalid tag|invalid checksum digest/i,
    meaning: "this is no image reference",
    invalid: true,
  },
  {
    words: /no matching manifest|image operating system .* cannot be used|does not match the (specified|detected) platform/i,
    meaning: "the image is not made for this machine's platform",
  },
  {
    words: /toomanyrequests|too many requests|rate limit/i,
    meaning: "the registry limits how often this host may pull",
    advice: "log in with an account, or pull through a mirror",
    recoverable: true,
  },
  {
    words:
      /unauthorized|no basic auth credentials|authentication required|denied|forbidden|incorrect username or password|status: 40[13]|40[13] /i,
    meaning: "unauthorized",
  },
  {
    words: /manifest unknown|manifest for .* not found|not found|name unknown|repository .* does not exist|No such image|status: 404/i,
    meaning: "the registry has no such repository, tag or digest",
    advice: "check the name, and whether the tag was pushed",
  },
  {
    words: /server gave HTTP response to HTTPS client/i,
    meaning: "the registry speaks plain HTTP",
    advice: "name it in dockerd's insecure-registries, or give it a certificate",
  },
  {
    words: /x509|certificate/i,
    meaning: "the registry's certificate is not trusted by dockerd",
    advice: "put its CA into /etc/docker/certs.d/<registry>/ca.crt",
  },
  {
    words: /no space left on device|disk quota exceeded/i,
    meaning: "this host's disk is full",
    advice: "free space under Docker's root directory",
  },
  {
    words: /no such host|server misbehaving|Temporary failure in name resolution/i,
    meaning: "the registry's name cannot be resolved",
    recoverable: true,
  },
  {
    words:
      /connection refused|connection reset|no route to host|network is unreachable|i\/o timeout|TLS handshake timeout|deadline exceeded|Client\.Timeout|request canceled|EOF|broken pipe/i,
    meaning: "the registry cannot be reached",
    advice: "check the network between this host and the registry, and dockerd's proxy settings",
    recoverable: true,
  },
];

/** What a failed pull tells the task's owner: image, registry, why, what to do. `detail` is dockerd's word. */
export function pullFailure(
  pull: { reference: string; auth?: string | undefined },
  detail: string,
  statusCode: number | undefined,
): TaskFailure {
  const known = PULL_FAILURES.find(({ words }) => words.test(detail));
  const registry = registryOf(pull.reference);
  const meaning = known?.meaning === "unauthorized" ? unauthorized(registry, pull.auth !== undefined) : withAdvice(known);
  return new TaskFailure(`image ${pull.reference} cannot be pulled from ${registry}: ${meaning}dockerd said: ${shorten(detail)}`, {
    state: known?.invalid ? "TASK_ERROR" : "TASK_FAILED",
    reason: known?.invalid ? "REASON_TASK_INVALID" : "REASON_CONTAINER_LAUNCH_FAILED",
    recoverable: known === undefined ? statusCode === undefined || statusCode >= 500 : known.recoverable === true,
  });
}

function withAdvice(known: KnownFailure | undefined): string {
  if (known === undefined) return "";
  return `${known.meaning}; ${known.advice === undefined ? "" : `${known.advice}; `}`;
}

function unauthorized(registry: string, withCredentials: boolean): string {
  if (withCredentials)
    return `the registry refused this host's credentials for it; renew the login for ${registry} in the Docker config file; `;
  return `the registry wants credentials or has no such repository, and this host has none for it; add a login for ${registry} to the Docker config file; `;
}

/** The registry that a reference names; Docker Hub when it names none. */
export function registryOf(reference: string): string {
  const slash = reference.indexOf("/");
  const first = reference.slice(0, Math.max(slash, 0));
  return first.includes(".") || first.includes(":") || first === "localhost" ? first : "docker.io";
}

/** `foo` is `foo:latest`. Without it dockerd would pull every tag, and take `cafe` for the beginning of an image id. */
export function completeReference(reference: string): string {
  const name = reference.slice(reference.lastIndexOf("/") + 1);
  return reference.includes("@") || name.includes(":") ? reference : `${reference}:latest`;
}

function shorten(detail: string): string {
  const line = detail.replaceAll(/\s+/g, " ").trim();
  return line.length > 600 ? `${line.slice(0, 600)}…` : line;
}
