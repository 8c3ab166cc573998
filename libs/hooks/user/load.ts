import type { HookList } from "../config.ts";
import type { Hook } from "../lifecycle.ts";

export interface LoadedHooks {
  hooks: Hook[];
  /** A sentence for each entry that cannot be used, to be told at start. */
  problems: string[];
}

/** Loads the users' hooks of the `hooks:` list. Never throws: a broken one is a problem, the others are loaded. */
export async function loadUserHooks(_list: HookList): Promise<LoadedHooks> {
  return { hooks: [], problems: [] };
}
