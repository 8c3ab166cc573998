import { readFileSync } from "node:fs";
import { join } from "node:path";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import type { TempDir } from "@berth/test-harness";

/** A folder with a supervisor's sockets and log in it, and the supervisor, which a test may end, kill and start again. */
export class SupervisorStage implements AsyncDisposable {
  readonly folder: TempDir;
  readonly #settings: Readonly<Record<string, string>>;
  #supervisor: LocalSupervisor | undefined;

  /** `settings` are for every supervisor of this stage. */
  constructor(folder: TempDir, settings: Readonly<Record<string, string>>) {
    this.folder = folder;
    this.#settings = settings;
  }

  /** The supervisor that was started last. */
  get supervisor(): LocalSupervisor {
    if (this.#supervisor === undefined) throw new Error("this stage has no supervisor yet: startSupervisor() first");
    return this.#supervisor;
  }

  /** Where workers find the supervisor, also before it is there. */
  get socket(): string {
    return join(this.folder.path, "berthd.sock");
  }

  /** The first supervisor, or another one on the same sockets after the end of the one before, with `more` settings of its own. */
  async startSupervisor(more: Readonly<Record<string, string>> = {}): Promise<void> {
    this.#supervisor = await LocalSupervisor.start({
      directory: this.folder.path,
      environment: { ...this.#settings, ...more },
      logFile: this.logFile,
    });
  }

  /** Ends the supervisor in order, where there is one. */
  async stopSupervisor(): Promise<void> {
    await this.#supervisor?.stop();
  }

  get logFile(): string {
    return join(this.folder.path, "berthd.log");
  }

  /** What all its supervisors have logged. */
  log(): string {
    return readFileSync(this.logFile, "utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopSupervisor();
    await this.folder.remove();
  }
}
