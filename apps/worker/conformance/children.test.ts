import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, it } from "node:test";
import { tempDir, waitFor } from "@berth/test-harness";
import type { ChildCgroup, Spawned, SpawnOptions } from "../core/host.ts";
import type { ChildReport } from "./probe.ts";
import { hostsUnderTest, type Probe, startProbe } from "./test-kit.ts";

const PATH = "/usr/bin:/bin";
const notRoot = process.getuid?.() === 0 ? false : "needs root";

const V2 = existsSync("/sys/fs/cgroup/cgroup.controllers") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
const HIERARCHIES: ReadonlyArray<{ name: string; version: 1 | 2; mount: string }> = [
  { name: "v2", version: 2, mount: V2 },
  { name: "v1's freezer", version: 1, mount: "/sys/fs/cgroup/freezer" },
  { name: "v1's memory", version: 1, mount: "/sys/fs/cgroup/memory" },
];

const { hosts } = await hostsUnderTest();
for (const host of hosts) {
  describe(`children on the ${host.name} host`, () => {
    it("have exactly the given arguments, environment and directory", async () => {
      await using probe = await startProbe(host, { environment: { WORKERS_OWN: "secret" } });
      writeFileSync(join(probe.folder, "here"), "");
      const script = 'printf "%s|" "$@"; ls; env -u PWD -u SHLVL -u _ | sort';

      const { stdout } = await finished(probe, {
        argv: ["/bin/sh", "-c", script, "sh", "a b", "", "ü'\"$"],
        environment: { PATH, MANY: "two\nlines", EMPTY: "" },
      });

      const [, rest = ""] = stdout.split("a b||ü'\"$|");
      assert.deepEqual(rest.trim().split("\n"), ["control", "here", "EMPTY=", "MANY=two", `PATH=${PATH}`, "lines"]);
    });

    it("lead a session and a process group of their own, and read /dev/null", async () => {
      await using probe = await startProbe(host);
      const { stdout, pid } = await finished(probe, sh("cat /proc/$$/stat; readlink /proc/$$/fd/0"));

      const [stat = "", stdin] = stdout.trim().split("\n");
      const [, ppid, group, session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      assert.deepEqual([Number(ppid), Number(group), Number(session), stdin], [probe.pid, pid, pid, "/dev/null"]);
    });

    it("block and ignore no signal, and have no descriptor but the three", async () => {
      const extra = openSync("/dev/null", "r");
      await using probe = await startProbe(host, { stdio: ["ignore", "pipe", "pipe", extra, extra] });
      closeSync(extra);
      // No shell in between: it blocks signals of its own accord while it forks.
      const signals = await finished(probe, { argv: ["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"] });
      const open = await finished(probe, sh("ls /proc/$$/fd"));

      assert.equal(signals.stdout, `SigBlk:\t${"0".repeat(16)}\nSigIgn:\t${"0".repeat(16)}\n`);
      // Node closes the low ones only; a high one may be what this test was itself started with.
      const descriptors = open.stdout.split(/\s+/).filter((fd) => fd !== "" && (host.name === "lean" || Number(fd) < 16));
      assert.deepEqual(descriptors, ["0", "1", "2"]);
    });

    it("can write to the worker's own output", async () => {
      await using probe = await startProbe(host);
      const { exits } = await finished(probe, { ...sh("echo to stdout; echo to stderr >&2"), output: "inherit" });

      await waitFor(() => probe.stdout() !== "" && probe.stderr() !== "");
      assert.deepEqual([probe.stdout(), probe.stderr(), exits], ["to stdout\n", "to stderr\n", [[0, null]]]);
    });

    // (Node has no number for real-time signals.)
    const ends: Array<readonly [string, string, readonly [number | null, number | null]]> = [
      ["exit code 0", "true", [0, null]],
      ["exit code 7", "exit 7", [7, null]],
      ["exit code 255", "exit 255", [255, null]],
      ["SIGKILL", "kill -9 $$", [null, 9]],
      ["SIGTERM", "kill -15 $$", [null, 15]],
      ...(host.name === "lean" ? [["a real-time signal", "kill -34 $$", [null, 34]] as const] : []),
    ];
    for (const [name, script, expected] of ends) {
      it(`${name} is told`, async () => {
        await using probe = await startProbe(host);

        assert.deepEqual((await finished(probe, sh(script))).exits, [expected]);
      });
    }

    it("all output comes before the exit, both streams apart", async () => {
      await using probe = await startProbe(host);
      const report = await finished(probe, sh("echo problem >&2; head -c 4000000 /dev/zero"));

      assert.deepEqual([report.bytes, report.stderr, report.outputAfterExit], [4_000_000, "problem\n", false]);
    });

    it("nothing is read while it is not to be, of one that starts meanwhile neither; of one that is over all is", async () => {
      await using probe = await startProbe(host);
      const script = (name: string): Wanted =>
        sh(`until [ -e ${name} ]; do sleep 0.01; done; echo told; touch ${name}-told; exec sleep 60`);
      const early = await start(probe, script("early"));
      await probe.call("readChildren", false);
      const late = await start(probe, script("late"));
      for (const name of ["early", "late"]) {
        writeFileSync(`${probe.folder}/${name}`, "");
        await waitFor(() => existsSync(`${probe.folder}/${name}-told`), { what: `the words of ${name}` });
      }

      const over = await finished(probe, sh("head -c 50000 /dev/zero"));
      assert.equal(over.bytes, 50_000);
      assert.deepEqual([(await probe.call("child", early)).stdout, (await probe.call("child", late)).stdout], ["", ""]);

      await probe.call("readChildren", true);
      for (const pid of [early, late]) {
        await probe.until("child", [pid], ({ stdout }: ChildReport) => stdout === "told\n");
        await probe.call("kill", -pid, 9);
      }
    });

    it("a child in the background that keeps the pipes open does not delay the exit", async () => {
      await using probe = await startProbe(host);
      const { pid, exits } = await finished(probe, sh("sleep 60 & exit 3"));

      assert.deepEqual(exits, [[3, null]]);
      assert.equal(await probe.call("kill", -pid, 9), true);
    });

    const refused: [string, Partial<SpawnOptions>, RegExp][] = [
      ["a program that does not exist", { argv: ["/no/such/program"] }, /ENOENT/],
      ["a program that is in no directory of PATH", { argv: ["no-such-program"] }, /ENOENT/],
      ["a directory that does not exist", { directory: "/no/such/directory" }, /ENOENT.*\/no\/such\/directory/],
      ["arguments over the kernel's limit", { argv: ["/bin/echo", "x".repeat(200_000)] }, /E2BIG/],
    ];
    for (const [name, options, expected] of refused) {
      it(`${name}: a reason, no child, and the worker goes on`, async () => {
        await using probe = await startProbe(host);
        const answer = await probe.call("spawn", { ...defaults(probe), ...sh("true"), ...options });

        assert.match(String(answer), expected);
        assert.equal(typeof answer, "string");
        assert.deepEqual((await finished(probe, sh("true"))).exits, [[0, null]]);
      });
    }

    it("200 at once: each exit once with its code, no zombie and no descriptor left", async () => {
      await using probe = await startProbe(host);
      await finished(probe, sh("true"));
      const before = readdirSync(`/proc/${probe.pid}/fd`).length;

      const pids = await Promise.all(Array.from({ length: 200 }, (_, code) => start(probe, sh(`echo out; exit ${code}`))));
      const reports = await Promise.all(pids.map((pid) => ended(probe, pid)));

      assert.deepEqual(
        reports.map(({ exits, stdout }) => [exits, stdout]),
        pids.map((_, code) => [[[code, null]], "out\n"]),
      );
      assert.equal(readFileSync(`/proc/${probe.pid}/task/${probe.pid}/children`, "utf8").trim(), "");
      await waitFor(() => readdirSync(`/proc/${probe.pid}/fd`).length <= before, { what: "the pipes to be closed" });
    });

    it("die with the worker", async () => {
      await using probe = await startProbe(host);
      const pid = await start(probe, { ...sh("exec sleep 60"), output: "inherit" });
      await waitFor(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("sleep"));

      probe.process.kill("SIGKILL");

      await waitFor(() => !existsSync(`/proc/${pid}`), { what: "the child to be killed" });
    });

    it("run as another user, and still die with the worker", { skip: notRoot }, async () => {
      await using probe = await startProbe(host);
      const user = { uid: 65534, gid: 65533, groups: [12345] };
      const { stdout } = await finished(probe, { ...sh("id -u; id -g; id -G"), user, directory: "/" });
      const pid = await start(probe, { ...sh("exec sleep 60"), user, directory: "/", output: "inherit" });
      await waitFor(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("sleep"));

      probe.process.kill("SIGKILL");

      assert.deepEqual(stdout.trim().split("\n"), ["65534", "65533", "65533 12345"]);
      await waitFor(() => !existsSync(`/proc/${pid}`), { what: "the child to be killed" });
    });

    it("have the limits that are given", async () => {
      await using probe = await startProbe(host);
      const rlimits = [
        { type: "RLMT_NOFILE", soft: 60, hard: 70 },
        { type: "RLMT_CORE", soft: 0, hard: 0 },
      ];
      const { stdout } = await finished(probe, { ...sh("ulimit -Sn; ulimit -Hn; ulimit -Hc"), rlimits });

      assert.deepEqual(stdout.trim().split("\n"), ["60", "70", "0"]);
    });

    for (const { name, version, mount } of HIERARCHIES) {
      const skip = existsSync(`${mount}/cgroup.procs`) ? notRoot : "it is not mounted here";
      it(`are born in their cgroup of ${name}, and the worker is not left there`, { skip }, async () => {
        await using probe = await startProbe(host);
        await using cgroup = makeCgroup(probe, version, mount);

        const report = await finished(probe, { ...sh("cat /proc/self/cgroup"), cgroups: [cgroup] });

        assert.equal(report.joined, true);
        assert.ok(isNamedIn(report.stdout, cgroup.directory), report.stdout);
        assert.deepEqual(threadsIn(probe, cgroup.directory), []);
      });

      it(`that cannot be started leave nobody in their cgroup of ${name}`, { skip }, async () => {
        await using probe = await startProbe(host);
        await using cgroup = makeCgroup(probe, version, mount);

        const answer = await probe.call("spawn", { ...defaults(probe), argv: ["/no/such/program"], cgroups: [cgroup] });

        assert.match(answer, /ENOENT/);
        assert.equal(readFileSync(`${cgroup.directory}/cgroup.procs`, "utf8"), "");
      });

      it(`that cannot go to one cgroup beside that of ${name} run all the same, and it is told`, { skip }, async () => {
        await using probe = await startProbe(host);
        await using cgroup = makeCgroup(probe, version, mount);
        const missing = { ...cgroup, directory: `${cgroup.directory}-missing` };

        const report = await finished(probe, { ...sh("cat /proc/self/cgroup"), cgroups: [missing, cgroup] });

        assert.deepEqual([report.joined, report.exits], [false, [[0, null]]]);
        // Of v2 there is one hierarchy, so one cgroup.
        if (version === 1) assert.ok(isNamedIn(report.stdout, cgroup.directory), report.stdout);
        assert.deepEqual(threadsIn(probe, cgroup.directory), []);
      });

      it(`a cgroup of ${name} from which there is no way back is not entered by the worker`, { skip }, async () => {
        await using probe = await startProbe(host);
        await using cgroup = makeCgroup(probe, version, mount);

        await finished(probe, { ...sh("true"), cgroups: [{ ...cgroup, home: "/no/such/cgroup" }] });

        assert.deepEqual(threadsIn(probe, cgroup.directory), []);
      });
    }

    it("are in their cgroup also where a filter refuses the fork that leads there", { skip: notRoot }, async (t) => {
      await using folder = await tempDir("cc");
      const filter = withoutClone3(folder.path);
      const v2 = HIERARCHIES.find(({ version, mount }) => version === 2 && existsSync(`${mount}/cgroup.procs`));
      if (filter === undefined || v2 === undefined) return t.skip("no C compiler, or no cgroup v2");
      await using probe = await startProbe({ ...host, command: [filter, ...host.command] });
      await using cgroup = makeCgroup(probe, 2, v2.mount);

      const report = await finished(probe, { ...sh("cat /proc/self/cgroup"), cgroups: [cgroup] });

      assert.equal(report.joined, true);
      assert.ok(isNamedIn(report.stdout, cgroup.directory), report.stdout);
    });

    it("kill tells whether there was anyone", async () => {
      await using probe = await startProbe(host);
      const pid = await start(probe, sh("exec sleep 60"));

      assert.equal(await probe.call("kill", -pid, 15), true);
      assert.deepEqual((await ended(probe, pid)).exits, [[null, 15]]);
      assert.equal(await probe.call("kill", -pid, 15), false);
    });
  });
}

type Wanted = Partial<SpawnOptions> & Pick<SpawnOptions, "argv">;

function sh(script: string): Wanted {
  return { argv: ["/bin/sh", "-c", script] };
}

function defaults(probe: Probe): Omit<SpawnOptions, "argv"> {
  return { environment: { PATH }, directory: probe.folder, output: "pipe" };
}

async function start(probe: Probe, options: Wanted): Promise<number> {
  return (await startWhole(probe, options)).pid;
}

async function startWhole(probe: Probe, options: Wanted): Promise<Spawned> {
  const spawned = await probe.call("spawn", { ...defaults(probe), ...options });
  assert.equal(typeof spawned.pid, "number", String(spawned));
  return spawned;
}

async function ended(probe: Probe, pid: number): Promise<ChildReport> {
  await waitFor(async () => (await probe.call("child", pid)).exits.length > 0, { what: `the exit of ${pid}` });
  return probe.call("child", pid);
}

async function finished(probe: Probe, options: Wanted): Promise<ChildReport & Spawned> {
  const spawned = await startWhole(probe, options);
  return { ...(await ended(probe, spawned.pid)), ...spawned };
}

/** A cgroup below the probe's own, for as long as the test runs. */
function makeCgroup(probe: Probe, version: 1 | 2, mount: string): ChildCgroup & AsyncDisposable {
  const lines = readFileSync(`/proc/${probe.pid}/cgroup`, "utf8").split("\n");
  const line = lines.find((each) => (version === 2 ? each.startsWith("0::") : each.includes(`:${basename(mount)}:`)));
  const home = `${mount}${line?.slice(line.lastIndexOf(":") + 1) ?? ""}`;
  const directory = `${home}/probe-${randomBytes(5).toString("hex")}`;
  mkdirSync(directory);
  return {
    version,
    directory,
    home,
    [Symbol.asyncDispose]: async () => {
      await waitFor(
        () => {
          rmdirSync(directory);
          return true;
        },
        { what: `the end of all in ${directory}` },
      );
    },
  };
}

function isNamedIn(text: string, directory: string): boolean {
  return text.split("\n").some((line) => line.endsWith(`/${basename(directory)}`));
}

/** The probe's threads that are in a cgroup. */
function threadsIn(probe: Probe, directory: string): string[] {
  const threads = readdirSync(`/proc/${probe.pid}/task`);
  return threads.filter((thread) => isNamedIn(readFileSync(`/proc/${probe.pid}/task/${thread}/cgroup`, "utf8"), directory));
}

/** A program that executes another one in which clone3(2) fails with ENOSYS, as in containers of older Docker engines; undefined without a compiler. */
function withoutClone3(folder: string): string | undefined {
  const compiler = ["/usr/bin/cc", "/usr/bin/gcc"].find((path) => existsSync(path));
  if (compiler === undefined) return undefined;
  const source = `#include <errno.h>\n#include <linux/filter.h>\n#include <linux/seccomp.h>\n#include <stddef.h>
    #include <sys/prctl.h>\n#include <sys/syscall.h>\n#include <unistd.h>
    int main(int argc, char **argv) {
      struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      };
      struct sock_fprog program = { sizeof code / sizeof *code, code };
      if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 1;
      execv(argv[1], argv + 1);
      return 2;
    }\n`;
  writeFileSync(join(folder, "filter.c"), source);
  execFileSync(compiler, ["-o", join(folder, "filter"), join(folder, "filter.c")]);
  return join(folder, "filter");
}
