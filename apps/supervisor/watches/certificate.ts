import { createHash, X509Certificate } from "node:crypto";
import type { Hook } from "@berth/hooks";
import { TaskFailure } from "@berth/mesos";
import { label, type TaskInfo } from "@berth/mesos/task-info";
import type { TaskIdentity } from "@berth/runtime";
import type { Watch } from "../task/ports.ts";
import { taskKey } from "../task-key.ts";
import { startLongTimer } from "./completion-time.ts";

/** The label that asks for it, with the value "true". */
const LABEL = "validate-certificate";
/** The variable that holds the certificate, PEM. */
const VARIABLE = "CERTIFICATE";
/** What a range of 0 or less stands for, milliseconds. */
const DEFAULT_RANGE_MS = 3 * 3_600_000;

export interface CertificateParts {
  /** RANDOM_EXPIRATION_RANGE of a task, milliseconds. */
  rangeFor: (executorEnvironment: Readonly<Record<string, string>>) => number;
  now: () => number;
}

/** Refuses a launch whose certificate is missing, broken or about to expire. */
export function certificateHook({ rangeFor, now }: CertificateParts): Hook {
  return {
    name: "certificate",
    priority: 100,
    timeoutMs: 5000,
    failsTask: true,
    describe: ({ task }) =>
      wantsValidation(task) ? "check the certificate in its environment, and end it before that expires" : undefined,
    stages: {
      beforeCreate: async ({ identity, task, environment, executorEnvironment }) => {
        if (!wantsValidation(task)) return undefined;
        const end = endOfUse(parseCertificate(environment[VARIABLE]), identity, rangeFor(executorEnvironment));
        if (end <= now())
          throw new TaskFailure(`its certificate is of no use any more: it had to be replaced by ${new Date(end).toISOString()}`);
        return undefined;
      },
    },
  };
}

/** Ends a running task gracefully before its certificate expires. */
export function certificateWatch({ rangeFor, now }: CertificateParts, executorEnvironment: Readonly<Record<string, string>>): Watch {
  return {
    name: "certificate",
    decidesHealth: () => false,
    begin({ identity, task }, verdicts) {
      if (!wantsValidation(task)) return () => {};
      let certificate: X509Certificate;
      try {
        certificate = parseCertificate(variableOf(task));
      } catch {
        return () => {}; // It was accepted at launch; a task that runs is not ended for what cannot be read now.
      }
      const end = endOfUse(certificate, identity, rangeFor(executorEnvironment));
      return startLongTimer(end, now, () => verdicts.stop("certificate-expiry", `its certificate expires at ${certificate.validTo}`));
    },
  };
}

function wantsValidation(task: TaskInfo): boolean {
  return label(task, LABEL) === "true";
}

function variableOf(task: TaskInfo): string | undefined {
  const commands = [task.command, task.executor?.command];
  return commands.flatMap((command) => command?.environment?.variables ?? []).find(({ name }) => name === VARIABLE)?.value;
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
function endOfUse(certificate: X509Certificate, identity: TaskIdentity, rangeMs: number): number {
  const range = rangeMs > 0 ? rangeMs : DEFAULT_RANGE_MS;
  const digest = createHash("sha256").update(taskKey(identity)).digest();
  return certificate.validToDate.getTime() - (digest.readUInt32BE(0) / 2 ** 32) * range;
}
