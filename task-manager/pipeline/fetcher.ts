import type { HostGrant } from "../protocol.ts";
import type { Host, WorkItem } from "../tasks/types.ts";
import type { Downloader } from "./download.ts";
import { threadsNowMs } from "./clock.ts";
import { HostBusy, ItemFailure } from "./failure.ts";
import { createHostLimiter, type DownloadEnd, type Turn } from "./host-limiter.ts";
import { workErrorOf } from "./work-error.ts";

/** Encoded images waiting here hold no further download back below this many bytes. */
const waitingBytesMax = 64 * 2 ** 20;

/** An item is told of before it is here when it has this many times the mean of those before it, and that many bytes. */
const largeFactor = 3;
const largeBytesMin = 256 * 1024;

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
  /** Taken, and waiting for their host. */
  readonly waitingForHost: number;
  grant(grant: HostGrant): void;
  /** Starts as many downloads as there is room for. */
  pump(): void;
  /** At this share of the usual number, but one at least. */
  narrow(share: number): void;
  /** Everything taken from the host, whatever it waits for. */
  items(): readonly WorkItem[];
  /** At most `count` downloaded items, oldest first. */
  take(count: number): FetchedItem[];
  /** Forgets the selected items and returns them; a download under way is ended. */
  forget(select: (item: WorkItem) => boolean): WorkItem[];
  close(): Promise<void>;
}

export function createFetcher({ host, downloader, concurrency, onProgress }: FetcherOptions): Fetcher {
  const downloading = new Map<WorkItem, AbortController>();
  let concurrencyNow = concurrency;
  let lengths = 0;
  let lengthBytes = 0;
  const limiter = createHostLimiter({
    take: () => host.take(),
    left: () => host.waiting,
    giveBack: (item, busy) => host.returned(item, "HOST_BUSY", busy ?? undefined),
    report: (reports) => host.hosts(reports),
    onFree: onProgress,
  });
  let fetched: FetchedItem[] = [];
  let fetchedBytes = 0;
  let running = 0;
  let closed = false;

  function hasRoom(): boolean {
    return !closed && running + fetched.length < concurrencyNow && fetchedBytes < waitingBytesMax;
  }

  function pump(): void {
    while (hasRoom()) {
      const turn = limiter.next();
      if (turn === undefined) return;
      void fetchItem(turn);
    }
  }

  async function fetchItem({ item, host: hostName }: Turn): Promise<void> {
    const aborter = new AbortController();
    downloading.set(item, aborter);
    running += 1;
    const startMs = threadsNowMs();
    let bytes: Uint8Array<ArrayBuffer> | undefined;
    let failure: unknown;
    try {
      ({ bytes } = await downloader.download(item.input, { signal: aborter.signal, onLength: (length) => noteLength(item, length) }));
    } catch (error) {
      failure = error;
    }
    running -= 1;
    if (hostName !== null) limiter.ended(hostName, failure === undefined ? downloaded : endOf(failure));
    const wanted = downloading.delete(item);
    if (closed) return;
    const atMs = threadsNowMs();
    if (wanted) {
      host.stage("download", 1, atMs - startMs, 0);
      if (bytes === undefined) report(item, hostName, failure);
      else keep({ item, bytes, atMs });
    }
    onProgress();
  }

  /** Whoever waits for the end of the job would like to know of the few that take much longer. */
  function noteLength(item: WorkItem, length: number): void {
    const isLarge = length >= largeBytesMin && length * lengths > largeFactor * lengthBytes;
    lengths += 1;
    lengthBytes += length;
    if (isLarge) host.sized(item, length, lengthBytes / lengths);
  }

  function keep(item: FetchedItem): void {
    fetched.push(item);
    fetchedBytes += item.bytes.byteLength;
  }

  function report(item: WorkItem, hostName: string | null, failure: unknown): void {
    if (failure instanceof HostBusy) {
      host.returned(item, "HOST_BUSY", { name: hostName ?? failure.host, retryAfterMs: failure.retryAfterMs });
    } else if (failure instanceof ItemFailure) {
      host.error(item, workErrorOf(failure));
    } else {
      host.error(item, { code: "INPUT_UNREADABLE", stage: "download", message: String(failure), retryable: true });
    }
  }

  return {
    get downloading() {
      return running;
    },
    get waiting() {
      return fetched.length;
    },
    get waitingForHost() {
      return limiter.waiting;
    },
    grant: (grant) => limiter.grant(grant),
    pump,
    narrow(share) {
      concurrencyNow = Math.max(1, Math.floor(concurrency * share));
    },
    items: () => [...limiter.waitingItems(), ...downloading.keys(), ...fetched.map(({ item }) => item)],
    take(count) {
      const taken = fetched.splice(0, count);
      for (const { bytes } of taken) fetchedBytes -= bytes.byteLength;
      return taken;
    },
    forget(select) {
      const forgotten = [...downloading.keys()].filter(select);
      for (const item of forgotten) {
        downloading.get(item)?.abort();
        downloading.delete(item);
      }
      const dropped = fetched.filter(({ item }) => select(item));
      fetched = fetched.filter(({ item }) => !select(item));
      for (const { bytes } of dropped) fetchedBytes -= bytes.byteLength;
      return [...limiter.forget(select), ...forgotten, ...dropped.map(({ item }) => item)];
    },
    async close() {
      closed = true;
      limiter.close();
      await downloader.close();
    },
  };
}

const downloaded: DownloadEnd = { kind: "ok" };

function endOf(failure: unknown): DownloadEnd {
  if (failure instanceof HostBusy) return { kind: "busy", retryAfterMs: failure.retryAfterMs };
  if (!(failure instanceof ItemFailure)) return { kind: "broken" };
  if (failure.status === 503) return { kind: "overloaded" };
  if (failure.code === "DOWNLOAD_TIMEOUT" || failure.code === "DOWNLOAD_IDLE") return { kind: "timeout" };
  return failure.status === null ? { kind: "broken" } : { kind: "ok" };
}
