import { type DestinationStream, destination, type Logger, pino } from "pino";
import { prettyLines } from "./pretty-lines.ts";

export type { Logger };

export interface LogOptions {
  level: string;
  /** `json` for machines, `pretty` for a terminal, `auto`: pretty where stderr is a terminal. */
  format: "auto" | "json" | "pretty";
  /** Hides the values of known secrets in a finished line. */
  mask: (line: string) => string;
}

/**
 * The daemon's log: pino, JSON lines on stderr, written synchronously so that no line is lost when the process ends. On a
 * terminal the same lines are laid out for a person.
 */
export function createLog(options: LogOptions): Logger {
  const stderr = destination({ dest: 2, sync: true });
  const pretty = options.format === "pretty" || (options.format === "auto" && process.stderr.isTTY === true);
  const layout = pretty ? prettyLines : (line: string): string => line;
  const stream: DestinationStream = { write: (line) => stderr.write(options.mask(layout(line))) };
  return pino(
    { level: options.level, base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers: { err: pino.stdSerializers.err } },
    stream,
  );
}
