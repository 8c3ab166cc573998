import { NotStarting, readSettings } from "./settings.ts";
import { Supervisor } from "./supervisor.ts";

try {
  const supervisor = new Supervisor(readSettings(process.argv.slice(2), process.env));
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void supervisor.stop(signal));
  await supervisor.start();
} catch (error) {
  if (!(error instanceof NotStarting)) throw error;
  (error.exitCode === 0 ? process.stdout : process.stderr).write(`${error.message}\n`);
  process.exitCode = error.exitCode;
}
