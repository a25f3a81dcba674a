import type { InputSpec } from "../jobs/types.ts";
import type { ByteReader } from "./bytes.ts";
import { CsvSource } from "./csv.ts";
import type { ItemRules } from "./item.ts";
import { jsonLine, textLine } from "./line-items.ts";
import { LineSource } from "./line-source.ts";
import type { TextFormat } from "./stdin.ts";
import type { SourceIdentity } from "./types.ts";

export interface TextSourceOptions {
  readonly format: TextFormat;
  readonly bytes: ByteReader;
  readonly identity: SourceIdentity;
  readonly rereadable: boolean;
  readonly spec: InputSpec;
  readonly rules: ItemRules;
}

/** A chunk holds thousands of lines, and its parsing keeps the event loop for a few milliseconds at most. */
export function chunkBytesOf(format: TextFormat): number {
  return format === "csv" ? 65_536 : 262_144;
}

export function textSource({ format, bytes, identity, rereadable, spec, rules }: TextSourceOptions): LineSource | CsvSource {
  switch (format) {
    case "text":
      return new LineSource({ bytes, identity, rereadable, toItem: (lines) => textLine(lines, rules) });
    case "jsonl":
      return new LineSource({ bytes, identity, rereadable, toItem: (lines) => jsonLine(lines, spec, rules) });
    case "csv":
      return new CsvSource({ bytes, identity, rereadable, spec, rules });
  }
}

/** Reads the beginning, which tells what is wrong with all of it; closes it where something is. */
export async function primedTextSource(options: TextSourceOptions): Promise<LineSource | CsvSource> {
  const source = textSource(options);
  try {
    await source.prime();
    return source;
  } catch (error) {
    await source.close();
    throw error;
  }
}
