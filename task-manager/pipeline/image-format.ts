export type ImageFormat = "jpeg" | "png" | "webp" | "gif" | "tiff" | "avif";

/** The format by the first bytes, if it is one that is decoded here. Nothing else ever reaches a decoder. */
export function imageFormat(bytes: Uint8Array): ImageFormat | null {
  const head = latin1(bytes, 0, 12);
  if (head.startsWith("\xff\xd8\xff")) return "jpeg";
  if (head.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (head.startsWith("RIFF") && head.endsWith("WEBP")) return "webp";
  if (/^GIF8[79]a/.test(head)) return "gif";
  if (/^(II[*+]\0|MM\0[*+])/.test(head)) return "tiff";
  if (heifBrands(bytes)?.some((brand) => brand === "avif" || brand === "avis") === true) return "avif";
  return null;
}

export interface ImageSize {
  readonly width: number;
  readonly height: number;
}

/** Read here for the two most common formats, since asking libvips costs a tenth of decoding; null: ask it. */
export function headerSize(bytes: Uint8Array, format: ImageFormat): ImageSize | null {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (format === "png" && file.length >= 24) return positiveSize(file.readUInt32BE(16), file.readUInt32BE(20));
  return format === "jpeg" ? jpegSize(file) : null;
}

function jpegSize(file: Buffer): ImageSize | null {
  const frame = jpegFrame(file);
  return frame === null ? null : positiveSize(file.readUInt16BE(frame + 7), file.readUInt16BE(frame + 5));
}

/** Whether a JPEG has four components, which are cyan, magenta, yellow and black, whatever they are stored as. */
export function isCmykJpeg(bytes: Uint8Array, format: ImageFormat): boolean {
  if (format !== "jpeg") return false;
  const frame = jpegFrame(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  return frame !== null && bytes[frame + 9] === 4;
}

/** Offset of the frame header (ITU-T T.81, B.2.2), found by going from marker to marker. */
function jpegFrame(file: Buffer): number | null {
  for (let at = 2; at + 10 <= file.length && file[at] === 0xff;) {
    const marker = file[at + 1] ?? 0;
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (isFrame) return at;
    at += 2 + file.readUInt16BE(at + 2);
  }
  return null;
}

/** A height of 0 is told later in the file. */
function positiveSize(width: number, height: number): ImageSize | null {
  return width > 0 && height > 0 ? { width, height } : null;
}

/** Whether the end that the file itself announces is missing: what decoders often report as damage of some other kind. */
export function endsEarly(bytes: Uint8Array, format: ImageFormat): boolean {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (file.length < 12) return true;
  switch (format) {
    case "png": return !file.includes("IEND");
    case "webp": return file.readUInt32LE(4) + 8 > file.length;
    case "tiff": return tiffDirectoryEnd(file) > file.length;
    case "jpeg": return !file.includes("\xff\xd9", 0, "latin1");
    case "gif": return file.at(-1) !== 0x3b;
    case "avif": return false;
  }
}

/** TIFF 6.0, section 2: a count, 12 bytes an entry and the next directory's offset. */
function tiffDirectoryEnd(file: Buffer): number {
  const littleEndian = file[0] === 0x49;
  const start = littleEndian ? file.readUInt32LE(4) : file.readUInt32BE(4);
  if (start + 2 > file.length) return start + 2;
  const entries = littleEndian ? file.readUInt16LE(start) : file.readUInt16BE(start);
  return start + 2 + entries * 12 + 4;
}

/** What bytes that are no image look like, as it goes into "this is ...". Quotes none of them but the first four. */
export function describeBytes(bytes: Uint8Array): string {
  if (bytes.length === 0) return "empty";
  const head = latin1(bytes, 0, 512);
  const binary = binaryKinds.find(([prefix]) => head.startsWith(prefix));
  if (binary !== undefined) return binary[1];
  const brands = heifBrands(bytes);
  if (brands !== null) return `an ISO media file of brand ${JSON.stringify(brands[0])}, not AVIF`;
  if (looksLikeText(bytes.subarray(0, 512))) return describeText(head);
  return `unknown data that begins with ${hex(bytes.subarray(0, 4))}`;
}

const binaryKinds: readonly (readonly [prefix: string, kind: string])[] = [
  ["BM", "a BMP image, which is not supported: convert it to PNG"],
  ["\0\0\x01\0", "an ICO image, which is not supported: convert it to PNG"],
  ["8BPS", "a Photoshop image, which is not supported: convert it to PNG or TIFF"],
  ["\0\0\0\x0cJXL ", "a JPEG XL image, which is not supported: convert it to PNG or JPEG"],
  ["\xff\x0a", "a JPEG XL image, which is not supported: convert it to PNG or JPEG"],
  ["\0\0\0\x0cjP  ", "a JPEG 2000 image, which is not supported: convert it to PNG or JPEG"],
  ["%PDF-", "a PDF document"],
  ["PK\x03\x04", "a ZIP archive"],
  ["\x1f\x8b", "gzip data"],
  ["RIFF", "a RIFF file, not WebP"],
];

function describeText(head: string): string {
  const text = head.replace(/^\xef\xbb\xbf/, "").trimStart();
  if (/^(<\?xml[^>]*>\s*)?(<!--[^]*?-->\s*)?(<!doctype\s+svg|<svg)/i.test(text)) return "an SVG drawing, which is not supported: convert it to PNG";
  if (/^(<!--[^]*?-->\s*)?(<!doctype\s+html|<(html|head|body)\b)/i.test(text)) return "an HTML page";
  if (text.startsWith("<")) return "an XML document";
  if (/^[[{]/.test(text)) return "a JSON document";
  return "text";
}

/** UTF-8 without control characters but white space and escape. */
function looksLikeText(head: Uint8Array): boolean {
  try {
    // As a stream: a character cut in two by the end is no fault of the text.
    const text = new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: true });
    return text !== "" && !/[\0-\x08\x0b\x0e-\x1a\x1c-\x1f]/.test(text);
  } catch {
    return false;
  }
}

/** Major and compatible brands of the leading `ftyp` box (ISO/IEC 14496-12, 4.3); null: there is none. */
function heifBrands(bytes: Uint8Array): string[] | null {
  if (latin1(bytes, 4, 8) !== "ftyp") return null;
  const boxBytes = Math.min(new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0), 256);
  const brands = [latin1(bytes, 8, 12)];
  for (let at = 16; at + 4 <= boxBytes; at += 4) brands.push(latin1(bytes, at, at + 4));
  return brands;
}

function latin1(bytes: Uint8Array, from: number, to: number): string {
  return String.fromCharCode(...bytes.subarray(from, to));
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
