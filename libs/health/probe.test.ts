import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { waitFor } from "@berth/test-harness";
import { check, isRoot, startTask, type TestTask } from "./test-kit.ts";

const skip = isRoot ? false : "network namespaces need root";

for (const namespace of [true, false]) {
  describe(`HTTP and TCP checks ${namespace ? "in a namespace of the task's own" : "in the host's namespace"}`, { skip }, () => {
    let task: TestTask;
    before(async () => {
      task = await startTask({ namespace });
    });
    after(() => task[Symbol.asyncDispose]());

    const http = (path: string, more: object = {}, fields: object = {}) =>
      check(task.pid, { type: "HTTP", timeout_seconds: 20, http: { port: task.port, path, ...more }, ...fields });

    test("reach a service on 127.0.0.1, and tell its status whatever it is", async () => {
      for (const status of [200, 204, 399, 404, 503]) {
        const outcome = await http(`/status/${status}`);

        assert.deepEqual(outcome, { kind: "http", status, url: `http://127.0.0.1:${task.port}/status/${status}` });
      }
    });

    test("send path and query as they are written", async () => {
      for (const path of ["/a?b=c%20d&e=[1]", "/%2F//x/../y", "/%s%d", "/{}|\\^"]) {
        await http(path);

        assert.equal(task.requests.at(-1), `GET ${path} HTTP/1.1`);
      }
    });

    test("follow redirects, with localhost meaning the address that is checked", async () => {
      assert.deepEqual(await http("/redirect/3"), { kind: "http", status: 200, url: `http://127.0.0.1:${task.port}/status/200` });
    });

    test("give up on redirects without end, and on those that leave http", async () => {
      const [loop, file] = [await http("/loop"), await http("/to-file")];

      assert.equal(loop.kind, "refused");
      assert.equal(file.kind, "refused");
    });

    test("do not verify certificates", async () => {
      const outcome = await http("/status/200", { scheme: "https", port: task.tlsPort });

      assert.equal(outcome.kind === "http" && outcome.status, 200);
    });

    test("say why an https check of a plain port fails", async () => {
      const outcome = await http("/", { scheme: "https" });

      assert.equal(outcome.kind, "refused");
      assert.match(outcome.kind === "refused" ? outcome.why : "", /no TLS/);
    });

    test("read the answer to its end", async () => {
      assert.equal((await http("/chunked")).kind, "http");
      assert.deepEqual(await http("/interim"), { kind: "http", status: 204, url: `http://127.0.0.1:${task.port}/interim` });
      assert.match(whyOf(await http("/short")), /in the middle of the answer/);
      assert.deepEqual(await http("/endless", {}, { timeout_seconds: 0.3 }), { kind: "timeout", afterMs: 300 });
    });

    test("end in bounded time at a server that misbehaves", async () => {
      assert.deepEqual(await http("/mute", {}, { timeout_seconds: 0.3 }), { kind: "timeout", afterMs: 300 });
      assert.match(whyOf(await http("/close")), /without an answer/);
      assert.match(whyOf(await http("/not-http")), /not HTTP/);
      assert.match(whyOf(await http("/headers")), /head is larger/);
    });

    test("name the port where nobody listens", async () => {
      const outcome = await check(task.pid, { type: "HTTP", http: { port: 1 } });

      assert.match(whyOf(outcome), /no connection to 127\.0\.0\.1:1: (Connection refused|ECONNREFUSED)/);
      assert.equal((await check(task.pid, { type: "TCP", tcp: { port: 1 } })).kind, "refused");
      assert.match(whyOf(await check(task.pid, { type: "HTTP", http: { port: 1, scheme: "https" } })), /no connection to|no TLS/);
    });

    test("a TCP check only connects", async () => {
      assert.deepEqual(await check(task.pid, { type: "TCP", tcp: { port: task.port } }), { kind: "tcp", connected: true });
    });

    test("IPv4 does not reach what listens on ::1 only, IPv6 does", async () => {
      await using six = await startTask({ namespace, host: "::1" });

      assert.equal((await check(six.pid, { type: "TCP", tcp: { port: six.port } })).kind, "refused");
      assert.equal((await check(six.pid, { type: "TCP", tcp: { port: six.port, protocol: "IPv6" } })).kind, "tcp");
      const fields = { type: "HTTP", http: { port: six.port, protocol: "IPv6", path: "/status/200" } };
      assert.deepEqual(await check(six.pid, fields), { kind: "http", status: 200, url: `http://[::1]:${six.port}/status/200` });
    });

    test("leave neither a process nor a descriptor behind, whatever came of them", async () => {
      const paths = ["/ok", "/mute", "/close", "/headers", "/loop", "/endless"];
      const run = () => Promise.all(paths.map((path) => http(path, {}, { timeout_seconds: 0.5 })));
      await run();
      const descriptors = readdirSync("/proc/self/fd").length;

      for (let round = 0; round < 5; round++) await run();

      await waitFor(() => children().length === 0, { what: "the checks' processes to be gone" });
      assert.ok(readdirSync("/proc/self/fd").length <= descriptors + 5, "descriptors are given back");
    });
  });
}

test("a namespace that is not entered is the host's own: its services are not mistaken for the task's", { skip }, async () => {
  await using other = await startTask({ namespace: true });
  await using here = await startTask({ namespace: false });

  const outcome = await check(other.pid, { type: "TCP", tcp: { port: here.port } });

  if (here.port !== other.port) assert.equal(outcome.kind, "refused");
});

test("a task that is gone is no failed check", async () => {
  const gone = 2 ** 22 + 1;
  await assert.rejects(check(gone, { type: "TCP", tcp: { port: 80 } }), { code: "ENOENT" });
});

test("an aborted check ends at once, with its processes", { skip }, async () => {
  await using task = await startTask({ namespace: true });
  const abort = new AbortController();
  const fields = { type: "HTTP", timeout_seconds: 0, http: { port: task.port, path: "/mute" } };

  const outcome = check(task.pid, fields, { signal: abort.signal });
  await waitFor(() => task.requests.includes("GET /mute HTTP/1.1"));
  abort.abort(new Error("the task ended"));

  await assert.rejects(outcome, { message: "the task ended" });
  await waitFor(() => !children().some((line) => line.includes("/dev/tcp")), { what: "the check's processes to be gone" });
});

function whyOf(outcome: Awaited<ReturnType<typeof check>>): string {
  return outcome.kind === "refused" ? outcome.why : `not refused: ${JSON.stringify(outcome)}`;
}

/** Command lines of checks that we are the parent of. */
function children(): string[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((pid) => {
      try {
        const cmdline = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        const parent = / (\d+) /.exec(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) ./, ""))?.[1];
        return parent === String(process.pid) && cmdline.includes("/dev/tcp") ? [cmdline] : [];
      } catch {
        return [];
      }
    });
}
