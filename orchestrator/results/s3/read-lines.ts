import { JournalLine } from "../journal-line.ts";
import { eachLine } from "../scan-lines.ts";

/** Whole lines in a buffer of their own, for `eachLine`. */
async function* wholeLinesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  for await (const chunk of chunks) {
    const end = chunk.lastIndexOf(0x0a) + 1;
    if (end === 0) {
      held.push(chunk);
      continue;
    }
    yield Buffer.concat([...held, chunk.subarray(0, end)]);
    held = end === chunk.length ? [] : [chunk.subarray(end)];
  }
  const rest = Buffer.concat(held);
  if (rest.length > 0) yield rest;
}

export interface LineVisitor {
  /** The bytes are the line's without its end. */
  line(line: JournalLine, bytes: Buffer): void;
  /** It is no line of a journal. */
  damaged(): void;
}

/** The journal's lines in an object, in chunks, so that the caller can do something between them. */
export async function* visitLines(chunks: AsyncIterable<Buffer>, visitor: LineVisitor): AsyncGenerator<void> {
  const line = new JournalLine();
  for await (const bytes of wholeLinesOf(chunks)) {
    eachLine({ bytes, offset: 0 }, (start, end) => {
      if (start === end) return;
      if (line.read(bytes, start, end)) visitor.line(line, bytes.subarray(start, end));
      else visitor.damaged();
    });
    yield;
  }
}
