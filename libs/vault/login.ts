import { readFile } from "node:fs/promises";
import { hasKind, VaultError } from "./errors.ts";
import { encodeSegment } from "./reference.ts";
import type { SecretInput, VaultSettings } from "./settings.ts";
import type { TokenSource } from "./types.ts";
import type { VaultApi, VaultAuth } from "./vault-api.ts";

export interface Login {
  source: TokenSource;
  auth: VaultAuth;
}

/** Tells of every password that was read, so that it is masked from then on. */
export type OnSensitive = (value: string, source: string) => void;

export function canLogIn(settings: VaultSettings): boolean {
  return settings.userpass !== undefined || settings.appRole !== undefined;
}

/** The ways to a new token that are set: userpass, else AppRole. Failures name the settings to look at. */
export class Authenticator {
  readonly #settings: VaultSettings;
  readonly #api: VaultApi;
  readonly #onSensitive: OnSensitive;
  /** A wrapping token gives its secret id once, and a later login needs it again. */
  #unwrapped: { wrapping: string; secretId: string } | undefined;

  constructor(settings: VaultSettings, api: VaultApi, onSensitive: OnSensitive) {
    this.#settings = settings;
    this.#api = api;
    this.#onSensitive = onSensitive;
  }

  async logIn(signal: AbortSignal): Promise<Login> {
    const { userpass, appRole } = this.#settings;
    if (userpass !== undefined) return this.#byUserpass(userpass, signal);
    if (appRole !== undefined) return this.#byAppRole(appRole, signal);
    throw new VaultError(
      "configuration",
      "there is no Vault token and no way to get one: set VAULT_TOKEN, VAULT_TOKEN_FILE, VAULT_USERNAME with VAULT_PASSWORD, or VAULT_ROLE_ID",
    );
  }

  async #byUserpass(options: NonNullable<VaultSettings["userpass"]>, signal: AbortSignal): Promise<Login> {
    const { username, mount } = options;
    const password = await inputValue(options.password, "VAULT_PASSWORD", this.#onSensitive);
    const path = `auth/${encodeMount(mount)}/login/${encodeSegment(username)}`;
    try {
      return { source: "userpass", auth: authOf(await this.#api.write(path, { password }, undefined, signal)) };
    } catch (error) {
      throw explained(error, `Vault does not let user ${username} log in`, "VAULT_USERNAME, VAULT_PASSWORD and VAULT_USERPASS_MOUNT");
    }
  }

  async #byAppRole(options: NonNullable<VaultSettings["appRole"]>, signal: AbortSignal): Promise<Login> {
    const { roleId, mount, wrapped } = options;
    const given = options.secretId === undefined ? undefined : await inputValue(options.secretId, "VAULT_SECRET_ID", this.#onSensitive);
    const secretId = given !== undefined && wrapped ? await this.#unwrap(given, signal) : given;
    try {
      const body = { role_id: roleId, ...(secretId === undefined ? {} : { secret_id: secretId }) };
      return { source: "approle", auth: authOf(await this.#api.write(`auth/${encodeMount(mount)}/login`, body, undefined, signal)) };
    } catch (error) {
      throw explained(error, "Vault does not accept the AppRole", "VAULT_ROLE_ID, VAULT_SECRET_ID and VAULT_APPROLE_MOUNT");
    }
  }

  async #unwrap(wrapping: string, signal: AbortSignal): Promise<string> {
    if (this.#unwrapped?.wrapping === wrapping) return this.#unwrapped.secretId;
    try {
      const { data } = await this.#api.write("sys/wrapping/unwrap", {}, wrapping, signal);
      if (typeof data.secret_id !== "string") throw new VaultError("malformed", "the wrapped answer holds no secret_id");
      this.#onSensitive(data.secret_id, "VAULT_SECRET_ID");
      this.#unwrapped = { wrapping, secretId: data.secret_id };
      return data.secret_id;
    } catch (error) {
      throw explained(error, "the wrapped secret id cannot be unwrapped (it was used before, or has expired)", "VAULT_SECRET_ID");
    }
  }
}

function explained(error: unknown, what: string, settings: string): unknown {
  const denied = hasKind(error, "rejected") || hasKind(error, "denied") || hasKind(error, "invalidToken") || hasKind(error, "missing");
  if (!denied) return error;
  return new VaultError("denied", `${what} (${error.message}); check ${settings}`, {
    ...(error.status === undefined ? {} : { status: error.status }),
  });
}

function authOf({ auth }: { auth?: VaultAuth }): VaultAuth {
  if (auth === undefined) throw new VaultError("malformed", "Vault's answer to the login holds no token");
  return auth;
}

async function inputValue(input: SecretInput, name: string, onSensitive: OnSensitive): Promise<string> {
  if ("value" in input) return input.value;
  let text: string;
  try {
    text = (await readFile(input.file, "utf8")).replace(/\r?\n$/, "");
  } catch (error) {
    throw new VaultError("configuration", `${name}_FILE cannot be read: ${(error as NodeJS.ErrnoException).code} ${input.file}`);
  }
  if (text === "") throw new VaultError("configuration", `${name}_FILE is empty: ${input.file}`);
  onSensitive(text, name);
  return text;
}

function encodeMount(mount: string): string {
  return mount
    .replace(/^\/+|\/+$/g, "")
    .split("/")
    .map(encodeSegment)
    .join("/");
}
