import type { HostReport } from "../../task-manager/protocol.ts";
import { count, duration } from "./progress.ts";

/** Hosts that are remembered; of more, those that come later are not told of. */
const hostsMax = 1_000;
const hostsToldMax = 10;

/** A host that asked for fewer requests, or did not answer in time. */
export interface HostInTrouble {
  /** `host:port`, or `s3:bucket`. */
  readonly host: string;
  /** Answers 429 and 503. */
  readonly refused: number;
  readonly timeouts: number;
  /** Nothing was asked of it for so long, since it had asked for that or had refused. */
  readonly heldBackMs: number;
  /** About so many, at the end; null: as many as came. */
  readonly requestsPerSecond: number | null;
}

interface Trouble {
  refused: number;
  timeouts: number;
  heldBackMs: number;
  heldBackUntilMs: number;
}

export interface HostsInTrouble {
  report(reports: readonly HostReport[], nowMs: number): void;
  paced(host: string, requestsPerSecond: number | null): void;
  /** At most ten, the worst first. */
  list(): readonly HostInTrouble[];
}

export function createHostsInTrouble(): HostsInTrouble {
  const troubles = new Map<string, Trouble>();
  const paces = new Map<string, number>();
  return {
    report(reports, nowMs) {
      for (const { host, busy, timeouts, retryAfterMs = 0 } of reports) {
        if (busy + timeouts === 0) continue;
        const trouble = troubles.get(host) ?? { refused: 0, timeouts: 0, heldBackMs: 0, heldBackUntilMs: 0 };
        if (!troubles.has(host) && troubles.size >= hostsMax) continue;
        troubles.set(host, trouble);
        trouble.refused += busy;
        trouble.timeouts += timeouts;
        // Several Task Managers are held back together.
        const untilMs = Math.max(trouble.heldBackUntilMs, nowMs + retryAfterMs);
        trouble.heldBackMs += untilMs - Math.max(trouble.heldBackUntilMs, Math.min(nowMs, untilMs));
        trouble.heldBackUntilMs = untilMs;
      }
    },
    paced(host, requestsPerSecond) {
      if (requestsPerSecond === null) paces.delete(host);
      else if (paces.size < hostsMax || paces.has(host)) paces.set(host, requestsPerSecond);
    },
    list: () =>
      [...troubles]
        .map(([host, { refused, timeouts, heldBackMs }]) => ({ host, refused, timeouts, heldBackMs: Math.round(heldBackMs), requestsPerSecond: rounded(paces.get(host) ?? null) }))
        .sort((a, b) => b.refused + b.timeouts - (a.refused + a.timeouts))
        .slice(0, hostsToldMax),
  };
}

export function hostLines(hosts: readonly HostInTrouble[]): readonly string[] {
  if (hosts.length === 0) return [];
  return [
    "",
    "Hosts that asked for fewer requests, or did not answer in time",
    ...hosts.map(({ host, refused, timeouts, heldBackMs, requestsPerSecond }) => {
      const told = [
        ...(refused === 0 ? [] : [`${count(refused)} × 429 or 503`]),
        ...(timeouts === 0 ? [] : [`${count(timeouts)} × no answer in time`]),
        ...(heldBackMs === 0 ? [] : [`left alone for ${duration(heldBackMs)}`]),
        ...(requestsPerSecond === null ? [] : [`at the end asked about ${requestsPerSecond} times a second`]),
      ];
      return `  ${host}: ${told.join(", ")}`;
    }),
    "  What they bear is found by itself; where you know it: task.download.perHost { concurrency, requestsPerSecond }.",
  ];
}

function rounded(perSecond: number | null): number | null {
  return perSecond === null ? null : Math.round(perSecond * 10) / 10;
}
