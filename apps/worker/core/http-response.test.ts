import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ResponseParser } from "./http-response.ts";

interface Seen {
  status: number;
  body: string;
}

/** What a parser tells of these pieces; an answer that did not end has no entry. */
function parse(pieces: Iterable<Uint8Array>, close = false): { seen: Seen[]; orderly: boolean } {
  const seen: Seen[] = [];
  let current: Seen = { status: 0, body: "" };
  const parser = new ResponseParser({
    head: (status) => {
      current = { status, body: "" };
    },
    body: (bytes) => {
      current.body += Buffer.from(bytes).toString("latin1");
    },
    end: () => seen.push(current),
  });
  for (const piece of pieces) parser.push(piece);
  return { seen, orderly: close ? parser.closed() : false };
}

function* cut(bytes: Uint8Array, sizes: readonly number[]): Iterable<Uint8Array> {
  let at = 0;
  for (let index = 0; at < bytes.length; index++) {
    const size = sizes[index % sizes.length] as number;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

const bytesOf = (text: string): Uint8Array => Buffer.from(text, "latin1");
const latin1 = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).toString("latin1"));

/** An answer as bytes, in one of the forms that HTTP has for a body. */
const answer = fc
  .record({
    status: fc.constantFrom(200, 202, 400, 503),
    body: latin1,
    form: fc.constantFrom("sized", "chunked"),
    size: fc.integer({ min: 1, max: 50 }),
  })
  .map(({ status, body, form, size }) => {
    if (form === "sized") return { status, body, text: `HTTP/1.1 ${status} X\r\ncontent-length: ${body.length}\r\nA: b\r\n\r\n${body}` };
    let chunks = "";
    for (let at = 0; at < body.length; at += size) {
      const part = body.slice(at, at + size);
      chunks += `${part.length.toString(16)};x=y\r\n${part}\r\n`;
    }
    return { status, body, text: `HTTP/1.1 ${status}\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}0\r\nTrailer: t\r\n\r\n` };
  });

describe("answers on one connection", () => {
  test("are the same however the bytes are cut", () => {
    fc.assert(
      fc.property(fc.array(answer, { maxLength: 5 }), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (answers, sizes) => {
        const bytes = bytesOf(answers.map(({ text }) => text).join(""));
        const { seen, orderly } = parse(cut(bytes, sizes), true);
        assert.deepEqual(
          seen,
          answers.map(({ status, body }) => ({ status, body })),
        );
        assert.ok(orderly);
      }),
    );
  });

  test("are the same when the bytes are cut in two at any place", () => {
    const text =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nHTTP/1.1 202 A\r\nContent-Length: 0\r\n\r\n";
    for (let at = 0; at <= text.length; at++) {
      const { seen } = parse([bytesOf(text.slice(0, at)), bytesOf(text.slice(at))]);
      assert.deepEqual(seen, [
        { status: 200, body: "abc0123456789" },
        { status: 202, body: "" },
      ]);
    }
  });
});

test("a body without a length lasts until the connection closes", () => {
  const { seen, orderly } = parse([bytesOf("HTTP/1.1 503 Busy\r\n\r\nnot "), bytesOf("yet")], true);
  assert.deepEqual(seen, [{ status: 503, body: "not yet" }]);
  assert.ok(orderly);
});

test("a close in the middle of an answer is not orderly", () => {
  for (const text of [
    "HTTP/1.1 20",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
  ]) {
    assert.equal(parse([bytesOf(text)], true).orderly, false, text);
  }
});

for (const text of [
  "SSH-2.0-OpenSSH\r\n",
  "HTTP/2 200\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
  `HTTP/1.1 200 OK\r\nX: ${"x".repeat(70_000)}`,
]) {
  test(`is refused: ${JSON.stringify(text.slice(0, 80))}`, () => {
    assert.throws(() => parse([bytesOf(text)]));
  });
}

test("any bytes are answers or an error, never anything else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (junk) => {
      try {
        parse([bytesOf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), junk]);
      } catch (error) {
        assert.match((error as Error).message, /chunk|HTTP/);
      }
    }),
  );
});
