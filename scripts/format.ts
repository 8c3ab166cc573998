import { run } from "./run.ts";

/** `npm run format [path...]`: rewrites what biome can mend. */
const paths = process.argv.slice(2);
process.exitCode = await run("biome", ["check", "--write", ...(paths.length > 0 ? paths : ["."])]);
