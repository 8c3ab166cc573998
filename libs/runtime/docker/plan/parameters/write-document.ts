/** Writes docs/reference/docker-parameters.md anew from the table of parameters. */
import { mkdir, writeFile } from "node:fs/promises";
import { parametersDocument } from "./document.ts";

const target = new URL("../../../../../docs/reference/docker-parameters.md", import.meta.url);
await mkdir(new URL(".", target), { recursive: true });
await writeFile(target, parametersDocument());
