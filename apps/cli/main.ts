import { Command } from "commander";
import { AdminFailure } from "./admin-client.ts";
import { addOperatorCommands } from "./commands/operator.ts";
import { addRunCommand } from "./commands/run.ts";

const cli = new Command("berth")
  .description("Look after the Mesos tasks that Berth runs on this host.")
  .version("0.1.0")
  .option("--socket <path>", "the supervisor's socket (default: $BERTH_SOCKET, else /run/berth/berthd.sock)")
  .option("--json", "print JSON, for scripts")
  .showHelpAfterError()
  .enablePositionalOptions();

addOperatorCommands(cli);
addRunCommand(cli);

try {
  await cli.parseAsync();
} catch (error) {
  if (!(error instanceof AdminFailure)) throw error;
  process.stderr.write(`berth: ${error.message}\n`);
  process.exitCode = 1;
}
