import { allegro, executor, named, type OptionTable } from "../option.ts";

/** How tasks end, and what command tasks have of their own. */
export const TASK_OPTIONS = {
  killTaskTimeout: {
    type: "seconds",
    default: 5,
    scope: "task",
    environment: executor("KILL_TASK_TIMEOUT", allegro("KILL_POLICY_GRACE_PERIOD")),
    description:
      "From SIGTERM to SIGKILL where neither the KILL nor the TaskInfo says otherwise. 0: SIGKILL at once. sidecar-executor's form is whole seconds, allegro's a duration; both are taken.",
    since: "0.1",
  },
  exitStates: {
    type: "enum",
    values: ["berth", "sidecar-executor"],
    default: "berth",
    scope: "task",
    environment: executor("EXIT_STATES"),
    description: "Which task state an exit code becomes. `sidecar-executor`: by the code alone, 129 to 165 are TASK_KILLED.",
    since: "0.1",
  },
  commandSuccess: {
    type: "enum",
    values: ["finished", "failed"],
    default: "finished",
    scope: "task",
    environment: executor("COMMAND_SUCCESS"),
    description: "The state of a command task that exits with 0. `failed`: as allegro's executor in fact did.",
    since: "0.1",
  },
  sigtermExcludeProcesses: {
    type: "list",
    default: [],
    scope: "task",
    environment: executor("SIGTERM_EXCLUDE_PROCESSES", allegro("SIGTERM_EXCLUDE_PROCESSES")),
    description: "Names of processes of a command task that get no SIGTERM. They get the SIGKILL.",
    since: "0.1",
  },
  randomExpirationRange: {
    type: "duration",
    default: "3h",
    scope: "task",
    environment: executor("RANDOM_EXPIRATION_RANGE", allegro("RANDOM_EXPIRATION_RANGE")),
    description:
      "With the label validate-certificate: the task ends at a random time within this range before its certificate does. 0 is 3h.",
    since: "0.1",
  },
  healthChecks: {
    type: "boolean",
    default: true,
    scope: "host",
    environment: executor("HEALTH_CHECKS"),
    description: "Run the health checks and checks of TaskInfos.",
    since: "0.1",
  },
  httpTimeout: {
    type: "duration",
    default: "2s",
    positive: true,
    scope: "host",
    environment: executor("HTTP_TIMEOUT"),
    description: "Time limit of one whole HTTP request to Sidecar, and to agent and master for seeding.",
    since: "0.1",
  },
  cloudPublicIp: {
    type: "string",
    default: "",
    scope: "task",
    environment: named("CLOUD_PUBLIC_IP"),
    description: "The address that services are registered with.",
    since: "0.1",
  },
} as const satisfies OptionTable;
