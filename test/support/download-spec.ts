import type { DownloadSpec } from "../../task-manager/protocol.ts";

/** Complete and patient; a test names what it is about. */
export function downloadSpec(changes: Partial<DownloadSpec> = {}): DownloadSpec {
  return {
    concurrency: 4,
    timeoutMs: 20_000,
    idleTimeoutMs: 10_000,
    maxBytes: 10_000_000,
    redirectsMax: 5,
    headers: {},
    proxy: { http: "", https: "", noProxy: "" },
    certificateAuthorities: [],
    s3: { requesterPays: false, forcePathStyle: null },
    ...changes,
  };
}
