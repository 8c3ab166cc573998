import type { VaultCounters } from "./types.ts";

/** Where counting starts. */
export function zeroCounters(): VaultCounters {
  return {
    ...{ logins: 0, loginFailures: 0, tokenRenewals: 0, requests: 0, requestFailures: 0, secretReads: 0, cacheHits: 0, sharedReads: 0 },
    ...{ leasesIssued: 0, leaseRenewals: 0, leasesRevoked: 0, leasesLost: 0 },
  };
}
