import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { SecretRegistry } from "@berth/redact";
import { startVault, type TempDir, tempDir, type VaultServer } from "@berth/test-harness";
import { type VaultSettings, vaultSettingsFrom } from "@berth/vault";
import { VaultService, type VaultServiceOptions } from "@berth/vault/service";

export const USER = "svc";
export const PASSWORD = "correct-horse-battery";

/** One request as Vault's own audit log tells of it. */
export interface AuditedRequest {
  operation: string;
  /** "auth/userpass/login/svc" */
  path: string;
}

export interface VaultFixture extends AsyncDisposable {
  server: VaultServer;
  folder: TempDir;
  /** Answered requests since the last call of `forget`, without those of the root token. */
  audited(): Promise<AuditedRequest[]>;
  logins(): Promise<number>;
  /** Reads of a path below kv mounts. */
  reads(path: string): Promise<number>;
  forget(): Promise<void>;
  /** VAULT_* for the fixture's user. */
  environment(extra?: Record<string, string>): Record<string, string>;
}

const POLICY = `
path "secret/data/app/*" { capabilities = ["read"] }
path "kv1/app/*" { capabilities = ["read"] }
path "team/deep/kv/data/app/*" { capabilities = ["read"] }
path "aws/*" { capabilities = ["read", "create", "update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }`;

/** A real Vault with an audit log, a user with a policy, and secrets in KV v1 and v2 mounts. */
export async function startVaultFixture(options: { tokenTtl?: string; tokenMaxTtl?: string } = {}): Promise<VaultFixture> {
  const folder = await tempDir("vault");
  const server = await startVault();
  const auditFile = join(folder.path, "audit.log");
  const must = async (method: string, path: string, body?: object): Promise<void> => {
    const { status, body: answer } = await server.call(method, path, body);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(answer)}`);
  };
  await must("PUT", "sys/audit/file", { type: "file", options: { file_path: auditFile } });
  await must("POST", "sys/auth/userpass", { type: "userpass" });
  await must("POST", "sys/auth/approle", { type: "approle" });
  await must("PUT", "sys/policies/acl/app", { policy: POLICY });
  const limits = { token_policies: "app", token_ttl: options.tokenTtl ?? "1h", token_max_ttl: options.tokenMaxTtl ?? "24h" };
  await must("POST", `auth/userpass/users/${USER}`, { password: PASSWORD, ...limits });
  await must("POST", "auth/approle/role/svc", limits);
  await must("POST", "sys/mounts/kv1", { type: "kv", options: { version: "1" } });
  await must("POST", "sys/mounts/team/deep/kv", { type: "kv", options: { version: "2" } });
  await must("POST", "kv1/app/db", { value: "kv1-value-of-db", user: "kv1-user-of-db" });
  for (const name of ["one", "two", "three"]) await must("POST", `secret/data/app/${name}`, { data: { value: `kv2-value-of-${name}` } });

  let offset = 0;
  const audited = async (): Promise<AuditedRequest[]> => {
    const text = (await readFile(auditFile, "utf8")).slice(offset);
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as { type: string; auth?: { display_name?: string }; request: AuditedRequest })
      .filter(({ type, auth }) => type === "response" && !(auth?.display_name ?? "").startsWith("root") && auth?.display_name !== "token")
      .map(({ request }) => ({ operation: request.operation, path: request.path }));
  };
  const count = async (match: (request: AuditedRequest) => boolean): Promise<number> => (await audited()).filter(match).length;
  const stop = async (): Promise<void> => {
    await server.stop();
    await folder.remove();
  };
  return {
    server,
    folder,
    audited,
    logins: () => count(({ path }) => /^auth\/.*\/login(\/|$)/.test(path)),
    reads: (path) => count((request) => request.operation === "read" && request.path === path),
    forget: async () => {
      offset = (await readFile(auditFile, "utf8")).length;
    },
    environment: (extra = {}) => ({ VAULT_ADDR: server.address, VAULT_USERNAME: USER, VAULT_PASSWORD: PASSWORD, ...extra }),
    [Symbol.asyncDispose]: stop,
  };
}

/** A service in this process that keeps what it was told. */
export interface ObservedService extends AsyncDisposable {
  service: VaultService;
  lines: Array<{ level: string; fields: Record<string, unknown>; message: string }>;
  waiting: string[];
  lost: Array<{ taskKey: string; reason: string }>;
  secrets: SecretRegistry;
  settings: VaultSettings;
}

export function observedService(environment: Record<string, string>, options: Partial<VaultServiceOptions> = {}): ObservedService {
  const lines: ObservedService["lines"] = [];
  const waiting: string[] = [];
  const lost: ObservedService["lost"] = [];
  const secrets = new SecretRegistry();
  const settings = vaultSettingsFrom(environment);
  const write =
    (level: string) =>
    (fields: object, message: string): void =>
      void lines.push({ level, fields: fields as Record<string, unknown>, message });
  const service = new VaultService({
    settings,
    log: { debug: write("debug"), info: write("info"), warn: write("warn") },
    onSensitive: (value, source) => secrets.add(value, source, { holder: "test" }),
    onWaiting: ({ reason }) => void waiting.push(reason),
    onLeaseLost: ({ taskKey, reason }) => void lost.push({ taskKey, reason }),
    onLeases: () => {},
    ...options,
  });
  return { service, lines, waiting, lost, secrets, settings, [Symbol.asyncDispose]: () => service.close() };
}

/** A signal that never aborts, for calls that end by themselves. */
export function forever(): AbortSignal {
  return new AbortController().signal;
}
