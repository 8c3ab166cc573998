import type { SecretRegistry } from "@berth/redact";
import type { TaskIdentity } from "@berth/runtime";
import { isReference, type LeaseRecord, type VaultLane, type Waiting } from "@berth/vault";
import type { ResolvedSecrets, SecretPort } from "../task/ports.ts";
import { taskKey } from "../task-key.ts";

export interface TaskSecretOptions {
  /** EXECUTOR_AWS_ROLE; empty: none. */
  awsRole: string;
  awsRoleTtlMs: number;
}

/** How long the revocation of a task's leases may hold up its terminal update, milliseconds; Vault goes on with it behind that. */
const RELEASE_BUDGET_MS = 5000;

/** What a task with an AWS role gets. */
const AWS_VARIABLES = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/** The secrets of one task, from the host's one Vault thread. */
export class VaultSecrets implements SecretPort {
  readonly #vault: VaultLane;
  readonly #registry: SecretRegistry;
  readonly #key: string;
  readonly #options: TaskSecretOptions;

  constructor(vault: VaultLane, registry: SecretRegistry, identity: TaskIdentity, options: TaskSecretOptions) {
    this.#vault = vault;
    this.#registry = registry;
    this.#key = taskKey(identity);
    this.#options = options;
  }

  async resolve(
    environment: Readonly<Record<string, string>>,
    signal: AbortSignal,
    onWaiting: (reason: string) => void,
  ): Promise<ResolvedSecrets> {
    const tellWaiting = ({ reason }: Waiting): void => onWaiting(reason);
    const resolution = await this.#vault.resolveEnvironment({ taskKey: this.#key, environment, signal, onWaiting: tellWaiting });
    this.#hide(resolution.secrets);
    if (this.#options.awsRole === "") return resolution;
    const { awsRole: role, awsRoleTtlMs: ttlMs } = this.#options;
    const aws = await this.#vault.awsCredentials({ taskKey: this.#key, role, ttlMs, signal, onWaiting: tellWaiting });
    this.#hide(aws.secrets);
    return { environment: { ...resolution.environment, ...aws.environment }, leases: [...resolution.leases, ...aws.leases] };
  }

  references(environment: Readonly<Record<string, string>>): Array<{ name: string; reference: string }> {
    const references = Object.entries(environment)
      .filter(([, value]) => isReference(value))
      .map(([name, reference]) => ({ name, reference }));
    const { awsRole } = this.#options;
    return awsRole === "" ? references : [...references, ...AWS_VARIABLES.map((name) => ({ name, reference: `AWS role ${awsRole}` }))];
  }

  hide(name: string, value: string, source: string): void {
    this.#hide([{ name, value, source }]);
  }

  /** Under a holder of our own: Vault's own forgets at `release`, but the task's last words are still to be told after that. */
  #hide(secrets: ReadonlyArray<{ name: string; value: string; source: string }>): void {
    for (const { name, value, source } of secrets) this.#registry.add(value, source, { holder: this.#holder, name });
  }

  forget(): void {
    this.#registry.release(this.#holder);
  }

  get #holder(): string {
    return `words of ${this.#key}`;
  }

  adopt(leases: unknown[]): void {
    void this.#vault.adopt(this.#key, leases as LeaseRecord[]);
  }

  async release(): Promise<void> {
    const timeout = new Promise<void>((resolve) => setTimeout(resolve, RELEASE_BUDGET_MS).unref());
    await Promise.race([this.#vault.release(this.#key).catch(() => {}), timeout]);
  }

  mask(text: string): string {
    return this.#registry.mask(text);
  }
}
