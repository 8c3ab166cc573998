import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import { parseImageReference } from "@berth/runtime/docker/image-reference";
import type { HostConfig } from "@berth/runtime/docker/plan";
import { tempDir } from "@berth/test-harness";
import fc from "fast-check";
import type { PolicyFiles } from "./binds.ts";
import { enforcePolicy, judgePlan } from "./judge.ts";
import { Policy } from "./policy.ts";

function judge(host: HostConfig, policy: object, more: { image?: string; user?: string; files?: PolicyFiles } = {}): string[] {
  const body = { Image: "x", Labels: {}, HostConfig: host, ...(more.user === undefined ? {} : { User: more.user }) };
  return judgePlan(body, parseImageReference(more.image ?? "nginx"), Policy.parse(policy), more.files).map(
    ({ rule, why, warning }) => `${rule}${warning ? "?" : ""}: ${why}`,
  );
}

const CASES: Array<[name: string, host: HostConfig, policy: object, rules: string[]]> = [
  [
    "nothing is refused by default, but a privileged container is warned of",
    { Privileged: true, NetworkMode: "host" },
    {},
    ["privileged?"],
  ],
  ["privileged, refused", { Privileged: true }, { privileged: "refuse" }, ["privileged"]],
  ["privileged, allowed", { Privileged: true }, { privileged: "allow" }, []],
  ["the host's network", { NetworkMode: "host" }, { hostNetwork: "refuse" }, ["hostNetwork"]],
  ["another container's network", { NetworkMode: "container:db" }, { hostNetwork: "refuse" }, ["hostNetwork"]],
  ["a listed network", { NetworkMode: "web" }, { networks: ["web"], hostNetwork: "refuse" }, []],
  ["a network that is not listed", { NetworkMode: "db" }, { networks: ["web"] }, ["networks"]],
  ["the default network is bridge", { NetworkMode: "default" }, { networks: ["bridge"] }, []],
  ["the host's pid namespace", { PidMode: "host", IpcMode: "private" }, { hostNamespaces: "refuse" }, ["hostNamespaces"]],
  ["another container's ipc namespace", { IpcMode: "container:x" }, { hostNamespaces: "refuse" }, ["hostNamespaces"]],
  [
    "capabilities in both spellings",
    { CapAdd: ["CAP_NET_ADMIN", "sys_time", "ALL"] },
    { capabilities: ["net_admin", "CAP_SYS_TIME"] },
    ["capabilities"],
  ],
  ["devices by pattern", { Devices: [device("/dev/fuse"), device("/dev/sda")] }, { devices: ["/dev/f*"] }, ["devices"]],
  [
    "GPUs are devices",
    { DeviceRequests: [{ Driver: "nvidia", Count: -1, DeviceIDs: null, Capabilities: null, Options: null }] },
    { devices: [] },
    ["devices"],
  ],
  [
    "security options in both spellings",
    { SecurityOpt: ["seccomp:unconfined", "label=x"] },
    { securityOptions: ["label=*"] },
    ["securityOptions"],
  ],
  ["limits", { Memory: 1 }, { requiredLimits: ["memory", "cpu", "pids"] }, ["requiredLimits", "requiredLimits"]],
];

for (const [name, host, policy, rules] of CASES) {
  test(name, () => {
    assert.deepEqual(
      judge(host, policy).map((line) => line.split(":")[0]),
      rules,
    );
  });
}

test("images by registry, repository, tag and digest", () => {
  const digest = `sha256:${"a".repeat(64)}`;
  const allowed = (image: string, ...images: string[]) => judge({}, { images }, { image }).length === 0;

  assert.ok(allowed("nginx", "docker.io/library/nginx"));
  assert.ok(allowed("nginx:1.2", "docker.io/library/nginx:1.2"));
  assert.ok(allowed("r.example:5000/team/app:7", "r.example:5000/team/*"));
  assert.ok(allowed(`nginx@${digest}`, `docker.io/library/nginx@${digest}`));
  assert.ok(!allowed("nginx:1.3", "docker.io/library/nginx:1.2"));
  assert.ok(!allowed("r.example:5000/team-b/app", "r.example:5000/team/*"));
  assert.ok(!allowed("evil.example/docker.io/library/nginx", "docker.io/library/nginx"));
  assert.deepEqual(judge({}, { imageDigest: true }, { image: `nginx@${digest}` }), []);
  assert.match(judge({}, { imageDigest: true }).join(), /imageDigest: the image nginx is not named by its digest/);
});

