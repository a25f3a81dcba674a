import type { Host, WorkItem } from "../tasks/types.ts";
import type { Downloader } from "./download.ts";
import { threadsNowMs } from "./clock.ts";
import { HostBusy, ItemFailure } from "./failure.ts";
import { workErrorOf } from "./work-error.ts";

/** Encoded images waiting here hold no further download back below this many bytes. */
const waitingBytesMax = 64 * 2 ** 20;
/** A host that asked for fewer requests without saying for how long is left alone by this process for that long. */
const busyMs = 1000;

export interface FetchedItem {
  readonly item: WorkItem;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Downloaded then, by `threadsNowMs`. */
  readonly atMs: number;
}

export interface FetcherOptions {
  readonly host: Host;
  readonly downloader: Downloader;
  /** Downloads at once; also the most that are downloaded and not yet taken. */
  readonly concurrency: number;
  /** After every download, however it ended. */
  onProgress(): void;
}

/** Downloads ahead of what comes after it, a bounded number of items. None of them is begun. */
export interface Fetcher {
  readonly downloading: number;
  readonly waiting: number;
  /** Starts as many downloads as there is room for. */
  pump(): void;
  /** At most `count` downloaded items, oldest first. */
  take(count: number): FetchedItem[];
  /** Forgets the selected items and returns them; a download under way ends unheard. */
  forget(select: (item: WorkItem) => boolean): WorkItem[];
  close(): Promise<void>;
}

export function createFetcher({ host, downloader, concurrency, onProgress }: FetcherOptions): Fetcher {
  const downloading = new Set<WorkItem>();
  const busyUntilMs = new Map<string, number>();
  let fetched: FetchedItem[] = [];
  let fetchedBytes = 0;
  let running = 0;
  let closed = false;

  function hasRoom(): boolean {
    return !closed && running + fetched.length < concurrency && fetchedBytes < waitingBytesMax;
  }

  function pump(): void {
    while (hasRoom()) {
      const item = host.take();
      if (item === undefined) return;
      const busy = busyHostOf(item);
      if (busy !== undefined) host.returned(item, "HOST_BUSY", busy);
      else void fetchItem(item);
    }
  }

  async function fetchItem(item: WorkItem): Promise<void> {
    downloading.add(item);
    running += 1;
    const startMs = threadsNowMs();
    let bytes: Uint8Array<ArrayBuffer> | undefined;
    let failure: unknown;
    try {
      ({ bytes } = await downloader.download(item.input));
    } catch (error) {
      failure = error;
    }
    running -= 1;
    const wanted = downloading.delete(item);
    if (closed) return;
    const atMs = threadsNowMs();
    if (wanted) {
      host.stage("download", 1, atMs - startMs, 0);
      if (bytes === undefined) report(item, failure, atMs);
      else keep({ item, bytes, atMs });
    }
    onProgress();
  }

  function keep(item: FetchedItem): void {
    fetched.push(item);
    fetchedBytes += item.bytes.byteLength;
  }

  function report(item: WorkItem, failure: unknown, nowMs: number): void {
    if (failure instanceof HostBusy) {
      busyUntilMs.set(failure.host, nowMs + (failure.retryAfterMs ?? busyMs));
      host.returned(item, "HOST_BUSY", { name: failure.host, retryAfterMs: failure.retryAfterMs });
    } else if (failure instanceof ItemFailure) {
      host.error(item, workErrorOf(failure));
    } else {
      host.error(item, { code: "INPUT_UNREADABLE", stage: "download", message: String(failure), retryable: true });
    }
  }

  /** What was handed out before the orchestrator knew goes back without asking the host again. */
  function busyHostOf(item: WorkItem): { name: string; retryAfterMs: number } | undefined {
    if (busyUntilMs.size === 0) return undefined;
    const name = hostOf(item);
    const untilMs = busyUntilMs.get(name);
    if (untilMs === undefined) return undefined;
    const retryAfterMs = untilMs - threadsNowMs();
    if (retryAfterMs > 0) return { name, retryAfterMs };
    busyUntilMs.delete(name);
    return undefined;
  }

  return {
    get downloading() {
      return running;
    },
    get waiting() {
      return fetched.length;
    },
    pump,
    take(count) {
      const taken = fetched.splice(0, count);
      for (const { bytes } of taken) fetchedBytes -= bytes.byteLength;
      return taken;
    },
    forget(select) {
      const forgotten = [...downloading].filter(select);
      for (const item of forgotten) downloading.delete(item);
      const dropped = fetched.filter(({ item }) => select(item));
      fetched = fetched.filter(({ item }) => !select(item));
      for (const { bytes } of dropped) fetchedBytes -= bytes.byteLength;
      return [...forgotten, ...dropped.map(({ item }) => item)];
    },
    async close() {
      closed = true;
      await downloader.close();
    },
  };
}

/** `host:port`, as HostBusy names it; empty for what is not fetched over HTTP. */
function hostOf({ input }: WorkItem): string {
  if (typeof input !== "string" || !URL.canParse(input)) return "";
  const { protocol, hostname, port } = new URL(input);
  return `${hostname}:${port === "" ? (protocol === "https:" ? 443 : 80) : port}`;
}
