import type { SinkConfig } from "@berth/logrelay";
import { z } from "zod";

const head = { name: z.string().min(1).optional(), queueBytes: z.number().int().positive().optional() };
const address = z.string().regex(/^(\[[^\]]+\]|[^:]+):\d{1,5}$/, "expected host:port");
const file = z.string().startsWith("/", "expected the whole path of a file");
const tls = z.strictObject({
  ca: file.optional(),
  cert: file.optional(),
  key: file.optional(),
  serverName: z.string().optional(),
  verify: z.boolean().optional(),
});

/** The `logSinks:` list of berth.yaml: receivers of every task's output. The names are those of docs/logs.md. */
export const LogSinks = z
  .array(
    z.discriminatedUnion("type", [
      z.strictObject({ ...head, type: z.literal("json-udp"), address, rate: z.number().positive().optional() }),
      z
        .strictObject({
          ...head,
          type: z.literal("syslog"),
          transport: z.enum(["udp", "tcp", "tls", "unix"]),
          address: address.optional(),
          path: z.string().startsWith("/").optional(),
          tls: tls.optional(),
          facility: z.number().int().min(0).max(23).optional(),
          appName: z.string().optional(),
          maxMessageBytes: z.number().int().positive().optional(),
        })
        .refine(({ transport, address }) => transport === "unix" || address !== undefined, {
          path: ["address"],
          message: "is needed for this transport",
        })
        .refine(({ tls: { cert, key } = {} }) => (cert === undefined) === (key === undefined), {
          path: ["tls"],
          message: "cert and key go together",
        }),
      z.strictObject({ ...head, type: z.literal("logstash"), transport: z.enum(["tcp", "udp"]), addresses: z.array(address).min(1) }),
      z.strictObject({
        ...head,
        type: z.literal("sandbox"),
        format: z.enum(["raw", "json"]).optional(),
        maxBytes: z.number().int().min(0).optional(),
        keep: z.number().int().min(0).optional(),
      }),
      z.strictObject({
        ...head,
        type: z.literal("file"),
        // Folders of a sandbox belong to the task: one could lead out of it. The two names are the task's own output.
        path: z
          .string()
          .regex(/^(?!\.{1,2}$|std(?:out|err)(?:\.\d+)?$)[^/\0]+$/, "expected the name of a file in the sandbox, without a slash"),
        format: z.enum(["raw", "json"]).optional(),
        maxBytes: z.number().int().min(0).optional(),
        keep: z.number().int().min(0).optional(),
      }),
    ]),
  )
  .default([])
  .transform((sinks) => sinks as SinkConfig[]);
