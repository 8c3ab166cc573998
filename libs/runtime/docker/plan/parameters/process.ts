/** Parameters of the process itself: its user, directory, environment, labels, streams and end. */
import { withValues } from "../draft.ts";
import { parseBoolean, parseContainerPath, parseInteger, parsePair, ValueError } from "./grammar.ts";
import type { DockerParameter } from "./parameter.ts";

export const PROCESS_PARAMETERS: readonly DockerParameter[] = [
  {
    key: "env",
    accepts: "NAME=value, or NAME for the value that the scheduler gave the executor's environment",
    description: "Sets a variable in the container; a `vault://` value is resolved",
    repeats: true,
    apply(draft, value) {
      const { key: name } = parsePair(value);
      // The docker client would look into its own process environment. Berth's worker runs with the host's secrets in there, so
      // only what the scheduler itself gave can be named.
      const given = value.includes("=") ? value.slice(name.length + 1) : draft.executorVariable(name);
      if (given !== undefined) draft.environment.push({ name, value: given });
      else draft.warnings.push(`docker parameter env: the executor's command environment has no variable ${name}: not set`);
    },
  },
  {
    key: "label",
    accepts: "name=value",
    description: "Adds a Docker label; names that begin with `berth.` are Berth's own",
    repeats: true,
    apply(draft, value) {
      const label = parsePair(value);
      if (label.key.startsWith("berth.")) throw new ValueError("names a label that begins with 'berth.', which Berth keeps for itself");
      draft.labels.set(label.key, label.value);
    },
  },
  {
    key: "annotation",
    accepts: "name=value",
    description: "Adds an annotation for the OCI runtime (engine 24 and later)",
    repeats: true,
    apply(draft, value) {
      const annotation = parsePair(value);
      draft.host.Annotations = { ...draft.host.Annotations, [annotation.key]: annotation.value };
    },
  },
  {
    key: "entrypoint",
    accepts: "a program, or nothing to take the image's entrypoint away",
    description: "Replaces the image's entrypoint, and `/bin/sh` of a shell command",
    apply(draft, value) {
      draft.body.Entrypoint = [value];
    },
  },
  {
    key: "user",
    accepts: "name|uid[:group|gid]",
    description: "Runs the process as this user",
    apply(draft, value) {
      draft.body.User = value;
    },
  },
  {
    key: "group-add",
    accepts: "group|gid",
    description: "Adds a supplementary group",
    repeats: true,
    apply(draft, value) {
      draft.host.GroupAdd = withValues(draft.host.GroupAdd, value);
    },
  },
  {
    key: "workdir",
    accepts: "an absolute path in the container",
    description: "Sets the working directory",
    apply(draft, value) {
      draft.body.WorkingDir = parseContainerPath(value);
    },
  },
  {
    key: "init",
    accepts: "true|false",
    description: "Runs an init process that forwards signals and reaps children",
    apply(draft, value) {
      draft.host.Init = parseBoolean(value);
    },
  },
  {
    key: "tty",
    accepts: "true|false",
    description: "Gives the process a terminal; its output then is one stream",
    apply(draft, value) {
      draft.body.Tty = parseBoolean(value);
    },
  },
  {
    key: "interactive",
    accepts: "true|false",
    description: "Keeps standard input open (nothing is ever written to it)",
    apply(draft, value) {
      draft.body.OpenStdin = parseBoolean(value);
    },
  },
  {
    key: "stop-signal",
    accepts: "a signal's name or number",
    description: "The signal that asks the process to stop, before the grace period",
    apply(draft, value) {
      if (!/^(SIG)?[A-Z0-9+-]{1,16}$/i.test(value)) throw new ValueError("is not the name or number of a signal");
      draft.body.StopSignal = value;
    },
  },
  {
    key: "stop-timeout",
    accepts: "whole seconds",
    description: "The grace period, where neither the KILL nor the TaskInfo's kill policy names one",
    apply(draft, value) {
      draft.body.StopTimeout = parseInteger(value, 0, 2 ** 31 - 1);
    },
  },
  {
    key: "platform",
    accepts: "os/arch[/variant]",
    description: "The platform to pull and to create for",
    apply(draft, value) {
      draft.platform = value;
    },
  },
];
