import { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { NetworkConfig } from "../config.ts";
import type { Hook, HookTask } from "../lifecycle.ts";

/** Gives every Docker task the host's choice of network, whatever it asks for. Host ports, DNS and the like stay as they are. */
export function networkHook(config: NetworkConfig): Hook {
  function nameFor(task: HookTask): string {
    if (!config.name.includes("{framework}")) return config.name;
    if (task.frameworkName === undefined || task.frameworkName === "") {
      throw new TaskFailure("the network hook names the network after the framework, whose name is not known; set network.name");
    }
    return config.name.replaceAll("{framework}", task.frameworkName);
  }

  function forced(task: HookTask): TaskInfo | undefined {
    const { container } = task.task;
    if (task.runtime !== "docker" || container?.docker === undefined) return undefined;
    const infos = config.mode === "USER" ? [{ name: nameFor(task), groups: [], port_mappings: [] }] : [];
    return { ...task.task, container: { ...container, docker: { ...container.docker, network: config.mode }, network_infos: infos } };
  }

  return {
    name: "network",
    priority: 0,
    timeoutMs: 1000,
    failsTask: true,
    stages: {
      async beforeCreate(task) {
        const changed = forced(task);
        return changed === undefined ? undefined : { task: changed };
      },
    },
    describe(task) {
      if (config.mode === "USER" && config.name.includes("{framework}") && !task.frameworkName)
        return "force a network named after the framework";
      const changed = forced(task);
      if (changed === undefined) return undefined;
      const name = changed.container?.network_infos[0]?.name;
      return `force the network ${config.mode}${name === undefined ? "" : ` '${name}'`}`;
    },
  };
}
