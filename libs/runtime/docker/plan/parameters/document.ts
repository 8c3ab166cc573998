import { REFUSED_PARAMETERS } from "./refused.ts";
import { PARAMETER_GROUPS } from "./table.ts";

/** The reference of all docker parameters as Markdown: docs/reference/docker-parameters.md, written by write-document.ts. */
export function parametersDocument(): string {
  const groups = PARAMETER_GROUPS.map(({ title, parameters }) => {
    const rows = parameters.map(({ key, aliases, accepts, description, repeats }) => {
      const names = [key, ...(aliases ?? [])].map((name) => `\`${name}\``).join(", ");
      return `| ${names} | ${cell(accepts)} | ${cell(description)} | ${repeats === true ? "each adds" : "last wins"} |`;
    });
    return [`## ${title}`, "", "| key | value | what it does | several |", "| --- | --- | --- | --- |", ...rows].join("\n");
  });
  const refused = Array.from(REFUSED_PARAMETERS, ([key, reason]) => `| \`${key}\` | ${cell(reason)} |`);
  return `${[
    "<!-- Generated from the table in libs/runtime/docker/plan/parameters. Do not edit: change the table, then run write-document.ts there. -->",
    "# Docker parameters",
    INTRODUCTION,
    ...groups,
    ["## Refused", "", "| key | reason |", "| --- | --- |", ...refused].join("\n"),
  ].join("\n\n")}\n`;
}

const INTRODUCTION = [
  "A task may set almost every option of `docker run` in `container.docker.parameters` of its TaskInfo, by the option's long name without its",
  "dashes and with the value that the docker client takes. A parameter wins over what follows from other fields of the TaskInfo. A truth value",
  "may be left empty: that means true. An unknown or refused parameter ends the task with `TASK_FAILED`, a bad value with `TASK_ERROR`; the message names",
  "the parameter and what it accepts, and never repeats a value.",
].join("\n");

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;");
}
