import type { HostNumber } from "../scheduler/types.ts";

/** Bits of a host's number: any number of hosts in no memory; two may share one, and then wait together. */
const hostBits = 24;

export function hostNumber(host: string | null): HostNumber {
  if (host === null) return 0;
  // FNV-1a; 0 means no host.
  let hash = 0x811c9dc5;
  for (let at = 0; at < host.length; at++) hash = Math.imul(hash ^ host.charCodeAt(at), 0x01000193);
  return ((hash >>> 0) % (2 ** hostBits - 1)) + 1;
}
