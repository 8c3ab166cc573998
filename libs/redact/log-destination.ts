import type { SecretRegistry } from "./registry.ts";

/** Where a logger writes its lines: pino's destination, `process.stderr`, a file. */
export interface LineDestination {
  write(line: string): void;
}

/**
 * Puts the registry between a logger and its destination: `pino(options, maskingDestination(registry, pino.destination(2)))`.
 * It sees the finished line, so fields, messages, serialized errors and child bindings are all covered.
 */
export function maskingDestination(registry: SecretRegistry, destination: LineDestination): LineDestination {
  return { write: (line) => destination.write(registry.maskJsonLine(line)) };
}
