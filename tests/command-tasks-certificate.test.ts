/** Tasks whose certificate is checked, end to end, with certificates of openssl. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { TaskInfoInput } from "@berth/mesos/local-agent";
import { skipWithout } from "@berth/test-harness";
import { commandStage, commandTask, newMark, processesWith } from "./command-tasks-stage.ts";
import { state, statesOf, type TaskStage } from "./task-stage.ts";
import { startVaultFixture } from "./vault/vault-fixture.ts";

let stage: TaskStage;
before(async () => {
  // The smallest range: the end of use is the certificate's own, to a millisecond.
  stage = await commandStage({ ALLEGRO_EXECUTOR_RANDOM_EXPIRATION_RANGE: "1ms" });
});
after(async () => {
  await stage?.[Symbol.asyncDispose]();
});

/** A certificate that ends so many seconds from now. */
function certificate(seconds: number): string {
  const file = `${stage.folder.path}/${newMark()}`;
  const time = (at: number): string => new Date(at).toISOString().replace(/[-:T]|\.\d+/g, "");
  const now = Math.floor(Date.now() / 1000) * 1000;
  execFileSync(
    "openssl",
    [
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-subj",
      "/CN=task",
      "-keyout",
      `${file}.key`,
      "-out",
      `${file}.csr`,
    ],
    { stdio: "pipe" },
  );
  // `openssl ca` is the one that takes an end to the second in every version.
  execFileSync("sh", ["-c", `: > ${file}.index; echo 01 > ${file}.serial`]);
  const config = `[ca]\ndefault_ca=x\n[x]\ndatabase=${file}.index\nserial=${file}.serial\nnew_certs_dir=${stage.folder.path}\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n`;
  execFileSync("sh", ["-c", `cat > ${file}.cnf`], { input: config });
  const dates = ["-startdate", time(now - 86_400_000), "-enddate", time(now + seconds * 1000)];
  execFileSync(
    "openssl",
    [
      "ca",
      "-batch",
      "-config",
      `${file}.cnf`,
      "-selfsign",
      "-keyfile",
      `${file}.key`,
      "-in",
      `${file}.csr`,
      "-out",
      `${file}.pem`,
      "-notext",
      ...dates,
    ],
    { stdio: "pipe" },
  );
  return readFileSync(`${file}.pem`, "utf8");
}

function checkedTask(pem: string | undefined, command: string): TaskInfoInput {
  const variables = pem === undefined ? [] : [{ name: "CERTIFICATE", value: pem }];
  const labels = { labels: [{ key: "validate-certificate", value: "true" }] };
  return commandTask({ value: command, environment: { variables } }, { labels });
}

describe("a certificate", () => {
  const refused: Array<[what: string, pem: () => string | undefined, message: RegExp]> = [
    ["missing", () => undefined, /asks for a certificate in the variable CERTIFICATE, which is missing/],
    ["broken", () => "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", /cannot be read/],
    ["expired", () => certificate(-10), /its certificate expired at \d{4}-/],
  ];
  for (const [what, pem, message] of refused) {
    test(`that is ${what} fails the launch, and nothing was started`, async () => {
      const task = checkedTask(pem(), "touch started");
      const executor = stage.launch(task);

      const failed = await state(executor, task, "TASK_FAILED");

      assert.match(failed.message ?? "", message);
      assert.equal(statesOf(executor, task).includes("TASK_RUNNING"), false);
      assert.throws(() => readFileSync(`${executor.sandbox}/started`), /ENOENT/);
      await executor.exited;
    });
  }

  test("that expires while the task runs ends it gracefully: KILLED, and why", async () => {
    const mark = newMark();
    const task = checkedTask(certificate(4), `trap 'echo bye > said; exit 0' TERM; sleep ${mark} & wait`);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");

    const killed = await state(executor, task, "TASK_KILLED");

    assert.match(killed.message ?? "", /^its certificate expires at \d{4}-.*; process exited with 0/);
    assert.equal(readFileSync(`${executor.sandbox}/said`, "utf8"), "bye\n");
    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });

  test("is watched on by a supervisor that was restarted", async () => {
    await using own = await commandStage({ EXECUTOR_RANDOM_EXPIRATION_RANGE: "1ms" });
    const mark = newMark();
    const task = checkedTask(certificate(6), `exec sleep ${mark}`);
    const executor = own.launch(task);
    await state(executor, task, "TASK_RUNNING");

    await own.supervisor.kill();
    await own.startSupervisor();

    assert.match((await state(executor, task, "TASK_KILLED")).message ?? "", /^its certificate expires at /);
    await executor.exited;
  });

  test("in Vault is read before it is checked", { skip: skipWithout("vaultdev") }, async () => {
    await using vault = await startVaultFixture();
    await using own = await commandStage({ ...vault.environment(), EXECUTOR_RANDOM_EXPIRATION_RANGE: "1ms" });
    const store = (name: string, pem: string) =>
      vault.server.call("POST", `secret/data/app/${name}`, { data: { pem, value: "no certificate" } });
    await store("expired", certificate(-10));
    const expired = checkedTask("vault://secret/app/expired?key=pem", "true");
    assert.match((await state(own.launch(expired), expired, "TASK_FAILED")).message ?? "", /its certificate expired at/);
    const other = checkedTask("vault://secret/app/expired", "true");
    assert.match((await state(own.launch(other), other, "TASK_FAILED")).message ?? "", /cannot be read/);

    await store("valid", certificate(6));
    const mark = newMark();
    const task = checkedTask("vault://secret/app/valid?key=pem", `printenv CERTIFICATE > seen; exec sleep ${mark}`);
    const executor = own.launch(task);
    await state(executor, task, "TASK_RUNNING");

    assert.match((await state(executor, task, "TASK_KILLED")).message ?? "", /^its certificate expires at /);
    assert.match(readFileSync(`${executor.sandbox}/seen`, "utf8"), /^-----BEGIN CERTIFICATE-----\n/);
    await executor.exited;
  });
});
