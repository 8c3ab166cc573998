/**
 * What berthd answers on its admin socket, version 1: the schemas by which `berth` reads it, and the types by which berthd writes it.
 * docs/reference/admin-api.md is the same for people.
 *
 * A field that only ever gets printed is a text here although berthd knows all its values: a newer berthd may have one more.
 */
export { AnswerMisfit, type AnswerSchema, ErrorBody, readAnswer } from "./answer.ts";
export { HookRow, HookRows, HostInfo, PlanView, SettingRow, SettingRows, VaultView } from "./host.ts";
export {
  HostEvent,
  Killed,
  LogLine,
  LogTarget,
  SidecarView,
  TaskInspection,
  TaskLogView,
  TaskSummaries,
  TaskSummary,
} from "./tasks.ts";
