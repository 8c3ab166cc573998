import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/**
 * Where one of Berth's programs is: in the `bin` directory of the checkout or installation that this file belongs to. It is
 * searched upwards, because a bundle lies at another depth than the source.
 */
export function program(name: "berthd" | "berth-worker" | "berth"): string {
  for (const up of ["../bin", "../../bin", "../../../bin"]) {
    const path = fileURLToPath(new URL(`${up}/${name}`, import.meta.url));
    if (existsSync(path)) return path;
  }
  throw new Error(`the program ${name} is not installed beside this one`);
}
