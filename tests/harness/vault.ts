import { freePort } from "./ports.ts";
import { type RunningProcess, startProcess } from "./process.ts";
import { builtServer } from "./tools.ts";

export interface VaultServer extends AsyncDisposable {
  /** `http://127.0.0.1:port`, fit for VAULT_ADDR. */
  address: string;
  rootToken: string;
  process: RunningProcess;
  /** A request with the root token (or another one); returns status and parsed body. */
  call(method: string, path: string, body?: object, token?: string): Promise<{ status: number; body: unknown }>;
  stop(): Promise<void>;
}

/** An unsealed Vault in memory with KV v2 at secret/ and the userpass, approle, kv and aws plugins, none of them else enabled. */
export async function startVault(options: { port?: number; rootToken?: string } = {}): Promise<VaultServer> {
  const { rootToken = "root" } = options;
  const listen = `127.0.0.1:${options.port ?? (await freePort())}`;
  const address = `http://${listen}`;
  const server = await startProcess({
    name: "vaultdev",
    command: builtServer("vaultdev"),
    args: ["-addr", listen, "-root-token", rootToken],
    ready: (output) => output().includes("ready "),
  });

  async function call(method: string, path: string, body?: object, token = rootToken): Promise<{ status: number; body: unknown }> {
    const response = await fetch(`${address}/v1/${path.replace(/^\//, "")}`, {
      method,
      headers: { "X-Vault-Token": token },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? undefined : JSON.parse(text) };
  }

  return { address, rootToken, process: server, call, stop: server.stop, [Symbol.asyncDispose]: server.stop };
}
