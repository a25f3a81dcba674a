import { basename, extname } from "node:path/posix";
import picomatch from "picomatch";
import { s3Url } from "../../task-manager/s3-client.ts";
import type { S3Client, S3ListedObject, S3Place } from "../../task-manager/s3-client.ts";
import { imageExtensions } from "./files.ts";
import { s3InputError } from "./s3-object.ts";
import type { ItemSource, SourceIdentity, SourceItem } from "./types.ts";

/**
 * The images below a prefix, in the order of their keys' bytes. As in a folder, names that begin with a dot are left
 * out, in the prefix aside; so are the empty objects that consoles make to show a folder.
 * @throws SplitrunError INPUT_NOT_FOUND, INPUT_UNREADABLE
 */
export function openS3Folder(client: S3Client, prefix: S3Place): Promise<ItemSource> {
  const visible = (key: string): boolean => !key.slice(prefix.key.length).split("/").some((part) => part.startsWith("."));
  return openListing(client, prefix, {
    identity: { kind: "folder", from: s3Url(prefix), size: null, modifiedMs: null },
    take: ({ key }) => visible(key) && imageExtensions.has(extname(basename(key)).toLowerCase()),
  });
}

/**
 * The objects whose keys a pattern matches; what is plain in front of it is asked for as the prefix.
 * @throws SplitrunError INPUT_NOT_FOUND, INPUT_UNREADABLE
 */
export function openS3Glob(client: S3Client, pattern: S3Place): Promise<ItemSource> {
  const matches = picomatch(pattern.key);
  const plain = /^[^*?[\]{}()!@+\\]*/.exec(pattern.key)?.[0] ?? "";
  return openListing(client, { bucket: pattern.bucket, key: plain }, {
    identity: { kind: "glob", from: s3Url(pattern), size: null, modifiedMs: null },
    take: ({ key }) => !key.endsWith("/") && matches(key),
  });
}

interface ListingOptions {
  readonly identity: SourceIdentity;
  readonly take: (object: S3ListedObject) => boolean;
}

/** Holds a page of at most a thousand names, and asks for the next one meanwhile. */
async function openListing(client: S3Client, prefix: S3Place, { identity, take }: ListingOptions): Promise<ItemSource> {
  const ending = new AbortController();
  const pages = client.list(prefix, { startAfter: null, signal: ending.signal });
  let page: readonly SourceItem[] = [];
  let taken = 0;
  let ahead = request();
  let ended = false;

  function request(): Promise<readonly S3ListedObject[] | null> {
    const next = pages.next().then(({ done, value }) => (done === true ? null : value), (error: unknown) => { throw s3InputError(prefix, error); });
    // It is heard when it is asked for; nobody may ask.
    next.catch(() => undefined);
    return next;
  }

  async function load(): Promise<boolean> {
    const objects = ended ? null : await ahead;
    if (objects === null) {
      ended = true;
      return false;
    }
    ahead = request();
    page = objects.filter(take).map((object) => toItem(prefix.bucket, object));
    taken = 0;
    return true;
  }

  // A bucket that is not there, or that must not be listed, is told before anything starts.
  await load();
  return {
    identity,
    rereadable: false,
    async read(count) {
      while (taken === page.length) {
        if (!await load()) return [];
      }
      const items = page.slice(taken, taken + count);
      taken += items.length;
      return items;
    },
    remaining: () => (ended ? page.length - taken : null),
    close: async () => { ending.abort(); },
  };
}

function toItem(bucket: string, { key, bytes, etag }: S3ListedObject): SourceItem {
  return { input: s3Url({ bucket, key }), weight: bytes, version: etag.replaceAll('"', "") };
}
