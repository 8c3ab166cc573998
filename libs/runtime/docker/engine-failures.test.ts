import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TaskFailure } from "@berth/mesos/task-failure";
import { DockerError } from "./engine-errors.ts";
import { completeReference, pullFailure, registryOf, runFailure } from "./engine-failures.ts";

function refusal(statusCode: number, detail: string): DockerError {
  return new DockerError(`dockerd answered: ${detail}`, {
    code: "BERTH_DOCKER_HTTP",
    operation: "start",
    statusCode,
    detail,
    recoverable: false,
  });
}

describe("what dockerd says when a container cannot be run", () => {
  const cases: Array<[detail: string, expected: RegExp]> = [
    [
      "driver failed programming external connectivity on endpoint x (1f): Bind for 0.0.0.0:8080 failed: port is already allocated",
      /port is already taken/,
    ],
    [
      "driver failed programming external connectivity on endpoint x: Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use",
      /port is already taken/,
    ],
    ["failed to bind host port 0.0.0.0:8080/tcp: address already in use", /port is already taken/],
    [
      'OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "x": executable file not found in $PATH: unknown',
      /command does not exist/,
    ],
    [
      'failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/x": stat /x: no such file or directory: unknown',
      /command does not exist/,
    ],
    [
      "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec /x: exec format error: unknown",
      /no program for this machine/,
    ],
    ['OCI runtime create failed: starting container process caused: exec: "/x": permission denied: unknown', /cannot be executed/],
    ["unable to find user app: no matching entries in passwd file", /user or group/],
    ['invalid mount config for type "bind": bind source path does not exist: /data', /volume cannot be mounted/],
    ["error while creating mount source path '/ro/x': mkdir /ro: read-only file system", /volume cannot be mounted/],
    ["network web not found", /network does not exist/],
    ["create vol: Error looking up volume plugin rexray: legacy plugin: plugin not found", /volume driver/],
    ["Minimum memory limit allowed is 6MB", /not one that Docker takes/],
    ["write /var/lib/docker/x: no space left on device", /disk is full/],
    ["context deadline exceeded: unknown", /Docker's own machinery failed/],
  ];
  for (const [detail, expected] of cases) {
    test(detail.slice(0, 60), () => {
      const error = runFailure(refusal(500, detail), "started", "web:1");

      assert.ok(TaskFailure.is(error));
      assert.match(error.message, expected);
      assert.match(error.message, /^the container of image web:1 cannot be started: /);
      assert.ok(error.message.includes(detail), "dockerd's own words are kept");
    });
  }

  test("what nobody has met before is passed on as it is", () => {
    const error = runFailure(refusal(500, "the flux is out of phase"), "created");

    assert.equal(error.message, "the container cannot be created: dockerd said: the flux is out of phase");
  });

  test("dockerd's own silence is no verdict on the task", () => {
    const late = new DockerError("late", { code: "BERTH_DOCKER_TIMEOUT", operation: "start", recoverable: true });

    assert.equal(runFailure(late, "started"), late);
  });
});

describe("what dockerd says when an image cannot be pulled", () => {
  const cases: Array<[detail: string, status: number | undefined, expected: RegExp, recoverable: boolean]> = [
    ['Head "http://r/v2/x/manifests/1": no basic auth credentials', 500, /wants credentials/, false],
    ["unauthorized: authentication required", 500, /wants credentials/, false],
    [
      "pull access denied for x, repository does not exist or may require 'docker login'",
      404,
      /wants credentials or has no such repository/,
      false,
    ],
    ["manifest for r/x:9 not found: manifest unknown: manifest unknown", 404, /no such repository, tag or digest/, false],
    ["no matching manifest for linux/arm64/v8 in the manifest list entries", 404, /platform/, false],
    ["toomanyrequests: You have reached your pull rate limit.", 500, /limits how often/, true],
    ['Get "https://r/v2/": http: server gave HTTP response to HTTPS client', 500, /insecure-registries/, false],
    ['Get "https://r/v2/": x509: certificate signed by unknown authority', 500, /certs\.d/, false],
    ['Get "https://r/v2/": dial tcp: lookup r on 10.0.0.2:53: no such host', 500, /cannot be resolved/, true],
    [
      'Get "https://r/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)',
      500,
      /cannot be reached/,
      true,
    ],
    ["write /var/lib/docker/tmp/x: no space left on device", undefined, /disk is full/, false],
    ["received unexpected HTTP status: 503 Service Unavailable", 500, /dockerd said/, true],
  ];
  for (const [detail, status, expected, recoverable] of cases) {
    test(detail.slice(0, 60), () => {
      const error = pullFailure({ reference: "r.example/x:9" }, detail, status);

      assert.match(error.message, expected);
      assert.match(error.message, /^image r\.example\/x:9 cannot be pulled from r\.example: /);
      assert.equal(error.recoverable, recoverable);
    });
  }
});

test("a reference's registry and its tag are told from each other", () => {
  assert.equal(registryOf("busybox"), "docker.io");
  assert.equal(registryOf("team/app:1"), "docker.io");
  assert.equal(registryOf("localhost/app"), "localhost");
  assert.equal(registryOf("r.example:5000/team/app"), "r.example:5000");
  assert.equal(completeReference("r.example:5000/app"), "r.example:5000/app:latest");
  assert.equal(completeReference("cafe"), "cafe:latest");
  assert.equal(completeReference("app:1"), "app:1");
  assert.equal(completeReference("app@sha256:00"), "app@sha256:00");
});
