import { serveLane } from "@berth/lane";
import { EngineConnection } from "./engine-connection.ts";
import type { EngineMethods, EngineStart } from "./engine-types.ts";

/** The docker thread: one EngineConnection behind the lane. */
export default serveLane<EngineStart>(async (start, lane) => {
  const engine = await EngineConnection.open(
    start,
    (name, detail) => lane.emit(name, detail),
    (follow, progress) => lane.emit("progress", { follow, progress }),
  );
  lane.onClose(() => engine.close());
  return {
    watch: (request) => engine.watch(request),
    ping: (request, signal) => engine.ping(request, signal),
    version: (request, signal) => engine.version(request, signal),
    info: (request, signal) => engine.info(request, signal),
    imagePresent: (request, signal) => engine.imagePresent(request, signal),
    pull: (request, signal) => engine.pull(request, signal),
    create: (request, signal) => engine.create(request, signal),
    connectNetwork: (request, signal) => engine.connectNetwork(request, signal),
    start: (request, signal) => engine.start(request, signal),
    inspect: (request, signal) => engine.inspect(request, signal),
    environmentOf: (request, signal) => engine.environmentOf(request, signal),
    signal: (request, signal) => engine.signal(request, signal),
    remove: (request, signal) => engine.remove(request, signal),
    list: (request, signal) => engine.list(request, signal),
    rename: (request, signal) => engine.rename(request, signal),
    exec: (request, signal) => engine.exec(request, signal),
    logs: (request, signal) => engine.logs(request, signal),
    statistics: () => engine.statistics(),
  } satisfies EngineMethods;
});
