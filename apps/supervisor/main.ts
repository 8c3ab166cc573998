import { readSettings } from "./settings.ts";
import { Supervisor } from "./supervisor.ts";

const supervisor = new Supervisor(readSettings(process.argv.slice(2), process.env));
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void supervisor.stop(signal));
await supervisor.start();
