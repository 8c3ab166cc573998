import { serveLane } from "@berth/lane";
import type { VaultSettings } from "./settings.ts";
import type { AwsRequest, LeaseRecord, ResolveRequest, ThreadLogLine, VaultLog } from "./types.ts";
import { VaultService } from "./vault-service.ts";

/** The Vault thread: the only one that holds the token. */
export default serveLane<VaultSettings>((settings, lane) => {
  const line =
    (level: ThreadLogLine["level"]) =>
    (fields: object, message: string): void =>
      lane.emit("log", { level, fields: fields as Record<string, unknown>, message } satisfies ThreadLogLine);
  const log: VaultLog = { debug: line("debug"), info: line("info"), warn: line("warn") };
  const service = new VaultService({
    settings,
    log,
    onSensitive: (value, source) => lane.emit("sensitive", { value, source }),
    onWaiting: (waiting) => lane.emit("waiting", waiting),
    onLeaseLost: (lost) => lane.emit("leaseLost", lost),
    onLeases: (taskKey, leases) => lane.emit("leases", { taskKey, leases }),
  });
  lane.onClose(() => service.close());
  return {
    resolveEnvironment: (request: ResolveRequest, signal: AbortSignal) => service.resolveEnvironment(request, signal),
    awsCredentials: (request: AwsRequest, signal: AbortSignal) => service.awsCredentials(request, signal),
    adopt: ({ taskKey, leases }: { taskKey: string; leases: LeaseRecord[] }) => service.adopt(taskKey, leases),
    release: ({ taskKey }: { taskKey: string }) => service.release(taskKey),
    revokeLease: ({ leaseId }: { leaseId: string }) => service.revokeLease(leaseId),
    status: () => service.status(),
  };
});
