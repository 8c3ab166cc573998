import { serveLane } from "@berth/lane";
import { LogRelay, type RelayStart } from "./relay.ts";
import { TakenCounter } from "./taken.ts";

/** The log thread: reads and relays the output of all tasks of the host. */
export default serveLane<RelayStart>((start, lane) => {
  const taken = new TakenCounter();
  const relay = new LogRelay(start, {
    positions: (batch) => {
      const mark = taken.next();
      lane.emit("positions", { batch, mark });
      return taken.reached(mark.sequence);
    },
    output: (event) => lane.emit("output", event),
    problem: (event) => lane.emit("problem", event),
    log: (line) => lane.emit("log", line),
  });
  lane.onClose(() => relay.close());
  return {
    follow: (request) => relay.follow(request),
    push: (request) => relay.push(request),
    stop: (request, signal) => relay.stop(request, signal),
    lastLogs: (request, signal) => relay.lastLogs(request, signal),
    readOpen: (request) => relay.readOpen(request),
    readNext: (request, signal) => relay.readNext(request, signal),
    readFinish: (request) => relay.readFinish(request),
    readClose: (request) => relay.readClose(request),
    outputTaken: (request) => relay.outputTaken(request),
    stats: () => relay.stats(),
  };
});
