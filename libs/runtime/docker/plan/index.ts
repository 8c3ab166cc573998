/** How a task becomes a container: pure functions from a TaskInfo to a create request. */

export { COMMAND_LABEL } from "./command.ts";
export { type ContainerPlan, createBody, environmentRecord, planContainer } from "./container-plan.ts";
export type { CreateBody, EndpointConfig, HostConfig, Mount, PortBinding } from "./create-body.ts";
export type { NetworkAttachment } from "./draft.ts";
export { type ContainerDns, type DropInFlags, isDropIn, parseDropInFlags } from "./drop-in.ts";
export type { EnvironmentOrigin, PlannedVariable } from "./environment.ts";
export { CONTAINER_LABELS, containerName, incumbentContainerName, nameFor, ownedBy } from "./identity.ts";
export type { DockerTaskOptions } from "./options.ts";
export type { DockerParameter } from "./parameters/parameter.ts";
export { PARAMETER_GROUPS } from "./parameters/table.ts";
