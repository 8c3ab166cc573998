/** The supervisor's end of the protocol: parsing what workers say. Kept apart from the door, so that the worker does not load a schema library. */
export { ProtocolError, parseWorkerMessage } from "./worker-message.ts";
