/** Parameters of the engine's own health check. It is the image's or the framework's affair: Berth shows its verdict and acts on Mesos health checks. */
import type { Healthcheck } from "../create-body.ts";
import type { Draft } from "../draft.ts";
import { parseBoolean, parseInteger, parseNanoseconds, ValueError } from "./grammar.ts";
import type { DockerParameter } from "./parameter.ts";

export const HEALTH_PARAMETERS: readonly DockerParameter[] = [
  {
    key: "health-cmd",
    accepts: "a shell command",
    description: "Command of the engine's health check",
    apply(draft, value) {
      set(draft, { Test: ["CMD-SHELL", value] });
    },
  },
  duration("health-interval", "Interval", "Time between two checks"),
  duration("health-timeout", "Timeout", "Time that a check may take"),
  duration("health-start-period", "StartPeriod", "Time at the start in which failures do not count"),
  duration("health-start-interval", "StartInterval", "Time between two checks in the start period (engine 25 and later)"),
  {
    key: "health-retries",
    accepts: "a whole number",
    description: "Failures in a row that make a container unhealthy",
    apply(draft, value) {
      set(draft, { Retries: parseInteger(value, 0) });
    },
  },
  {
    key: "no-healthcheck",
    accepts: "true|false",
    description: "Switches the image's health check off",
    apply(draft, value) {
      if (!parseBoolean(value)) return;
      if (draft.body.Healthcheck !== undefined) throw new ValueError("contradicts a health-… parameter");
      draft.body.Healthcheck = { Test: ["NONE"] };
    },
  },
];

function set(draft: Draft, fields: Healthcheck): void {
  if (draft.body.Healthcheck?.Test?.[0] === "NONE") throw new ValueError("contradicts the parameter no-healthcheck");
  draft.body.Healthcheck = { ...draft.body.Healthcheck, ...fields };
}

function duration(key: string, field: "Interval" | "Timeout" | "StartPeriod" | "StartInterval", description: string): DockerParameter {
  return {
    key,
    accepts: "a duration like 1m30s",
    description,
    apply(draft, value) {
      set(draft, { [field]: parseNanoseconds(value) });
    },
  };
}
