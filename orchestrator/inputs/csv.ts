import { parse } from "csv-parse";
import type { InfoRecord, Parser } from "csv-parse";
import { SplitrunError } from "../errors.ts";
import type { InputSpec } from "../jobs/types.ts";
import type { ByteReader } from "./bytes.ts";
import type { Columns } from "./columns.ts";
import { chooseColumns } from "./columns.ts";
import type { ItemRules } from "./item.ts";
import { invalid, shown, toItem } from "./item.ts";
import { extrapolate } from "./line-source.ts";
import { lineBytesMax, refuseOtherEncodings } from "./lines.ts";
import type { ItemSource, SourceIdentity, SourceItem } from "./types.ts";

export interface CsvSourceOptions {
  readonly bytes: ByteReader;
  readonly identity: SourceIdentity;
  readonly rereadable: boolean;
  readonly spec: InputSpec;
  readonly rules: ItemRules;
}

/**
 * Items of a CSV file (RFC 4180, LF or CRLF) or, where its name says `.tsv`, one with tabs. The first line names the
 * columns. A quote inside of a field is taken as it is; one that is never closed ends the job, since the items
 * behind it would be lost.
 */
export class CsvSource implements ItemSource {
  readonly identity: SourceIdentity;
  readonly rereadable: boolean;
  readonly #bytes: ByteReader;
  readonly #spec: InputSpec;
  readonly #rules: ItemRules;
  readonly #parser: Parser;
  #columns: Columns | null = null;
  #items: SourceItem[] = [];
  #taken = 0;
  #parsed = 0;
  #openBytes = 0;
  #line = 1;
  #started = false;
  #ended = false;

  constructor(options: CsvSourceOptions) {
    this.identity = options.identity;
    this.rereadable = options.rereadable;
    this.#bytes = options.bytes;
    this.#spec = options.spec;
    this.#rules = options.rules;
    this.#parser = parse({
      bom: true,
      delimiter: /\.tsv(?:\.gz)?$/i.test(options.identity.from) ? "\t" : ",",
      record_delimiter: ["\n", "\r\n"],
      relax_column_count: true,
      relax_quotes: true,
      skip_empty_lines: true,
      // Nothing goes to the parser's own queue: what it found is taken here, while it is fed.
      on_record: (record: string[], info: InfoRecord) => this.#onRecord(record, info.lines),
    });
    // Told by the callback of the write as well.
    this.#parser.on("error", () => {});
  }

  /** Reads as far as the header, so that a wrong column is told before anything starts. */
  async prime(): Promise<void> {
    while (this.#columns === null && !this.#ended) await this.#load();
  }

  async read(count: number): Promise<readonly SourceItem[]> {
    while (this.#taken === this.#items.length && !this.#ended) await this.#load();
    const items = this.#items.slice(this.#taken, this.#taken + count);
    this.#taken += items.length;
    return items;
  }

  remaining(): number | null {
    const held = this.#items.length - this.#taken;
    if (this.#ended) return held;
    const rest = extrapolate(this.#parsed, this.#bytes.fraction());
    return rest === null ? null : rest + held;
  }

  async close(): Promise<void> {
    this.#parser.destroy();
    await this.#bytes.close();
  }

  async #load(): Promise<void> {
    this.#items = this.#items.slice(this.#taken);
    this.#taken = 0;
    const chunk = await this.#bytes.read();
    if (chunk === null) {
      this.#ended = true;
      await this.#feed(null);
      return;
    }
    if (!this.#started) refuseOtherEncodings(chunk, this.identity.from);
    this.#started = true;
    this.#openBytes += chunk.length;
    await this.#feed(chunk);
    if (this.#openBytes > lineBytesMax) throw this.#broken(`has a record of more than ${lineBytesMax} bytes`, null);
  }

  async #feed(chunk: Buffer | null): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: Error | null): void => (error ? reject(this.#explain(error)) : resolve());
      if (chunk !== null) this.#parser.write(chunk, settle);
      else this.#parser.on("error", settle).on("end", () => settle()).resume().end();
    });
  }

  #onRecord(record: readonly string[], line: number): null {
    this.#openBytes = 0;
    this.#line = line;
    if (this.#columns === null) this.#columns = chooseColumns(record.map((name) => name.trim()), this.#spec);
    else this.#items.push(this.#toItem(record, this.#columns, line));
    return null;
  }

  #toItem(record: readonly string[], columns: Columns, line: number): SourceItem {
    this.#parsed += 1;
    const value = record[columns.value];
    if (value === undefined) {
      return invalid(shown(record.join(",")), `line ${line} has ${record.length} columns, its item belongs in column ${columns.value + 1}`);
    }
    // The parser puts this character where bytes are not UTF-8; no real name or URL has it.
    if (value.includes("\uFFFD")) return invalid(shown(value), `line ${line} is not UTF-8`);
    return toItem({
      value,
      bytes: value.length,
      id: columns.id === null ? undefined : record[columns.id],
      weight: columns.weight === null ? undefined : record[columns.weight],
      number: line,
    }, this.#rules);
  }

  #explain(error: Error): SplitrunError {
    return error instanceof SplitrunError ? error : this.#broken("opens a quote that is never closed", error);
  }

  #broken(what: string, cause: Error | null): SplitrunError {
    return new SplitrunError(`input ${this.identity.from} ${what}, after line ${this.#line}`, {
      code: "INPUT_FORMAT",
      field: "input",
      value: this.identity.from,
      ...(cause !== null && { cause }),
    });
  }
}
