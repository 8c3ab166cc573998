/**
 * A program for tests: a server that misbehaves by path. Run in a network namespace; prints its ports as JSON, then every
 * request line that it gets.
 */
import { readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";

const [host = "127.0.0.1", certificate] = process.argv.slice(2);

function answer(socket: Socket, text: string): void {
  socket.end(text.replaceAll("\n", "\r\n"));
}

function serve(socket: Socket): void {
  socket.on("error", () => {});
  socket.once("data", (chunk: Buffer) => {
    const line = chunk.toString("latin1").split("\r\n")[0] ?? "";
    process.stdout.write(`${line}\n`);
    const path = line.split(" ")[1] ?? "";
    const { port } = socket.address() as { port: number };
    if (path.startsWith("/status/")) return answer(socket, `HTTP/1.1 ${path.slice(8)} Some Reason\nContent-Length: 0\n\n`);
    if (path.startsWith("/redirect/")) {
      const left = Number(path.slice(10));
      const location = left === 0 ? "/status/200" : `http://localhost:${port}/redirect/${left - 1}`;
      return answer(socket, `HTTP/1.1 302 Found\nLocation: ${location}\n\n`);
    }
    if (path === "/loop") return answer(socket, "HTTP/1.1 301 Moved\nLocation: /loop\n\n");
    if (path === "/to-file") return answer(socket, "HTTP/1.1 302 Found\nLocation: file:///etc/passwd\n\n");
    if (path === "/mute") return;
    if (path === "/close") return void socket.destroy();
    if (path === "/not-http") return answer(socket, "SSH-2.0-OpenSSH_9\n\n\n");
    if (path === "/headers") return answer(socket, `HTTP/1.1 200 OK\n${`X-Filler: ${"x".repeat(1000)}\n`.repeat(1000)}\n`);
    if (path === "/endless") return void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    if (path === "/short") return answer(socket, "HTTP/1.1 200 OK\nContent-Length: 100\n\nhalf");
    if (path === "/chunked") return void socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    if (path === "/interim") return answer(socket, "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 204 No Content\n\n");
    return answer(socket, "HTTP/1.1 200 OK\n\nhello\n");
  });
}

const plain = createServer(serve).listen(0, host, () => {
  const { port } = plain.address() as { port: number };
  if (certificate === undefined) return void process.stdout.write(`${JSON.stringify({ port })}\n`);
  const pem = readFileSync(certificate);
  const tls = createTlsServer({ key: pem, cert: pem }, serve).listen(0, host, () => {
    process.stdout.write(`${JSON.stringify({ port, tlsPort: (tls.address() as { port: number }).port })}\n`);
  });
});
