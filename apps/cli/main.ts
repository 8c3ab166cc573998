import { Command, CommanderError } from "commander";
import { AdminFailure } from "./admin-client.ts";
import { addOperatorCommands } from "./commands/operator.ts";
import { addRunCommand } from "./commands/run.ts";
import { VERSION } from "./version.ts";

/** Exit code where what was typed is wrong. */
const WRONG_USAGE = 2;

const cli = new Command("berth")
  .description("Look after the Mesos tasks that Berth runs on this host.")
  .version(VERSION)
  .option("--socket <path>", "the supervisor's socket (default: $BERTH_SOCKET, else /run/berth/berthd.sock)")
  .option("--json", "print JSON, for scripts")
  .showHelpAfterError()
  // Before the commands are added: they inherit it. What is wrong is said already.
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : WRONG_USAGE));

addOperatorCommands(cli);
addRunCommand(cli);

// `berth events | head` ends the reader first: that is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});

/** Exit codes: 1 the supervisor refused or could not be reached, 2 what was typed is wrong. `berth run` has its task's own. */
try {
  await cli.parseAsync();
} catch (error) {
  const { message, exitCode } = told(error);
  process.stderr.write(`berth: ${message}\n`);
  process.exitCode = exitCode;
}

/** What a person at the terminal is told of an error; one that is nobody's mistake but ours keeps its stack. */
function told(error: unknown): { message: string; exitCode: number } {
  if (error instanceof AdminFailure) return { message: error.message, exitCode: 1 };
  if (error instanceof CommanderError) return { message: error.message, exitCode: WRONG_USAGE };
  const { code, path, syscall } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" && path !== undefined) return { message: `there is no file ${path}`, exitCode: WRONG_USAGE };
  if (code !== undefined && path !== undefined && syscall !== undefined)
    return { message: `cannot ${syscall} ${path}: ${code}`, exitCode: WRONG_USAGE };
  throw error;
}
