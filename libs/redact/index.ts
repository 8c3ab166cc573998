export { type MaskOptions, SecretRegistry } from "./registry.ts";
export { type LineDestination, maskingDestination } from "./log-destination.ts";
