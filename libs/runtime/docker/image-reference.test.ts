import assert from "node:assert/strict";
import { test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import fc from "fast-check";
import { canonicalName, familiarRepository, parseImageReference, pullArguments, sameImage, serviceVersion } from "./image-reference.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;

const NAMES: ReadonlyArray<{ written: string; canonical: string; familiar: string; tag: string; version: string | undefined }> = [
  { written: "web", canonical: "docker.io/library/web:latest", familiar: "web", tag: "latest", version: undefined },
  { written: "web:latest", canonical: "docker.io/library/web:latest", familiar: "web", tag: "latest", version: "latest" },
  { written: "team/web:1.2.3", canonical: "docker.io/team/web:1.2.3", familiar: "team/web", tag: "1.2.3", version: "1.2.3" },
  { written: "docker.io/library/web:1", canonical: "docker.io/library/web:1", familiar: "web", tag: "1", version: "1" },
  { written: "index.docker.io/team/web", canonical: "docker.io/team/web:latest", familiar: "team/web", tag: "latest", version: undefined },
  { written: "docker.io/library/a/b:1", canonical: "docker.io/library/a/b:1", familiar: "library/a/b", tag: "1", version: "1" },
  { written: "localhost/web", canonical: "localhost/web:latest", familiar: "localhost/web", tag: "latest", version: undefined },
  { written: "reg:5000/team/bb:1.2.3", canonical: "reg:5000/team/bb:1.2.3", familiar: "reg:5000/team/bb", tag: "1.2.3", version: "1.2.3" },
  { written: "reg:5000/bb", canonical: "reg:5000/bb:latest", familiar: "reg:5000/bb", tag: "latest", version: undefined },
  { written: "[::1]:5000/bb:2", canonical: "[::1]:5000/bb:2", familiar: "[::1]:5000/bb", tag: "2", version: "2" },
  { written: `web@${DIGEST}`, canonical: `docker.io/library/web@${DIGEST}`, familiar: "web", tag: DIGEST, version: "ab".repeat(32) },
  { written: `reg:5000/web:7@${DIGEST}`, canonical: `reg:5000/web:7@${DIGEST}`, familiar: "reg:5000/web", tag: DIGEST, version: "7" },
];

test("image names are normalised as Docker does", () => {
  for (const { written, canonical, familiar, tag, version } of NAMES) {
    const image = parseImageReference(written);

    assert.equal(canonicalName(image), canonical);
    assert.equal(familiarRepository(image), familiar);
    assert.deepEqual(pullArguments(image), { fromImage: familiar, tag });
    assert.equal(serviceVersion(image), version, written);
  }
});

test("a bad image name is a TASK_ERROR that says which part is wrong", () => {
  const bad = [
    "",
    "Web",
    "web:",
    "web:a b",
    "web@sha256:12",
    "web@latest",
    "-web",
    "team//web",
    "reg_x.y/web",
    "/web",
    "web/",
    "a@b@c",
    "http://reg/web",
    "web:ü",
  ];
  for (const written of bad) {
    assert.throws(
      () => parseImageReference(written),
      (error) => TaskFailure.is(error) && error.state === "TASK_ERROR" && error.message.includes("image"),
      written,
    );
  }
});

test("sameImage compares what is meant, not what is written", () => {
  assert.ok(sameImage("web", "docker.io/library/web:latest"));
  assert.ok(sameImage(`web:1@${DIGEST}`, `web@${DIGEST}`));
  assert.ok(!sameImage("web", "web:1"));
  assert.ok(!sameImage("web", "team/web"));
  assert.ok(!sameImage(`web@${DIGEST}`, "web:latest"));
  assert.ok(!sameImage("<none>:<none>", "<none>:<none>"));
});

test("any text is an image name or a TaskFailure, and a canonical name parses to itself", () => {
  const word = fc.stringMatching(/^[a-z0-9]+([._-][a-z0-9]+)?$/);
  const plausible = fc
    .tuple(
      fc.option(fc.constantFrom("reg:5000/", "Reg/", "docker.io/", "localhost/")),
      fc.array(word, { minLength: 1, maxLength: 3 }),
      fc.option(fc.stringMatching(/^\w[\w.-]{0,9}$/)),
      fc.boolean(),
    )
    .map(
      ([registry, path, tag, digest]) => `${registry ?? ""}${path.join("/")}${tag === null ? "" : `:${tag}`}${digest ? `@${DIGEST}` : ""}`,
    );
  fc.assert(
    fc.property(fc.oneof(plausible, fc.string({ unit: "binary" })), (written) => {
      try {
        const image = parseImageReference(written);

        const again = parseImageReference(canonicalName(image));
        assert.deepEqual({ ...again, written: "" }, { ...image, written: "" });
        assert.ok(sameImage(written, canonicalName(image)));
        assert.ok(
          sameImage(written, `${familiarRepository(image)}${canonicalName(image).slice(`${image.registry}/${image.repository}`.length)}`),
        );
      } catch (error) {
        if (!TaskFailure.is(error)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
});
