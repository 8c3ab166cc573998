export { parseLeaseRecord } from "./leases.ts";
export { hasReference, isReference, parseReference, type SecretReference, VaultReferenceError } from "./reference.ts";
export { type SecretInput, type TlsSettings, type VaultSettings, VaultSettingsError, vaultSettingsFrom } from "./settings.ts";
export type {
  AwsCredentials,
  AwsRequest,
  LeaseLost,
  LeaseRecord,
  Resolution,
  ResolvedSecret,
  ResolveRequest,
  TokenSource,
  VaultCounters,
  VaultLog,
  VaultStatus,
  Waiting,
} from "./types.ts";
export { VaultLane, type VaultLaneEvents, type VaultLaneOptions } from "./vault-lane.ts";
