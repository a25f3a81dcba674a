import { buffer } from "node:stream/consumers";
import { ZipFile } from "yazl";

export interface ZipEntry {
  readonly content: string | Buffer;
  /** @default 0o644 */
  readonly mode?: number;
}

/** The same bytes for the same files. */
export async function zipOf(files: Readonly<Record<string, string | ZipEntry>>): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [name, file] of Object.entries(files)) {
    const { content, mode = 0o644 } = typeof file === "string" ? { content: file } : file;
    zip.addBuffer(Buffer.from(content), name, { mtime: new Date(Date.UTC(2000, 0, 1)), mode: 0o100000 | mode });
  }
  zip.end();
  return buffer(zip.outputStream);
}
