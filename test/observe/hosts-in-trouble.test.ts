import { expect, test } from "vitest";
import { createHostsInTrouble, hostLines } from "../../orchestrator/observe/hosts-in-trouble.ts";
import type { HostReport } from "../../task-manager/protocol.ts";

const report = (host: string, said: Partial<HostReport>): HostReport => ({ host, started: 10, ok: 10, busy: 0, timeouts: 0, waiting: 0, inFlight: 0, ...said });

test("hosts that refused or did not answer in time are told with how often, the worst first; others are not", () => {
  const hosts = createHostsInTrouble();
  hosts.report([report("fine:443", {}), report("slow:80", { timeouts: 2 })], 0);
  hosts.report([report("strict:443", { busy: 3, retryAfterMs: 1000 })], 0);
  hosts.paced("strict:443", 12.34);
  hosts.paced("fine:443", 5);
  expect(hosts.list()).toEqual([
    { host: "strict:443", refused: 3, timeouts: 0, heldBackMs: 1000, requestsPerSecond: 12.3 },
    { host: "slow:80", refused: 0, timeouts: 2, heldBackMs: 0, requestsPerSecond: null },
  ]);
});

test("a host that holds several Task Managers back together is left alone once", () => {
  const hosts = createHostsInTrouble();
  hosts.report([report("a", { busy: 1, retryAfterMs: 1000 })], 0);
  hosts.report([report("a", { busy: 1, retryAfterMs: 1000 })], 400);
  hosts.report([report("a", { busy: 1, retryAfterMs: 500 })], 5000);
  expect(hosts.list()).toMatchObject([{ refused: 3, heldBackMs: 1900 }]);
});

test("many hosts take no more memory than some, and the summary names ten", () => {
  const hosts = createHostsInTrouble();
  for (let n = 0; n < 5000; n++) hosts.report([report(`host-${n}`, { busy: 1 })], n);
  hosts.report([report("host-7", { busy: 5 }), report("host-4999", { busy: 50 })], 6000);
  expect(hosts.list()).toHaveLength(10);
  expect(hosts.list()[0]).toMatchObject({ host: "host-7", refused: 6 });
});

test("in words, with what to set", () => {
  expect(hostLines([])).toEqual([]);
  const text = hostLines([{ host: "images.example:443", refused: 1200, timeouts: 3, heldBackMs: 4000, requestsPerSecond: 12.3 }]).join("\n");
  expect(text).toContain("images.example:443: 1,200 × 429 or 503, 3 × no answer in time, left alone for 4.0 s, at the end asked about 12.3 times a second");
  expect(text).toContain("task.download.perHost");
});
