/**
 * The reference of the session benchmark: the plainest executor there can be. For each MESSAGE with a number it sends that many
 * updates over node:http with keep-alive, one after the other, each awaited to its 202 and its acknowledgement, and answers with
 * the updates per second.
 */
import { Agent, request } from "node:http";
import { RecordDecoder } from "@berth/recordio";

interface Heard {
  type: string;
  acknowledged?: { uuid: string };
  message?: { data: string };
}

const { MESOS_AGENT_ENDPOINT = "", MESOS_EXECUTOR_ID = "", MESOS_FRAMEWORK_ID = "" } = process.env;
const [host, port] = MESOS_AGENT_ENDPOINT.split(":");
const ids = { executor_id: { value: MESOS_EXECUTOR_ID }, framework_id: { value: MESOS_FRAMEWORK_ID } };
const keptAlive = new Agent({ keepAlive: true, maxSockets: 1 });
let acknowledged: (uuid: string) => void = () => {};

const decoder = new RecordDecoder((record) => {
  const event = JSON.parse(Buffer.from(record).toString()) as Heard;
  if (event.acknowledged !== undefined) acknowledged(event.acknowledged.uuid);
  else if (event.message !== undefined) void answer(Number(Buffer.from(event.message.data, "base64").toString()));
});
const subscribe = {
  host,
  port,
  path: "/api/v1/executor",
  method: "POST",
  agent: false as const,
  headers: { "Content-Type": "application/json" },
};
request(subscribe, (response) => response.on("data", (bytes: Buffer) => decoder.push(bytes)).on("error", () => process.exit(1)))
  .on("error", () => process.exit(1))
  .end(JSON.stringify({ type: "SUBSCRIBE", ...ids, subscribe: {} }));

async function answer(count: number): Promise<void> {
  const begin = performance.now();
  for (let index = 0; index < count; index++) await update(index);
  const rate = count / ((performance.now() - begin) / 1000);
  await post({ type: "MESSAGE", ...ids, message: { data: Buffer.from(String(rate)).toString("base64") } });
}

async function update(index: number): Promise<void> {
  const uuid = crypto.getRandomValues(Buffer.alloc(16));
  uuid[6] = ((uuid[6] as number) & 0x0f) | 0x40;
  uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80;
  const status = {
    task_id: { value: "b" },
    state: "TASK_RUNNING",
    source: "SOURCE_EXECUTOR",
    uuid: uuid.toString("base64"),
    executor_id: ids.executor_id,
    timestamp: Date.now() / 1000,
    message: `update ${index}`,
    healthy: index % 2 === 0,
  };
  const wait = new Promise<void>((resolve) => {
    acknowledged = (heard) => heard === status.uuid && resolve();
  });
  await post({ type: "UPDATE", ...ids, update: { status } });
  await wait;
}

function post(call: object): Promise<void> {
  const body = JSON.stringify(call);
  const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    request({ host, port, path: "/api/v1/executor", method: "POST", agent: keptAlive, headers }, (response) =>
      response.resume().on("end", resolve),
    )
      .on("error", reject)
      .end(body);
  });
}
