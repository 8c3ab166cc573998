import { readFile } from "node:fs/promises";
import { agentSpeaksTls, checksAgentCertificate } from "@berth/mesos";
import type { SeedsRequest } from "@berth/sidecar";
import { z } from "zod";

/** How this host's agent and its master are asked for the cluster's agents. Texts that are not set are "". */
export interface MesosAccess {
  /** "host:port". Default: what the executor's environment names. */
  agent: string;
  masterPort: string;
  /** Path of a credential file as Mesos's own `--credential` takes it. */
  credential: string;
  /** Path of the PEM file with the authorities that agent and master are trusted by. */
  ca: string;
  /** Told of the secret, so that it is in no text that leaves the daemon. */
  hide: (secret: string) => void;
}

const Credential = z.object({ principal: z.string().min(1), secret: z.string().min(1) });
type Credential = z.infer<typeof Credential>;

/**
 * The request for a task's seeds; undefined where no agent is known. The files are read anew each time: they may be rotated.
 *
 * A credential goes to no address that a task can name, so with one the agent must be set for the host; and with an authority
 * TLS is spoken whatever the executor's environment says. Otherwise the scheme is what the worker itself speaks to the agent.
 * Throws when a file cannot be read or used, naming the setting.
 */
export async function seedsRequest(
  { agent, masterPort, credential, ca, hide }: MesosAccess,
  executorEnvironment: Readonly<Record<string, string>>,
): Promise<SeedsRequest | undefined> {
  const agentEndpoint = agent || executorEnvironment.MESOS_AGENT_ENDPOINT;
  if (agentEndpoint === undefined || agentEndpoint === "") return undefined;
  if (credential !== "" && agent === "") {
    throw new Error("mesosCredential needs mesosAgent: a credential is sent to no address that an executor's environment names");
  }
  const credentials = credential === "" ? undefined : await readCredential(credential);
  if (credentials !== undefined) hide(credentials.secret);
  const pem =
    ca === "" ? undefined : await readFile(ca, "utf8").catch((error: Error) => Promise.reject(unusable("mesosCa", ca, error.message)));
  return {
    agentEndpoint,
    masterPort,
    scheme: pem !== undefined || agentSpeaksTls(executorEnvironment) ? "https" : "http",
    verify: pem !== undefined || credentials !== undefined || checksAgentCertificate(executorEnvironment),
    ...(credentials === undefined ? {} : { credentials }),
    ...(pem === undefined ? {} : { ca: pem }),
  };
}

/** `{"principal": …, "secret": …}`, or the two as words. */
async function readCredential(path: string): Promise<Credential> {
  const text = await readFile(path, "utf8").catch((error: Error) => Promise.reject(unusable("mesosCredential", path, error.message)));
  const words = text.trim().split(/\s+/);
  const parsed = Credential.safeParse(
    text.trimStart().startsWith("{") ? jsonOf(text) : words.length === 2 ? { principal: words[0], secret: words[1] } : undefined,
  );
  if (parsed.success) return parsed.data;
  // Neither the parser's words nor the text: they would quote the secret.
  throw unusable("mesosCredential", path, 'it is neither {"principal": "…", "secret": "…"} nor a principal and a secret as two words');
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unusable(setting: string, path: string, why: string): Error {
  return new Error(`the file ${path} of ${setting} cannot be used: ${why}`);
}
