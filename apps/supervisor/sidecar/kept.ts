import type { TaskIdentity } from "@berth/runtime";
import { z } from "zod";

/** The name of the hook, under which its and the watch's state is kept in a task's checkpoint. */
export const SIDECAR_HOOK = "sidecar";

/** What a supervisor that comes back must know of a task in Sidecar. */
const Kept = z.object({
  /** Sidecar has been seen to know the service. */
  known: z.boolean().optional(),
  /** Affirmed failures so far, and since when. */
  failures: z.number().int().min(0).optional(),
  failingSince: z.number().optional(),
  /** Sidecar has accepted the drain: only the rest of its time is left. */
  drained: z.boolean().optional(),
});
export type Kept = z.infer<typeof Kept>;

/** The state of an earlier life; one that cannot be read is none. */
export function readKept(state: unknown): Kept {
  const parsed = Kept.safeParse(state);
  return parsed.success ? parsed.data : {};
}

/** Puts a task's state into its checkpoint. */
export type Keep = (identity: TaskIdentity, state: Kept) => void;
