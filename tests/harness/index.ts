/** Starters for the real servers that tests talk to. Each runs on loopback or in a network namespace of its own and leaves nothing behind. */
export { type ConsulServer, startConsul } from "./consul.ts";
export { DockerApi, DockerApiError } from "./docker-api.ts";
export { type Dockerd, type DockerdOptions, sharedDockerd, startDockerd } from "./dockerd.ts";
export { BUSYBOX_IMAGE, importBusybox } from "./image.ts";
export { type LogSink, startLogSink } from "./log-sink.ts";
export { freePort, freePorts } from "./ports.ts";
export { type ProcessOptions, type RunningProcess, startProcess } from "./process.ts";
export { type RedisServer, startRedis } from "./redis.ts";
export { type Registry, startRegistry } from "./registry.ts";
export { ScriptedWorker, type ScriptedWorkerOptions, startWorkerStandIn } from "./scripted-worker.ts";
export { type SidecarOptions, type SidecarServer, startSidecar } from "./sidecar.ts";
export { type SocketProxy, startSocketProxy } from "./socket-proxy.ts";
export { type TempDir, tempDir } from "./temp-dir.ts";
export { type BuiltServer, skipWithout } from "./tools.ts";
export { bindUnix, type UnixReceiver } from "./unix-receiver.ts";
export { startVault, type VaultServer } from "./vault.ts";
export { type WaitOptions, waitFor } from "./wait-for.ts";
