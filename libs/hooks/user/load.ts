import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import type { HookList, UserHook } from "../config.ts";
import { type Hook, STAGES, type Stage, type StageFunction } from "../lifecycle.ts";
import { checkAnswer, programHook } from "./program-hook.ts";

export interface LoadedHooks {
  hooks: Hook[];
  /** A sentence for each entry that cannot be used, to be told at start. */
  problems: string[];
}

const stageFunction = z.custom<StageFunction>((value) => typeof value === "function", "it must be a function");

/** What a module may export as `default` or `hook`: a {@link Hook} whose rarely needed parts may be left out. */
const ModuleHook = z.object({
  name: z.string().min(1).optional(),
  priority: z.number().int().default(1000),
  timeoutMs: z.number().positive().default(30_000),
  failsTask: z.boolean().default(false),
  stages: z.strictObject(Object.fromEntries(STAGES.map((stage) => [stage, stageFunction.optional()]))),
  describe: z.custom<Hook["describe"]>((value) => typeof value === "function").optional(),
});

/** Loads the users' hooks of the `hooks:` list. Never throws: a broken one is a problem, the others are loaded. */
export async function loadUserHooks(list: HookList): Promise<LoadedHooks> {
  const loaded: LoadedHooks = { hooks: [], problems: [] };
  const names = new Set<string>();
  for (const entry of list) {
    if (typeof entry === "string") continue;
    const file = entry.module ?? entry.exec ?? "";
    try {
      const hook = entry.module === undefined ? await loadProgram(entry) : await loadModule(entry, entry.module);
      if (names.has(hook.name)) throw new Error(`another hook is called '${hook.name}' already; give it a name`);
      names.add(hook.name);
      loaded.hooks.push(hook);
    } catch (error) {
      loaded.problems.push(`the hook ${file} is not used: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return loaded;
}

async function loadProgram(entry: UserHook): Promise<Hook> {
  const exec = entry.exec ?? "";
  await checkOwner(exec);
  await access(exec, constants.X_OK);
  if (entry.stages.length === 0) throw new Error("its stages are not named");
  return programHook({ ...entry, exec });
}

async function loadModule(entry: UserHook, path: string): Promise<Hook> {
  await checkOwner(path);
  const exports = (await import(pathToFileURL(path).href)) as { default?: unknown; hook?: unknown };
  const parsed = ModuleHook.safeParse(exports.default ?? exports.hook);
  if (!parsed.success) throw new Error(`it exports no hook: ${z.prettifyError(parsed.error)}`);
  const { name, priority, timeoutMs, failsTask, describe } = parsed.data;
  const called = entry.name ?? name ?? basename(path).replace(/\.\w+$/, "");
  const given = Object.entries(parsed.data.stages).filter((stage): stage is [Stage, StageFunction] => stage[1] !== undefined);
  const stages: Hook["stages"] = Object.fromEntries(given.map(([stage, run]) => [stage, checked(called, stage, run)]));
  return {
    name: called,
    priority: entry.priority ?? priority,
    timeoutMs: entry.timeout ?? timeoutMs,
    failsTask: entry.failsTask ?? failsTask,
    stages,
    describe: describe ?? (() => `run ${path} in ${Object.keys(stages).join(", ")}`),
  };
}

/** A module's answer is as little to be trusted as a program's: it becomes part of the checkpoint and of the create request. */
function checked(name: string, stage: Stage, run: StageFunction): StageFunction {
  return async (task, context) => {
    const answer = await run(task, context);
    return answer === undefined || answer === null ? undefined : checkAnswer(name, answer, stage);
  };
}

/** The daemon runs it as root: who may write it, is root. */
async function checkOwner(path: string): Promise<void> {
  const { mode, uid } = await stat(path);
  if ((mode & 0o002) !== 0) throw new Error("everybody may write to it; chmod o-w");
  if (uid !== 0 && uid !== process.getuid?.()) throw new Error("it belongs to somebody else than root");
}
