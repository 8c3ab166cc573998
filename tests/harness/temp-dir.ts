import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A folder that is gone after `remove()` or at the end of an `await using` block. */
export interface TempDir extends AsyncDisposable {
  path: string;
  remove(): Promise<void>;
}

/** Makes a fresh folder. Keep `label` short: paths of unix sockets end at 107 bytes. */
export async function tempDir(label = "t"): Promise<TempDir> {
  const path = await mkdtemp(join(tmpdir(), `berth-${label}-`));
  const remove = (): Promise<void> => rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  return { path, remove, [Symbol.asyncDispose]: remove };
}
