import { TaskFailure } from "@berth/mesos";
import { z } from "zod";
import { callHttp, type HttpCall, type HttpEndpoint } from "../http.ts";

/** VaaS's REST API, version 0.1, as far as a task's registration needs it. Every call may be repeated. */
export class VaasApi {
  readonly #endpoint: HttpEndpoint;
  readonly #query: string;

  constructor(endpoint: HttpEndpoint, credentials: { username: string; token: string }) {
    this.#endpoint = endpoint;
    this.#query = new URLSearchParams({ api_key: credentials.token, username: credentials.username }).toString();
  }

  /** The data centre with this symbol, whole: it is sent back as it came. */
  async dataCentre(symbol: string, signal: AbortSignal): Promise<Record<string, unknown>> {
    const { objects } = await this.#list("/api/v0.1/dc/", DataCentre, {}, signal);
    const found = objects.find((dc) => dc.symbol === symbol);
    if (found === undefined) throw new TaskFailure(`VaaS knows no data centre with the symbol '${symbol}' (CLOUD_DC)`);
    return found;
  }

  async directorId(name: string, signal: AbortSignal): Promise<number> {
    const { objects } = await this.#list("/api/v0.1/director/", Director, { name }, signal);
    const found = objects.find((director) => director.name === name);
    if (found === undefined) throw new TaskFailure(`VaaS knows no director '${name}' (label director)`);
    return found.id;
  }

  /** The backend that stands for this address in this director, if there is one. */
  async findBackend(backend: { address: string; port: number; directorId: number }, signal: AbortSignal): Promise<number | undefined> {
    const { address, port, directorId } = backend;
    const { objects } = await this.#list("/api/v0.1/backend/", Backend, { address, port: String(port) }, signal);
    const director = `/api/v0.1/director/${directorId}/`;
    return objects.find((found) => found.address === address && found.port === port && found.director === director)?.id;
  }

  async createBackend(body: Record<string, unknown>, signal: AbortSignal): Promise<number> {
    const answer = await this.#call({ method: "POST", path: "/api/v0.1/backend/", body }, {}, signal);
    return z.object({ id: z.number() }).parse(answer).id;
  }

  /** A backend that is not there is deleted. */
  async deleteBackend(id: number, signal: AbortSignal): Promise<void> {
    const headers = { prefer: "respond-async" };
    await this.#call({ method: "DELETE", path: `/api/v0.1/backend/${id}/`, headers, absentIsFine: true }, {}, signal);
  }

  async #list<T extends z.ZodType>(path: string, shape: T, filter: Record<string, string>, signal: AbortSignal) {
    const answer = await this.#call({ method: "GET", path }, { ...filter, limit: "0" }, signal);
    return z.object({ objects: z.array(shape) }).parse(answer);
  }

  async #call(
    call: Pick<HttpCall, "method" | "path" | "body" | "headers"> & { absentIsFine?: boolean },
    query: Record<string, string>,
    signal: AbortSignal,
  ): Promise<unknown> {
    const { absentIsFine, ...request } = call;
    const filter = new URLSearchParams(query).toString();
    const path = `${call.path}?${filter === "" ? "" : `${filter}&`}${this.#query}`;
    const { status, text } = await callHttp(this.#endpoint, { ...request, path, timeoutMs: CALL_TIMEOUT_MS, signal });
    if (status === 404 && absentIsFine === true) return undefined;
    if (status < 200 || status > 299) {
      const message = `VaaS answered ${call.method} ${call.path} with status ${status}: ${text.slice(0, 300)}`;
      throw new TaskFailure(message, { recoverable: status >= 500 || status === 429 });
    }
    return text === "" ? undefined : JSON.parse(text);
  }
}

const CALL_TIMEOUT_MS = 10_000;
const DataCentre = z.looseObject({ symbol: z.string() });
const Director = z.object({ id: z.number(), name: z.string() });
const Backend = z.object({ id: z.number(), address: z.string(), port: z.number(), director: z.string().nullish() });
