const lineEnd = 0x0a;
const backslash = 0x5c;
const wordsAtOnce = 4;

/**
 * Has a text no backslash, and no control character but line ends? Then a JSON string in it ends at the next quote.
 * Looked at sixteen bytes at a time, by the test for a byte below n of Anderson's "Bit Twiddling Hacks".
 */
export function isPlain(bytes: Buffer): boolean {
  if (bytes.includes(backslash)) return false;
  const words = wordsOf(bytes);
  for (let at = 0; at < words.length; at += wordsAtOnce) {
    const below = belowSpace(words[at] ?? 0) | belowSpace(words[at + 1] ?? 0) | belowSpace(words[at + 2] ?? 0) | belowSpace(words[at + 3] ?? 0);
    if ((below & 0x80808080) !== 0 && hasControl(bytes, at * 4, (at + wordsAtOnce) * 4)) return false;
  }
  return !hasControl(bytes, words.length * 4, bytes.length);
}

/** As many as lie on word boundaries. */
function wordsOf({ buffer, byteOffset, length }: Buffer): Int32Array {
  const count = byteOffset % 4 === 0 ? Math.floor(length / 4 / wordsAtOnce) * wordsAtOnce : 0;
  return count === 0 ? new Int32Array(0) : new Int32Array(buffer, byteOffset, count);
}

/** The highest bits of its bytes tell whether any of them is below 0x20. */
function belowSpace(word: number): number {
  return (word - 0x20202020) & ~word;
}

function hasControl(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    if (byte < 0x20 && byte !== lineEnd) return true;
  }
  return false;
}
