/** For tests and benches: states in Sidecar's exact format. `statuses`: host → service id → status number. */
export function stateOf(statuses: Record<string, Record<string, number>>, padding = 0): string {
  const time = "2026-11-21T07:08:52.709109015Z";
  const service = (id: string, host: string, status: number): object => ({
    ID: id,
    Name: `service-${id}`,
    Image: "registry.example:5000/team/service:1.2.3",
    Created: "2026-11-21T07:08:51Z",
    Hostname: host,
    Ports: [{ Type: "tcp", Port: 18_099, ServicePort: 9_999, IP: "10.0.0.1" }],
    Updated: time,
    ProxyMode: "http",
    Status: status,
  });
  const server = (host: string, services: Record<string, number>): object => ({
    Name: host,
    Services: Object.fromEntries(Object.entries(services).map(([id, status]) => [id, service(id, host, status)])),
    LastUpdated: time,
    LastChanged: time,
  });
  const servers = Object.fromEntries(Object.entries(statuses).map(([host, services]) => [host, server(host, services)]));
  const base = { LastChanged: time, ClusterName: "test", Hostname: "h1" };
  let text = JSON.stringify({ Servers: servers, ...base });
  for (let host = 0; text.length < padding; host++) {
    // Other hosts of the cluster, fifty services each, until the size is reached.
    const each = Math.max(1, Math.ceil((padding - text.length) / 16_000));
    for (let more = 0; more < each; more++) {
      const name = `other-${host}-${more}`;
      const ids = Array.from({ length: 50 }, (_, at) => [`${host}x${more}x${at}`.padEnd(12, "0"), 0] as const);
      servers[name] = server(name, Object.fromEntries(ids));
    }
    text = JSON.stringify({ Servers: servers, ...base });
  }
  return text;
}
