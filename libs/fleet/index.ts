export { type FleetSettings, FleetSettingsError, fleetSettingsFrom } from "./settings.ts";
