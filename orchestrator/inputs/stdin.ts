import type { InputSpec } from "../jobs/types.ts";
import type { ByteReader } from "./bytes.ts";
import type { ItemSource, SourceIdentity } from "./types.ts";

export type TextFormat = "text" | "csv" | "jsonl";

export interface StdinOptions {
  readonly bytes: ByteReader;
  readonly spec: InputSpec;
  /** The source of the items once the format is known; `bytes` has everything from the start. */
  readonly open: (format: TextFormat, bytes: ByteReader) => ItemSource;
}

const identity: SourceIdentity = { kind: "stdin", from: "-", size: null, modifiedMs: null };
const space = 0x20;

/** Standard input. Where the job leaves its format open, the first read looks at how it begins. */
export function openStdinSource(options: StdinOptions): ItemSource {
  let source: ItemSource | null = null;
  return {
    identity,
    rereadable: false,
    async read(count) {
      source ??= await openByBeginning(options);
      return source.read(count);
    },
    remaining: () => source?.remaining() ?? null,
    close: () => source?.close() ?? options.bytes.close(),
  };
}

async function openByBeginning({ bytes, spec, open }: StdinOptions): Promise<ItemSource> {
  if (spec.format === "text" || spec.format === "csv" || spec.format === "jsonl") return open(spec.format, bytes);
  const chunks: Buffer[] = [];
  let beginning = nothing;
  let first: number | undefined;
  for (let chunk = await bytes.read(); chunk !== null; chunk = await bytes.read()) {
    chunks.push(chunk);
    beginning = Buffer.concat([beginning, chunk]);
    first = beginning.find((byte) => byte > space && !byteOrderMark.includes(byte));
    if (first !== undefined || beginning.length > beginningBytesMax) break;
  }
  return open(formatOf(first, spec), replayed(chunks, bytes));
}

const byteOrderMark: readonly number[] = [0xef, 0xbb, 0xbf];
const beginningBytesMax = 4096;
const nothing: Buffer = Buffer.alloc(0);

/** JSONL begins with `{` or `[`, or with `"` where no column is named; a named column else means CSV. */
function formatOf(first: number | undefined, spec: InputSpec): TextFormat {
  const character = first === undefined ? "" : String.fromCharCode(first);
  const columns = spec.column !== null || spec.id !== null || spec.weight !== null;
  if (character === "{" || character === "[") return "jsonl";
  if (columns) return "csv";
  return character === '"' ? "jsonl" : "text";
}

function replayed(chunks: Buffer[], bytes: ByteReader): ByteReader {
  return {
    read: async () => chunks.shift() ?? bytes.read(),
    fraction: bytes.fraction,
    close: bytes.close,
  };
}
