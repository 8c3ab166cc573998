/**
 * Messages to frames and back, both ends. Host-independent: the caller brings UTF-8, because not every engine has TextEncoder.
 */
import { encodeRecord } from "@berth/recordio";
import type { SupervisorMessage, WorkerMessage } from "./messages.ts";

/** One message as one RecordIO frame. */
export function encodeFrame(message: WorkerMessage | SupervisorMessage, encodeUtf8: (text: string) => Uint8Array): Uint8Array {
  return encodeRecord(encodeUtf8(JSON.stringify(message)));
}
