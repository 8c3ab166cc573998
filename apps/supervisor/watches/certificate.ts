import { createHash, X509Certificate } from "node:crypto";
import type { Hook } from "@berth/hooks";
import { TaskFailure } from "@berth/mesos";
import { label, type TaskInfo } from "@berth/mesos/task-info";
import type { TaskIdentity } from "@berth/runtime";
import { z } from "zod";
import type { Watch } from "../task/ports.ts";
import { taskKey } from "../task-key.ts";

const NAME = "certificate";
/** The label that asks for it, with the value "true". */
const LABEL = "validate-certificate";
/** The variable that holds the certificate, PEM. */
const VARIABLE = "CERTIFICATE";
/** What a range of 0 or less stands for, milliseconds. */
const DEFAULT_RANGE_MS = 3 * 3_600_000;

/** A certificate from Vault is waited for as any secret of a launch is; Vault's own reader gives up before this. */
const TIMEOUT_MS = 5 * 60_000;

export interface CertificateParts {
  /** RANDOM_EXPIRATION_RANGE of a task, milliseconds. */
  rangeFor: (executorEnvironment: Readonly<Record<string, string>>) => number;
  /** Reads a `vault://` reference of a task. Throws a TaskFailure. */
  resolve: (identity: TaskIdentity, reference: string, signal: AbortSignal) => Promise<string | undefined>;
  now: () => number;
}

/** A certificate ends by the host's clock, which may be set while the task runs: it is looked at again after this long, milliseconds. */
const LOOK_AGAIN_MS = 60_000;

/** What is kept of a task's certificate: only the hook that checks it sees one that is in Vault. */
const Kept = z.object({
  /** NotAfter, milliseconds since the epoch. */
  notAfter: z.number(),
});

/** Refuses a launch whose certificate is missing, broken or about to expire. */
export function certificateHook({ rangeFor, resolve, now }: CertificateParts): Hook {
  return {
    name: NAME,
    priority: 100,
    timeoutMs: TIMEOUT_MS,
    failsTask: true,
    describe: ({ task }) =>
      wantsValidation(task) ? "check the certificate in its environment, and end it before that expires" : undefined,
    stages: {
      beforeCreate: async ({ identity, task, environment, executorEnvironment }, { signal }) => {
        if (!wantsValidation(task)) return undefined;
        const written = environment[VARIABLE];
        const pem = written?.startsWith("vault://") ? await resolve(identity, written, signal) : written;
        const notAfter = parseCertificate(pem).validToDate.getTime();
        const end = endOfUse(notAfter, identity, rangeFor(executorEnvironment));
        if (notAfter <= now()) throw new TaskFailure(`its certificate expired at ${timeOf(notAfter)}; it needs a new one`);
        if (end <= now()) {
          throw new TaskFailure(
            `its certificate expires at ${timeOf(notAfter)}, and with RANDOM_EXPIRATION_RANGE this task had to end at ${timeOf(end)}; it needs a new one`,
          );
        }
        return { state: { notAfter } satisfies z.infer<typeof Kept> };
      },
    },
  };
}

/** Ends a running task gracefully before its certificate expires. */
export function certificateWatch(
  { rangeFor, now }: Omit<CertificateParts, "resolve">,
  executorEnvironment: Readonly<Record<string, string>>,
): Watch {
  return {
    name: NAME,
    decidesHealth: () => false,
    begin({ identity, task, hookStates }, verdicts) {
      const kept = Kept.safeParse(hookStates[NAME]);
      // Without it the task was accepted by no check; a task that runs is not ended for what cannot be read now.
      if (!wantsValidation(task) || !kept.success) return () => {};
      const { notAfter } = kept.data;
      const end = endOfUse(notAfter, identity, rangeFor(executorEnvironment));
      return atTime(end, now, () => verdicts.stop("certificate-expiry", `its certificate expires at ${timeOf(notAfter)}`));
    },
  };
}

/** Calls `due` once the clock shows a time, milliseconds since the epoch; returns what cancels it. */
function atTime(time: number, now: () => number, due: () => void): () => void {
  let timer: NodeJS.Timeout;
  function arm(): void {
    timer = setTimeout(() => (now() < time ? arm() : due()), Math.max(0, Math.min(time - now(), LOOK_AGAIN_MS)));
  }
  arm();
  return () => clearTimeout(timer);
}

function wantsValidation(task: TaskInfo): boolean {
  return label(task, LABEL) === "true";
}

function parseCertificate(pem: string | undefined): X509Certificate {
  if (pem === undefined || pem === "")
    throw new TaskFailure(`its label ${LABEL} asks for a certificate in the variable ${VARIABLE}, which is missing`);
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw new TaskFailure(`the certificate in its variable ${VARIABLE} cannot be read: it must be an X.509 certificate in PEM form`, {
      cause: error,
    });
  }
}

/**
 * NotAfter, less a part of the range that differs from task to task, so that not all tasks with one certificate end at once. It
 * follows from the task's identity: a supervisor that comes back finds the same moment.
 */
function endOfUse(notAfter: number, identity: TaskIdentity, rangeMs: number): number {
  const range = rangeMs > 0 ? rangeMs : DEFAULT_RANGE_MS;
  const digest = createHash("sha256").update(taskKey(identity)).digest();
  return notAfter - (digest.readUInt32BE(0) / 2 ** 32) * range;
}

function timeOf(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
