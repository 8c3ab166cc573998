import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { describe, test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import { tempDir } from "@berth/test-harness";
import { lookUpUser } from "./users.ts";

describe("a user", () => {
  test("is found by name and by number, with its groups", async () => {
    const { username, uid, gid } = userInfo();

    const [byName, byNumber] = await Promise.all([lookUpUser(username), lookUpUser(String(uid))]);

    assert.deepEqual([byName.uid, byName.gid], [uid, gid]);
    assert.ok(byName.groups.includes(gid));
    assert.deepEqual(byNumber, byName);
  });

  for (const name of ["nobody-of-that-name", "54321", "", "--help"]) {
    test(`that does not exist ("${name}") fails the task`, async () => {
      await assert.rejects(lookUpUser(name), (error) => TaskFailure.is(error) && /does not exist on this host/.test(error.message));
    });
  }

  test("that the name service does not tell of in time is worth another attempt", async (t) => {
    await using folder = await tempDir("users");
    const { PATH } = process.env;
    t.after(() => {
      process.env.PATH = PATH;
    });
    // A directory service that is away keeps getent waiting.
    writeFileSync(`${folder.path}/getent`, "#!/bin/sh\nexec sleep 60\n", { mode: 0o755 });
    process.env.PATH = `${folder.path}:${PATH}`;

    const asked = lookUpUser("nobody", 100);

    await assert.rejects(asked, (error) => !TaskFailure.is(error) && /did not answer within 0\.1 s/.test(String(error)));
  });
});