test("users", () => {
  assert.deepEqual(judge({}, { users: ["1000"] }, { user: "1000" }), []);
  assert.equal(judge({}, { users: ["1000"] }, { user: "0" }).length, 1);
  assert.match(judge({}, { users: ["1000"] }).join(), /image's own user/);
  assert.deepEqual(judge({}, { users: [""] }), []);
});

test("binds: below a prefix after links are followed, read-only where that is said", async () => {
  await using folder = await tempDir();
  const base = folder.path;
  mkdirSync(`${base}/data/ro`, { recursive: true });
  mkdirSync(`${base}/secret`);
  symlinkSync(`${base}/secret`, `${base}/data/link`);
  symlinkSync(`${base}/data`, `${base}/way-in`);
  const volumes = [{ prefix: `${base}/data` }, { prefix: `${base}/data/ro`, readOnly: true }];
  const allowed = (host: HostConfig) => judge(host, { volumes }, { files: { sandbox: `${base}/sandbox` } }).length === 0;

  assert.ok(allowed({ Binds: [`${base}/data:/x`, `${base}/data/new/dir:/y:ro`, "named:/z", `${base}/sandbox:/s`] }));
  assert.ok(allowed({ Binds: [`${base}/way-in/a:/x`] }), "a link that leads into a prefix");
  assert.ok(allowed({ Binds: [`${base}/data/ro/a:/x:ro,z`] }));
  assert.ok(!allowed({ Binds: [`${base}/data/ro/a:/x`] }));
  assert.ok(!allowed({ Binds: [`${base}/data/link:/x`] }));
  assert.ok(!allowed({ Binds: [`${base}/data/link/new:/x`] }));
  assert.ok(!allowed({ Binds: [`${base}/data/../secret:/x`] }));
  assert.ok(!allowed({ Binds: [`${base}/database:/x`] }));
  assert.ok(!allowed({ Mounts: [{ Type: "bind", Source: "/", Target: "/x", ReadOnly: true }] }));
  assert.ok(!allowed({ VolumesFrom: ["other"] }));
  const local = { DriverConfig: { Name: "local", Options: { type: "none", o: "bind", device: "/etc" } } };
  assert.ok(!allowed({ Mounts: [{ Type: "volume", Source: "v", Target: "/x", VolumeOptions: local }] }));
});

test("whatever the dots in a path: it is never below a prefix that it leaves", () => {
  const part = fc.constantFrom("..", ".", "a", "b", "data");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
      const source = `/data/${parts.join("/")}`;
      const realPath = (path: string) => path;
      const refused = judge({ Binds: [`${source}:/x`] }, { volumes: [{ prefix: "/data" }] }, { files: { realPath } }).length > 0;
      const resolved = new URL(`file://${source}`).pathname.replace(/\/$/, "");
      assert.equal(refused, !(resolved === "/data" || resolved.startsWith("/data/")), `${source} is ${resolved}`);
    }),
  );
});

test("a refusal names every rule; warnings are only told", () => {
  const policy = Policy.parse({ privileged: "warn", hostNetwork: "refuse", capabilities: [] });
  const body = { Image: "x", Labels: {}, HostConfig: { Privileged: true, NetworkMode: "host", CapAdd: ["SYS_ADMIN"] } };
  const refusals = judgePlan(body, parseImageReference("nginx"), policy);

  assert.throws(
    () => enforcePolicy(refusals),
    (error) => {
      assert.ok(TaskFailure.is(error));
      assert.equal(error.reason, "REASON_TASK_UNAUTHORIZED");
      assert.match(error.message, /policy\.hostNetwork\); .*SYS_ADMIN \(policy\.capabilities\)$/);
      return true;
    },
  );
  assert.match(enforcePolicy(refusals.filter(({ rule }) => rule === "privileged")).join(), /^policy\.privileged: /);
});

test("a misspelt rule is an error that names it", () => {
  assert.throws(() => Policy.parse({ privilegd: "refuse" }), /privilegd/);
});

function device(path: string) {
  return { PathOnHost: path, PathInContainer: path, CgroupPermissions: "rwm" };
}
