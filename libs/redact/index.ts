export { type LineDestination, maskingDestination } from "./log-destination.ts";
export { type MaskOptions, SecretRegistry } from "./registry.ts";
