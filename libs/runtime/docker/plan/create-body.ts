/**
 * The body of `POST /containers/create` (Docker Engine API 1.41 and later), as far as Berth fills it in. Exact on purpose: the
 * published types of client libraries leave half of these fields untyped.
 */

export interface PortBinding {
  HostIp: string;
  /** Decimal; empty for a port that the engine chooses; a range ("9000-9002") to choose from. */
  HostPort: string;
}

export interface Mount {
  Type: "bind" | "volume" | "tmpfs" | "npipe" | "cluster" | "image";
  Source?: string;
  Target: string;
  ReadOnly?: boolean;
  Consistency?: string;
  BindOptions?: {
    Propagation?: string;
    NonRecursive?: boolean;
    ReadOnlyNonRecursive?: boolean;
    ReadOnlyForceRecursive?: boolean;
    CreateMountpoint?: boolean;
  };
  VolumeOptions?: {
    NoCopy?: boolean;
    Labels?: Record<string, string>;
    Subpath?: string;
    DriverConfig?: { Name?: string; Options?: Record<string, string> };
  };
  TmpfsOptions?: { SizeBytes?: number; Mode?: number };
}

export interface Ulimit {
  Name: string;
  Soft: number;
  Hard: number;
}

export interface DeviceRequest {
  Driver: string;
  Count: number;
  DeviceIDs: string[] | null;
  Capabilities: string[][] | null;
  Options: Record<string, string> | null;
}

export interface EndpointConfig {
  IPAMConfig?: { IPv4Address?: string; IPv6Address?: string; LinkLocalIPs?: string[] };
  Links?: string[];
  Aliases?: string[];
  MacAddress?: string;
  DriverOpts?: Record<string, string>;
}

/** Times in nanoseconds. */
export interface Healthcheck {
  Test?: string[];
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  Retries?: number;
}

export interface HostConfig {
  Annotations?: Record<string, string>;
  Binds?: string[];
  BlkioWeight?: number;
  BlkioWeightDevice?: Array<{ Path: string; Weight: number }>;
  BlkioDeviceReadBps?: Array<{ Path: string; Rate: number }>;
  BlkioDeviceReadIOps?: Array<{ Path: string; Rate: number }>;
  BlkioDeviceWriteBps?: Array<{ Path: string; Rate: number }>;
  BlkioDeviceWriteIOps?: Array<{ Path: string; Rate: number }>;
  CapAdd?: string[];
  CapDrop?: string[];
  CgroupParent?: string;
  CgroupnsMode?: string;
  /** Microseconds, like the quotas and periods below. */
  CpuPeriod?: number;
  CpuQuota?: number;
  CpuRealtimePeriod?: number;
  CpuRealtimeRuntime?: number;
  CpuShares?: number;
  CpusetCpus?: string;
  CpusetMems?: string;
  DeviceCgroupRules?: string[];
  DeviceRequests?: DeviceRequest[];
  Devices?: Array<{ PathOnHost: string; PathInContainer: string; CgroupPermissions: string }>;
  Dns?: string[];
  DnsOptions?: string[];
  DnsSearch?: string[];
  ExtraHosts?: string[];
  GroupAdd?: string[];
  Init?: boolean;
  IpcMode?: string;
  Isolation?: string;
  /** Bytes, like all memory sizes. */
  KernelMemory?: number;
  Links?: string[];
  LogConfig?: { Type: string; Config: Record<string, string> };
  MaskedPaths?: string[];
  Memory?: number;
  MemoryReservation?: number;
  MemorySwap?: number;
  MemorySwappiness?: number;
  Mounts?: Mount[];
  NanoCpus?: number;
  NetworkMode?: string;
  OomKillDisable?: boolean;
  OomScoreAdj?: number;
  PidMode?: string;
  PidsLimit?: number;
  PortBindings?: Record<string, PortBinding[]>;
  Privileged?: boolean;
  PublishAllPorts?: boolean;
  ReadonlyPaths?: string[];
  ReadonlyRootfs?: boolean;
  RestartPolicy?: { Name: "no" };
  Runtime?: string;
  SecurityOpt?: string[];
  ShmSize?: number;
  StorageOpt?: Record<string, string>;
  Sysctls?: Record<string, string>;
  Tmpfs?: Record<string, string>;
  Ulimits?: Ulimit[];
  UTSMode?: string;
  UsernsMode?: string;
  VolumeDriver?: string;
  VolumesFrom?: string[];
}

/** A type alias and no interface, so that it can be handed to code that passes bodies through as plain records. */
export type CreateBody = {
  Image: string;
  Hostname?: string;
  Domainname?: string;
  User?: string;
  Tty?: boolean;
  OpenStdin?: boolean;
  Env?: string[];
  Cmd?: string[];
  Entrypoint?: string[];
  Labels: Record<string, string>;
  Volumes?: Record<string, Record<string, never>>;
  WorkingDir?: string;
  MacAddress?: string;
  ExposedPorts?: Record<string, Record<string, never>>;
  StopSignal?: string;
  StopTimeout?: number;
  Healthcheck?: Healthcheck;
  HostConfig: HostConfig;
  NetworkingConfig?: { EndpointsConfig: Record<string, EndpointConfig> };
};
