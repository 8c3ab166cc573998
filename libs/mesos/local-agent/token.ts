import { createHmac, timingSafeEqual } from "node:crypto";

/** What the agent's JWT says about an executor: framework id, executor id, container id. There is no expiry. */
export interface ExecutorClaims {
  fid: string;
  eid: string;
  cid: string;
}

const SCHEMES = 'Basic realm="mesos-agent-executor",Bearer realm="mesos-agent-executor"';

/** The token of MESOS_EXECUTOR_AUTHENTICATION_TOKEN: a JWT signed with HS256, claims in alphabetical order as the agent writes them. */
export function signToken(claims: ExecutorClaims, key: string): string {
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const content = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ cid: claims.cid, eid: claims.eid, fid: claims.fid })}`;
  return `${content}.${createHmac("sha256", key).update(content).digest("base64url")}`;
}

/** Claims of a good Authorization header, or the WWW-Authenticate header of the 401 that answers a bad one. */
export function authenticate(header: string | undefined, key: string): { claims: Partial<ExecutorClaims> } | { challenge: string } {
  if (header === undefined) return { challenge: SCHEMES };
  const words = header.split(" ");
  if (words.length !== 2) return refuse("Malformed 'Authorization' header");
  if (words[0] !== "Bearer") return refuse(`Scheme '${words[0]}' unsupported`);
  const parts = (words[1] as string).split(".");
  if (parts.length !== 3) return refuse(`Invalid JWT: Expected 3 components in token, got ${parts.length}`);
  if (parse(parts[0] as string) === undefined) return refuse("Invalid JWT: Failed to decode token header: Failed to parse into JSON");
  const claims = parse(parts[1] as string);
  if (claims === undefined) return refuse("Invalid JWT: Failed to decode token payload: Failed to parse into JSON");
  const expected = createHmac("sha256", key).update(`${parts[0]}.${parts[1]}`).digest();
  const given = Buffer.from(parts[2] as string, "base64url");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    return refuse("Invalid JWT: Token signature does not match");
  }
  return { claims };
}

function refuse(description: string): { challenge: string } {
  return { challenge: `${SCHEMES}, error="invalid_token", error_description="${description}"` };
}

function parse(part: string): Partial<ExecutorClaims> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, "base64url").toString());
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
