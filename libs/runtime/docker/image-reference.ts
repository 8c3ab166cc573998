import { TaskFailure } from "@berth/mesos";

/** A normalised image name: `web` is `docker.io/library/web:latest`. Grammar: the `reference` package of the OCI distribution project. */
export interface ImageReference {
  /** As the task names it. */
  readonly written: string;
  /** The registry's host with its port if any: `docker.io`, `registry.example:5000`. */
  readonly registry: string;
  /** The path in the registry: `library/web`. */
  readonly repository: string;
  /** Absent only where a digest names the image and no tag was written. */
  readonly tag?: string;
  /** `sha256:<hex>`. */
  readonly digest?: string;
}

/** The query of `POST /images/create` that pulls exactly one image. */
export interface PullArguments {
  fromImage: string;
  /** A tag, or a digest. Never absent: without it the engine pulls every tag of the repository. */
  tag: string;
}

const HUB = "docker.io";
const COMPONENT = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const HOST =
  /^(?:\[[0-9a-fA-F:]+\]|(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*)(?::[0-9]+)?$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/** Parses and normalises an image name as Docker does. Throws a {@link TaskFailure} (TASK_ERROR) that says which part is wrong. */
export function parseImageReference(written: string): ImageReference {
  const [beforeDigest = "", digest, ...more] = written.split("@");
  if (more.length > 0 || (digest !== undefined && !DIGEST.test(digest)))
    throw invalid(written, "the part after '@' must be a digest like sha256:<64 hex digits>");

  // A colon before the last slash belongs to the registry's port, one behind it begins the tag.
  const slash = beforeDigest.lastIndexOf("/");
  const colon = beforeDigest.indexOf(":", slash + 1);
  const name = colon === -1 ? beforeDigest : beforeDigest.slice(0, colon);
  const tag = colon === -1 ? undefined : beforeDigest.slice(colon + 1);
  if (tag !== undefined && !TAG.test(tag))
    throw invalid(written, "a tag has letters, digits, '_', '.' and '-' only, at most 128, and does not begin with '.' or '-'");

  const { registry, path } = splitRegistry(name);
  if (!HOST.test(registry)) throw invalid(written, "the registry must be a host name or address with an optional port");
  if (path === "" || !path.split("/").every((component) => COMPONENT.test(component))) {
    throw invalid(
      written,
      "a repository name is lower case letters, digits and single '.', '_' or '-' between them, in parts divided by '/'",
    );
  }
  if (name.length > 255) throw invalid(written, "the repository name is longer than 255 characters");
  const repository = registry === HUB && !path.includes("/") ? `library/${path}` : path;
  return {
    written,
    registry,
    repository,
    ...(tag !== undefined ? { tag } : digest === undefined ? { tag: "latest" } : {}),
    ...(digest !== undefined ? { digest } : {}),
  };
}

/** The first part is a registry only if it looks like a host: with a dot, a port or capitals, or `localhost`; as Docker decides it. */
function splitRegistry(name: string): { registry: string; path: string } {
  const slash = name.indexOf("/");
  const first = slash === -1 ? "" : name.slice(0, slash);
  const isHost = slash !== -1 && (/[.:]/.test(first) || first === "localhost" || first.toLowerCase() !== first);
  if (!isHost) return { registry: HUB, path: name };
  return { registry: first === "index.docker.io" ? HUB : first, path: name.slice(slash + 1) };
}

function invalid(written: string, why: string): TaskFailure {
  return new TaskFailure(`container.docker.image '${written.slice(0, 300)}' is not a valid image name: ${why}`, { state: "TASK_ERROR" });
}

/** The full name: `docker.io/library/web:latest`. */
export function canonicalName(image: ImageReference): string {
  return `${image.registry}/${image.repository}${image.tag === undefined ? "" : `:${image.tag}`}${image.digest === undefined ? "" : `@${image.digest}`}`;
}

/** The repository as Docker prints it in RepoTags and RepoDigests: without `docker.io/` and `library/`. */
export function familiarRepository(image: ImageReference): string {
  if (image.registry !== HUB) return `${image.registry}/${image.repository}`;
  const short = image.repository.replace(/^library\/(?=[^/]+$)/, "");
  // A repository of the Hub whose first part looks like a host keeps its registry: it would be taken for one.
  return splitRegistry(short).registry === HUB ? short : `${HUB}/${short}`;
}

/**
 * Whether two names mean the same image. A digest decides alone; a tag beside it is only a remark. A name that cannot be parsed
 * (`<none>:<none>` in an image list) is the same as nothing.
 */
export function sameImage(one: string | ImageReference, other: string | ImageReference): boolean {
  const [left, right] = [parsed(one), parsed(other)];
  if (left === undefined || right === undefined) return false;
  if (left.registry !== right.registry || left.repository !== right.repository) return false;
  if (left.digest !== undefined || right.digest !== undefined) return left.digest === right.digest;
  return left.tag === right.tag;
}

function parsed(image: string | ImageReference): ImageReference | undefined {
  if (typeof image !== "string") return image;
  try {
    return parseImageReference(image);
  } catch {
    return undefined;
  }
}

/** What to ask `POST /images/create` for. With tag and digest the digest is pulled, as the docker client does. */
export function pullArguments(image: ImageReference): PullArguments {
  return { fromImage: familiarRepository(image), tag: image.digest ?? image.tag ?? "latest" };
}

/**
 * The value of SERVICE_VERSION: the tag as written; without one the digest's hex digits; undefined for a bare name, so that an image's own
 * SERVICE_VERSION shows through.
 */
export function serviceVersion(image: ImageReference): string | undefined {
  if (image.tag !== undefined && (image.tag !== "latest" || writesTag(image))) return image.tag;
  return image.digest?.slice(image.digest.indexOf(":") + 1);
}

function writesTag(image: ImageReference): boolean {
  return /:[^/@]+(?:@|$)/.test(image.written);
}
