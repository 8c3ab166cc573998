import { type BackoffPolicy, backoffDelay, pause } from "@berth/retry";
import { hasKind, isOutage, VaultError, wordsOf } from "./errors.ts";
import type { Unlock } from "./file-lock.ts";
import { Authenticator, canLogIn, type OnSensitive } from "./login.ts";
import type { VaultSettings } from "./settings.ts";
import { lifetimeWords } from "./shapes.ts";
import { fingerprint, type HeldToken, tokenFromLogin, tokenFromLookup } from "./token.ts";
import { TokenFile } from "./token-file.ts";
import type { TokenSource, VaultCounters, VaultLog } from "./types.ts";
import type { VaultApi } from "./vault-api.ts";

export interface LocalTokensOptions {
  settings: VaultSettings;
  api: VaultApi;
  log: VaultLog;
  counters: VaultCounters;
  onSensitive: OnSensitive;
  /** Settles when Vault can be asked. */
  untilOpen: (signal: AbortSignal) => Promise<void>;
  /** Ends every wait. */
  signal: AbortSignal;
  now: () => number;
  random: () => number;
}

const HOUR_MS = 3_600_000;
/** A token this close to its end is not worth taking up. */
const LEAST_REMAINING_MS = 2_000;
const LOGINS: BackoffPolicy = { attempts: Number.POSITIVE_INFINITY, firstDelayMs: 1_000, maxDelayMs: 60_000 };

/**
 * The token sources of this host alone: VAULT_TOKEN, the token file, a login.
 *
 * INVARIANTS: at most one login attempt per backoff step, whoever asks for it; a token that was found dead is never offered
 * again; the file lock is held while a login is under way and at no other time.
 */
export class LocalTokens {
  readonly #options: LocalTokensOptions;
  readonly #authenticator: Authenticator;
  readonly #file: TokenFile | undefined;
  readonly #dead = new Set<string>();
  #loggingIn: Promise<HeldToken> | undefined;
  #failure: { error: VaultError; until: number; step: number } | undefined;

  constructor(options: LocalTokensOptions) {
    this.#options = options;
    this.#authenticator = new Authenticator(options.settings, options.api, options.onSensitive);
    this.#file = options.settings.tokenFile === undefined ? undefined : new TokenFile(options.settings.tokenFile);
  }

  get canLogIn(): boolean {
    return canLogIn(this.#options.settings);
  }

  isDead(value: string): boolean {
    return this.#dead.has(fingerprint(value));
  }

  /** Vault does not know this token any more. */
  bury(value: string): void {
    if (this.#dead.size > 1000) this.#dead.clear();
    this.#dead.add(fingerprint(value));
  }

  /** VAULT_TOKEN, while it works. */
  async fromSettings(): Promise<HeldToken | undefined> {
    const { settings, log } = this.#options;
    if (settings.token === undefined || this.isDead(settings.token)) return undefined;
    const token = await this.inspect("VAULT_TOKEN", settings.token);
    if (token !== undefined) return token;
    log.warn({}, "VAULT_TOKEN is not valid any more");
    if (!this.canLogIn && settings.tokenFile === undefined) {
      throw new VaultError("denied", "VAULT_TOKEN is not valid any more, and no other way to a token is set");
    }
    return undefined;
  }

  /** The token file's token if it can be trusted, else that of a login, which is then in the file. */
  async obtain(): Promise<HeldToken> {
    if (this.#file === undefined) return this.logIn();
    const present = await this.#fromFile(this.#file);
    if (present !== undefined) return present;
    return this.logIn(true);
  }

  /**
   * A new token, at most once per backoff step: within a step a refusal is repeated, an outage waited for. With `orFile` the
   * file's token will do, if another process of the host has put a good one there by the time we have the lock.
   */
  logIn(orFile = false): Promise<HeldToken> {
    this.#loggingIn ??= this.#logInLocked(orFile).finally(() => {
      this.#loggingIn = undefined;
    });
    return this.#loggingIn;
  }

  async #logInLocked(orFile: boolean): Promise<HeldToken> {
    await this.#awaitStep();
    const file = this.#file;
    if (file === undefined) return this.#logInNow();
    const unlock = await this.#lock(file);
    try {
      return (orFile && unlock !== undefined ? await this.#fromFile(file) : undefined) ?? (await this.#logInNow());
    } finally {
      await unlock?.();
    }
  }

  async #awaitStep(): Promise<void> {
    const { now, signal } = this.#options;
    const failure = this.#failure;
    if (failure === undefined || now() >= failure.until) return;
    if (!isOutage(failure.error)) throw failure.error;
    await pause(failure.until - now(), signal);
    await this.#options.untilOpen(signal);
  }

