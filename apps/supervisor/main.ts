import { loadUserHooks } from "@berth/hooks";
import { NotStarting, readSettings } from "./settings.ts";
import { Supervisor } from "./supervisor.ts";

try {
  const settings = readSettings(process.argv.slice(2), process.env);
  const { hooks, problems } = await loadUserHooks(settings.hooks.hooks);
  if (problems.length > 0) throw new NotStarting(`berthd cannot start, these hooks cannot be used:\n  ${problems.join("\n  ")}`, 2);
  const supervisor = new Supervisor(settings, hooks);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void supervisor.stop(signal));
  await supervisor.start();
} catch (error) {
  if (!(error instanceof NotStarting)) throw error;
  (error.exitCode === 0 ? process.stdout : process.stderr).write(`${error.message}\n`);
  process.exitCode = error.exitCode;
}
