import { execFile } from "node:child_process";
import { cp, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { DockerApi } from "./docker-api.ts";
import { tempDir } from "./temp-dir.ts";
import { command } from "./tools.ts";

/** The image that tests run: busybox with all its commands (sh, sleep, httpd, nc…), 2 MB. */
export const BUSYBOX_IMAGE = "berth/busybox:1";

const BUSYBOX = "/bin/busybox";

/** Makes an image out of Debian's busybox-static without any registry. Does nothing where the image is there already. */
export async function importBusybox(host: string, image = BUSYBOX_IMAGE): Promise<void> {
  const api = new DockerApi(host);
  if (await hasImage(api, image)) return;
  await using folder = await tempDir("image");
  for (const name of ["bin", "etc", "tmp", "proc", "sys", "dev"]) await mkdir(join(folder.path, name));
  await cp(BUSYBOX, join(folder.path, "bin/busybox"));
  const applets = (await command(BUSYBOX, "--list")).split("\n").filter((name) => name !== "" && name !== "busybox");
  for (const applet of applets) await symlink("busybox", join(folder.path, "bin", applet));
  const { stdout: tar } = await promisify(execFile)("tar", ["-C", folder.path, "-c", "."], {
    encoding: "buffer",
    maxBuffer: 64 * 1024 * 1024,
  });
  const at = image.lastIndexOf(":");
  const query = new URLSearchParams({ fromSrc: "-", repo: image.slice(0, at), tag: image.slice(at + 1), changes: 'CMD ["/bin/sh"]' });
  await api.call("POST", `/images/create?${query}`, tar);
}

async function hasImage(api: DockerApi, image: string): Promise<boolean> {
  try {
    await api.call("GET", `/images/${image}/json`);
    return true;
  } catch {
    return false;
  }
}