  async #logInNow(): Promise<HeldToken> {
    const { counters, log, now, signal } = this.#options;
    try {
      counters.logins += 1;
      const { source, auth } = await this.#authenticator.logIn(signal);
      this.#failure = undefined;
      const token = tokenFromLogin(source, auth, now());
      log.info({ method: source, accessor: token.accessor, lifetime: lifetimeWords(auth.ttlMs || undefined) }, "logged in to Vault");
      await this.save(token);
      return token;
    } catch (error) {
      counters.loginFailures += 1;
      if (error instanceof VaultError) {
        this.#note(error);
        log.warn({ problem: error.message, nextIn: lifetimeWords((this.#failure?.until ?? 0) - now()) }, "the login to Vault failed");
      }
      throw error;
    }
  }

  /** Vault rejected a token that it had only just given: the next login waits for its step. */
  noteFreshRejection(): void {
    this.#note(new VaultError("denied", "Vault rejects the token that it has just given; is a proxy in between, or a standby that lags?"));
  }

  /** Writes the token file; a file that cannot be written costs a login after the next restart, not more. */
  async save(token: HeldToken): Promise<void> {
    try {
      await this.#file?.write(token.value);
    } catch (error) {
      this.#options.log.warn({ file: this.#file?.path, problem: wordsOf(error) }, "the Vault token file cannot be written");
    }
  }

  /** After a renewal: older executors judge the file by its age. */
  async touch(): Promise<void> {
    await this.#file?.touch(new Date()).catch(() => {});
  }

  /** What Vault knows of a token; undefined for one that is dead or about to end. */
  async inspect(source: TokenSource, value: string): Promise<HeldToken | undefined> {
    const { api, onSensitive, now, signal } = this.#options;
    onSensitive(value, source === "VAULT_TOKEN" ? "VAULT_TOKEN" : "the Vault token");
    try {
      const { data } = await api.read("auth/token/lookup-self", value, signal);
      const token = tokenFromLookup(source, value, data, now());
      return token.expiresAt !== undefined && token.expiresAt - now() < LEAST_REMAINING_MS ? undefined : token;
    } catch (error) {
      if (hasKind(error, "invalidToken")) {
        this.bury(value);
        return undefined;
      }
      // Older servers say no more than "denied" of a dead token; a file is not trusted on that, VAULT_TOKEN is the operator's word.
      if (hasKind(error, "denied")) return source === "VAULT_TOKEN" ? tokenFromLookup(source, value, {}, now()) : undefined;
      throw error;
    }
  }

  async #fromFile(file: TokenFile): Promise<HeldToken | undefined> {
    const { settings, log, now } = this.#options;
    const content = await file.read();
    if (content.state === "absent") return undefined;
    if (content.state === "rejected") {
      log.warn({ file: file.path, problem: content.problem }, "the Vault token file is not trusted and will be replaced");
      return undefined;
    }
    if (this.isDead(content.token)) return undefined;
    const grace = Math.min(HOUR_MS, settings.ttlMs / 2);
    if (content.modifiedAt < now() - (settings.ttlMs - grace)) {
      log.info({ file: file.path }, "the token in the Vault token file is near the end of VAULT_TTL and will be replaced");
      return undefined;
    }
    const token = await this.inspect("file", content.token);
    if (token === undefined) log.warn({ file: file.path }, "the token in the Vault token file is not valid any more and will be replaced");
    else
      log.info({ file: file.path, accessor: token.accessor, displayName: token.displayName }, "took up the token of the Vault token file");
    return token;
  }

  async #lock(file: TokenFile): Promise<Unlock | undefined> {
    const { settings, log, signal } = this.#options;
    try {
      const unlock = await file.lock(2 * settings.requestTimeoutMs, signal);
      if (unlock === undefined)
        log.warn({ file: file.path }, "another process holds the lock of the Vault token file; logging in without it");
      return unlock;
    } catch (error) {
      log.warn({ file: file.path, problem: wordsOf(error) }, "the Vault token file cannot be locked");
      return undefined;
    }
  }

  #note(error: VaultError): void {
    const { now, random } = this.#options;
    const step = (this.#failure?.step ?? 0) + 1;
    this.#failure = { error, step, until: now() + backoffDelay(LOGINS, step, random) };
  }
}
