import type { HostNumber } from "../scheduler/types.ts";

/** Bits of a host's number: any number of hosts in no memory; two may share one, and then wait together. */
const hostBits = 24;

/** `host:port` of an http(s) input, null of anything else. Matches what a Task Manager reports as a busy host. */
export function hostOf(input: unknown): string | null {
  if (typeof input !== "string") return null;
  const start = input.startsWith("http://") ? 7 : input.startsWith("https://") ? 8 : -1;
  if (start < 0) return null;
  let end = start;
  while (end < input.length && !isEndOfHost(input.charCodeAt(end))) end += 1;
  const authority = input.slice(start, end);
  const host = authority.slice(authority.lastIndexOf("@") + 1).toLowerCase();
  return host.includes(":") ? host : `${host}:${start === 7 ? 80 : 443}`;
}

export function hostNumber(host: string | null): HostNumber {
  if (host === null) return 0;
  // FNV-1a; 0 means no host.
  let hash = 0x811c9dc5;
  for (let at = 0; at < host.length; at++) hash = Math.imul(hash ^ host.charCodeAt(at), 0x01000193);
  return ((hash >>> 0) % (2 ** hostBits - 1)) + 1;
}

function isEndOfHost(code: number): boolean {
  return code === 47 /* / */ || code === 63 /* ? */ || code === 35 /* # */;
}
