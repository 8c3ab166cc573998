import { createServer } from "node:net";

/** A TCP port of 127.0.0.1 that nobody listens on now. Between this answer and its use another process may still take it. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port as number;
}

/** Several free ports, all different: each is held until the last one is found. */
export async function freePorts(count: number): Promise<number[]> {
  const holders = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const holder of holders) {
    await new Promise<void>((resolve, reject) => holder.once("error", reject).listen(0, "127.0.0.1", resolve));
    const address = holder.address();
    if (address !== null && typeof address === "object") ports.push(address.port);
  }
  for (const holder of holders) await new Promise((resolve) => holder.close(resolve));
  return ports;
}
