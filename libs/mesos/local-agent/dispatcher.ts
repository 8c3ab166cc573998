import type { IncomingMessage, ServerResponse } from "node:http";
import { BadCall, type ReceivedCall, readCall } from "./call.ts";
import { type Delivery, EventStream } from "./event-stream.ts";
import type { LocalExecutor } from "./executor.ts";
import { answer, type Transport } from "./http-front.ts";
import { authenticate, type ExecutorClaims } from "./token.ts";

/**
 * How far the agent's start has come. "starting": the port is open, routes are not installed yet (404). "recovering": 503 for
 * everything. "reregistering": SUBSCRIBE and HEARTBEAT are taken, all other calls still answered with 503.
 */
export type AgentPhase = "down" | "starting" | "recovering" | "reregistering" | "running";

/** What the dispatcher asks the agent. */
export interface DispatcherContext {
  phase: () => AgentPhase;
  delivery: () => Delivery;
  /** Undefined when executors need no token. */
  key: string | undefined;
  isFramework: (frameworkId: string) => boolean;
  findExecutor: (frameworkId: string, executorId: string) => LocalExecutor | undefined;
  /** An answer that a test asked for instead of the true one. `type` is undefined where the call is not readable. */
  fault: (type: string | undefined) => { status: number; body: string } | undefined;
}

const NOT_RECOVERED = "Agent has not finished recovery";
const EXECUTOR_PATH = "/slave(1)/api/v1/executor";
const OPERATOR_PATH = "/slave(1)/api/v1";

/**
 * Answers the requests of executors in the order of checks of slave/http.cpp `Http::executor`: path, authentication, recovery,
 * method, content type, body, validation, accept, phase, framework, executor, claims, subscription.
 */
export class Dispatcher {
  readonly #context: DispatcherContext;

  constructor(context: DispatcherContext) {
    this.#context = context;
  }

  handle(request: IncomingMessage, body: string, response: ServerResponse, transport: Transport): void {
    const fault = this.#context.fault(typeOf(body));
    if (fault !== undefined) return answer(response, fault.status, fault.body);
    if (this.#answerPath(request, response, transport)) return;
    const claims = this.#authenticate(request, response);
    if (claims === "refused") return;
    const phase = this.#context.phase();
    if (phase === "recovering") return answer(response, 503, NOT_RECOVERED);
    const call = this.#readRequest(request, body, response);
    if (call === undefined) return;
    if (call.type === "HEARTBEAT") return answer(response, 202);
    if (phase === "reregistering" && call.type !== "SUBSCRIBE") return answer(response, 503, NOT_RECOVERED);
    const executor = this.#findExecutor(call, claims, response);
    if (executor !== undefined) this.#execute(call, executor, request, response);
  }

  /** Whether the path alone decided the answer. */
  #answerPath(request: IncomingMessage, response: ServerResponse, transport: Transport): boolean {
    if (this.#context.phase() === "starting") {
      answer(response, 404, "404 Not Found.");
      return true;
    }
    const raw = (request.url ?? "").split("?", 1)[0] as string;
    if (transport === "domain-socket") {
      if (raw === EXECUTOR_PATH) return false;
      if (raw === OPERATOR_PATH) answer(response, 400, "Failed to validate agent::Call: Expecting 'type' to be present");
      else answer(response, 403, "403 Forbidden.");
      return true;
    }
    const path = decode(raw);
    if (path === EXECUTOR_PATH || path === "/api/v1/executor") return false;
    // Everything else below the operator endpoint falls into that endpoint.
    const operator = ["/api/v1", OPERATOR_PATH].some((prefix) => path === prefix || path.startsWith(`${prefix}/`));
    if (operator) answer(response, 400, "Failed to validate agent::Call: Expecting 'type' to be present");
    else answer(response, 404, "404 Not Found.");
    return true;
  }

  #authenticate(request: IncomingMessage, response: ServerResponse): Partial<ExecutorClaims> | undefined | "refused" {
    if (this.#context.key === undefined) return undefined;
    const result = authenticate(request.headers.authorization, this.#context.key);
    if ("claims" in result) return result.claims;
    const body = '"Basic" authenticator returned:\n401 Unauthorized.\n\n"Bearer" authenticator returned:\n401 Unauthorized.';
    answer(response, 401, body, { "WWW-Authenticate": result.challenge });
    return "refused";
  }

  #readRequest(request: IncomingMessage, body: string, response: ServerResponse): ReceivedCall | undefined {
    if (request.method !== "POST") {
      const text = `405 Method Not Allowed. Expecting one of { 'POST' }, but received '${request.method}'.`;
      answer(response, 405, text, { Allow: "POST" });
      return undefined;
    }
    const contentType = request.headers["content-type"];
    if (contentType === undefined) {
      answer(response, 400, "Expecting 'Content-Type' to be present");
      return undefined;
    }
    if (contentType !== "application/json") {
      // A real agent takes protobuf too; this one speaks JSON alone.
      answer(response, 415, "Expecting 'Content-Type' of application/json or application/x-protobuf");
      return undefined;
    }
    try {
      const call = readCall(body);
      if (call.type !== "SUBSCRIBE" || acceptsJson(request.headers.accept)) return call;
      answer(response, 406, "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'");
    } catch (error) {
      if (!(error instanceof BadCall)) throw error;
      answer(response, 400, error.message);
    }
    return undefined;
  }

  #findExecutor(call: ReceivedCall, claims: Partial<ExecutorClaims> | undefined, response: ServerResponse): LocalExecutor | undefined {
    if (!this.#context.isFramework(call.frameworkId)) {
      answer(response, 400, "Framework cannot be found");
      return undefined;
    }
    const executor = this.#context.findExecutor(call.frameworkId, call.executorId);
    if (executor === undefined) {
      answer(response, 400, "Executor cannot be found");
      return undefined;
    }
    const expected: ExecutorClaims = { fid: call.frameworkId, eid: call.executorId, cid: executor.containerId };
    const wrong = claims && (["fid", "eid", "cid"] as const).find((claim) => claims[claim] !== expected[claim]);
    if (wrong !== undefined) {
      answer(response, 403, `Authenticated principal does not contain a matching '${wrong}' claim`);
      return undefined;
    }
    if (call.type !== "SUBSCRIBE" && executor.state === "REGISTERING") {
      answer(response, 403, "Executor is not subscribed");
      return undefined;
    }
    return executor;
  }

  #execute(call: ReceivedCall, executor: LocalExecutor, request: IncomingMessage, response: ServerResponse): void {
    switch (call.type) {
      case "SUBSCRIBE":
        executor.subscribe(call, new EventStream(response, request.socket, this.#context.delivery));
        return;
      case "UPDATE":
        answer(response, 202);
        executor.update(call.status);
        return;
      case "MESSAGE":
        answer(response, 202);
        executor.receiveMessage(call.data);
        return;
      default:
        answer(response, 501, "501 Not Implemented.");
    }
  }
}

/** Absent, `*` and `application/*` allow JSON; quality values are not weighed. */
function acceptsJson(accept: string | undefined): boolean {
  if (accept === undefined) return true;
  const types = accept.split(",").map((entry) => entry.split(";", 1)[0]?.trim());
  return types.some((type) => type === "application/json" || type === "*/*" || type === "application/*");
}

function typeOf(body: string): string | undefined {
  return /"type"\s*:\s*"(SUBSCRIBE|UPDATE|MESSAGE|HEARTBEAT)"/.exec(body)?.[1];
}

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
