import { request } from "node:http";

/** An answer of the Docker API above 399. */
export class DockerApiError extends Error {
  override readonly name = "DockerApiError";
  readonly statusCode: number;

  constructor(statusCode: number, message: string) {
    super(message);
    this.statusCode = statusCode;
  }
}

/**
 * The Docker API as a test sees it: one request, one answer, no library in between, so that tests check Berth against dockerd
 * and not against the client that Berth itself uses.
 */
export class DockerApi {
  readonly socketPath: string;

  /** @param host `unix:///path/docker.sock` */
  constructor(host: string) {
    this.socketPath = host.replace(/^unix:\/\//, "");
  }

  /** Sends JSON (or bytes as a tar) and returns the parsed answer, its text where it is not JSON, undefined where it is empty. */
  async call<T = unknown>(method: string, path: string, body?: object | Buffer, headers: Record<string, string> = {}): Promise<T> {
    const payload = body === undefined ? undefined : Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    const type = Buffer.isBuffer(body) ? "application/x-tar" : "application/json";
    const { statusCode, text } = await new Promise<{ statusCode: number; text: string }>((resolve, reject) => {
      const options = {
        socketPath: this.socketPath,
        method,
        path,
        agent: false as const,
        headers: payload === undefined ? headers : { "content-type": type, "content-length": payload.length, ...headers },
      };
      const sent = request(options, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => resolve({ statusCode: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
        response.on("error", reject);
      });
      sent.on("error", reject);
      sent.end(payload);
    });
    if (statusCode >= 400) throw new DockerApiError(statusCode, `${method} ${path}: ${statusCode} ${text.trim()}`);
    return parse(text) as T;
  }
}

function parse(text: string): unknown {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
