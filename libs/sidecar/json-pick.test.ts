import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { stateOf } from "./generate.ts";
import { EACH, type PathStep, pick } from "./json-pick.ts";

const HOSTS: PathStep[] = [new Set(["Servers"]), new Set(["h1", "h2"])];

function picked(text: string, path: readonly PathStep[] = HOSTS): Array<[string, unknown]> {
  return pick(Buffer.from(text), path).picked.map(({ key, value }) => [key, value]);
}

describe("pick", () => {
  const cases: Array<[what: string, text: string, path: PathStep[], expected: Array<[string, unknown]>]> = [
    ["nothing where nothing is", '{"Servers":{}}', HOSTS, []],
    ["nothing where the path meets another kind of value", '{"Servers":[{"h1":1}]}', HOSTS, []],
    ["only the wanted keys", '{"a":[1,{"h1":0}],"Servers":{"h0":{"h1":1},"h1":{"x":[1]},"h3":null}}', HOSTS, [["h1", { x: [1] }]]],
    ["keys at their place only", '{"h1":1,"Servers":{"x":{"Servers":{"h1":2}}}}', HOSTS, []],
    ["what strings hold is no structure", '{"Servers":{"h0":"}]\\"{\\\\","h1":"\\"}"},"z":"\\\\"}', HOSTS, [["h1", '"}']]],
    ["white space is passed", ' { "Servers" :\n{ "h1" : -1.5e+3 , "h2":true }\t} \r\n', HOSTS, [["h1", -1500], ["h2", true]]], // biome-ignore format: a table
    ["each entry of a list", '{"slaves":[{"hostname":"a"},{"id":1},{"id":2,"hostname":"b"}]}', [new Set(["slaves"]), EACH, new Set(["hostname"])], [["hostname", "a"], ["hostname", "b"]]], // biome-ignore format: a table
    ["letters of every kind", '{"Servers":{"ü":1,"h1":"äöü€😀"}}', HOSTS, [["h1", "äöü€😀"]]],
  ];
  for (const [what, text, path, expected] of cases) {
    test(what, () => assert.deepEqual(picked(text, path), expected));
  }

  test("a document that is cut off anywhere is no document", () => {
    const text = stateOf({ h1: { s1: 2 }, h3: { s2: 0 } });
    for (let length = 0; length < text.length; length++) assert.throws(() => picked(text.slice(0, length)), SyntaxError, `at ${length}`);
  });

  for (const text of [
    "",
    "no state today",
    "<html>",
    '{"Servers":{}} {',
    '{"Servers":{"h1":{"x":oops}}}',
    '{"Servers" {}}',
    '{"a":1 "b":2}',
    "{1:2}",
  ]) {
    test(`no document: ${text}`, () => assert.throws(() => picked(text), SyntaxError));
  }

  test("tells how far the path led", () => {
    assert.equal(pick(Buffer.from('{"error":"away"}'), HOSTS).met, 0);
    assert.equal(pick(Buffer.from('{"Servers":{}}'), HOSTS).met, 1);
    assert.equal(pick(Buffer.from('{"Servers":{"h2":null}}'), HOSTS).met, 2);
  });

  test("a value that JSON.parse would choke on is refused", () => {
    assert.throws(() => picked(`{"Servers":{"h1":"${"x".repeat(17 * 1024 * 1024)}"}}`), /"h1" in the JSON is over/);
  });

  test("finds in a state of any size what JSON.parse finds", () => {
    const text = stateOf({ h1: { s1: 2, s2: 0 }, h2: { s3: 1 } }, 300_000);
    const { Servers } = JSON.parse(text) as { Servers: Record<string, unknown> };
    assert.deepEqual(picked(text), [
      ["h1", Servers.h1],
      ["h2", Servers.h2],
    ]);
  });
});
