export { type FleetSettings, fleetSettingsFrom } from "./settings.ts";
