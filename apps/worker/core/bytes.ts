/** Small things that engines without Node do not bring: version 4 UUIDs, joined byte arrays. */

/** A version 4 UUID as Mesos wants it in `TaskStatus.uuid`: its 16 raw bytes. Versions above 5 are refused by the agent. */
export function uuidBytes(random: (count: number) => Uint8Array): Uint8Array {
  const bytes = random(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes;
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
