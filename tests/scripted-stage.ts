import type { ChildProcess } from "node:child_process";
import { type Dockerd, ScriptedWorker, type ScriptedWorkerOptions, startWorkerStandIn, tempDir } from "@berth/test-harness";
import { SupervisorStage } from "./supervisor-stage.ts";

/** What tests run on that hold a worker's end of the socket in their own hands: no supervisor at first, and workers by the script. */
export class ScriptedStage extends SupervisorStage {
  readonly #workers: ScriptedWorker[] = [];
  readonly #standIns: ChildProcess[] = [];

  static async on(docker: Dockerd, settings: Readonly<Record<string, string>> = {}): Promise<ScriptedStage> {
    return new ScriptedStage(await tempDir("s"), { DOCKER_HOST: docker.host, ...settings });
  }

  /** A worker that has yet to connect. */
  newWorker(more: Pick<ScriptedWorkerOptions, "identity" | "capabilities"> = {}): ScriptedWorker {
    const worker = new ScriptedWorker({ socket: this.socket, sandbox: this.folder.path, ...more });
    this.#workers.push(worker);
    return worker;
  }

  /** A worker that has said hello. */
  async worker(more?: Pick<ScriptedWorkerOptions, "identity" | "capabilities">): Promise<ScriptedWorker> {
    const worker = this.newWorker(more);
    await worker.connect();
    return worker;
  }

  /** A process to be killed in place of a worker, and the identity for the worker that dies with it. */
  standIn(): ReturnType<typeof startWorkerStandIn> {
    const standIn = startWorkerStandIn();
    this.#standIns.push(standIn.child);
    return standIn;
  }

  /** For the end of each test: disconnects all workers and kills their stand-ins. */
  async endWorkers(): Promise<void> {
    for (const worker of this.#workers.splice(0)) await worker.disconnect();
    for (const child of this.#standIns.splice(0)) child.kill("SIGKILL");
  }
}
