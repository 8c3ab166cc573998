/** Apart from the package's door, because it loads BullMQ and ioredis: only a thread that joins a fleet should. */
export { FleetAwayError, type FleetLog } from "./connection.ts";
export {
  type Exclusive,
  type FleetLock,
  FleetSecret,
  type FleetSecretOptions,
  type FleetState,
  type SharedRecord,
} from "./fleet-secret.ts";
