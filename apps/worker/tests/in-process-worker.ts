import type { LocalExecutor } from "@berth/mesos/local-agent";
import type { Connection, ConnectionHandlers, Host } from "../core/host.ts";
import { runWorker } from "../core/worker.ts";
import { nodeHost } from "../host-node/host.ts";

/** A worker that runs in the test's own process: hundreds of them cost what one process does. */
export interface InProcessWorker {
  /** Resolves with the code that it would have ended with. */
  exited: Promise<number>;
  log(): string;
}

/**
 * Runs the worker's core on Node's host in this process, in place of the executor's own process, which only has to stay alive;
 * that process is killed when the worker ends. Everything but the process's own properties is the real host's.
 */
export function runInProcess(executor: LocalExecutor): InProcessWorker {
  const node = nodeHost();
  const environment = { ...executor.environment };
  const { promise: exited, resolve } = Promise.withResolvers<number>();
  const timers = new Set<number>();
  const connections = new Set<Connection>();
  let log = "";
  let over = false;

  const track = (open: (handlers: ConnectionHandlers) => Connection, handlers: ConnectionHandlers): Connection => {
    const connection = open({
      open: () => over || handlers.open(),
      data: (bytes) => over || handlers.data(bytes),
      close: (error) => over || handlers.close(error),
    });
    connections.add(connection);
    return connection;
  };
  const host: Host = {
    ...node,
    connectUnix: (path, handlers) => track((on) => node.connectUnix(path, on), handlers),
    connectTcp: (address, port, handlers) => track((on) => node.connectTcp(address, port, on), handlers),
    setTimer: (delayMs, callback) => {
      const id = node.setTimer(delayMs, () => {
        timers.delete(id);
        callback();
      });
      timers.add(id);
      return id;
    },
    environment: () => environment,
    eraseEnvironment: (name) => {
      delete environment[name];
    },
    arguments: () => [],
    onSignal: () => {},
    setTitle: () => {},
    pid: () => executor.pid ?? 0,
    writeDescriptor: (_fd, bytes) => {
      log += Buffer.from(bytes).toString();
      return bytes.length;
    },
    exit: (code) => {
      if (over) return;
      over = true;
      for (const id of timers) node.clearTimer(id);
      for (const connection of connections) connection.close();
      executor.crash();
      resolve(code);
    },
  };
  runWorker(host);
  void executor.exited.then(() => host.exit(-1));
  return { exited, log: () => log };
}
