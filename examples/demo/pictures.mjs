// What the demo's web server has to offer: 2000 photographs of digits, and among them links that lead to no picture.
import { servedDigits } from "./digits.mjs";
import { servedSeed } from "./draw.mjs";

/** What is wrong with a link, the error that it must end as, and how many there are of it. */
export const faults = {
  missing: { text: "dead link (404)", code: "DOWNLOAD_STATUS", count: 8 },
  refused: { text: "server that is down", code: "DOWNLOAD_CONNECT", count: 4 },
  failing: { text: "server error (500)", code: "DOWNLOAD_STATUS", count: 3 },
  truncated: { text: "file cut off half-way", code: "DECODE_TRUNCATED", count: 6 },
  page: { text: "web page instead of a picture", code: "DECODE_FORMAT", count: 5 },
  empty: { text: "empty file", code: "DOWNLOAD_EMPTY", count: 4 },
};

/**
 * The list, in order: `{ id, fault: null, digit, pixels, seed }`, or `{ id, fault }` with a name of `faults`. Digits
 * are in an order that says nothing about them; faults are spread evenly.
 */
export function listPictures() {
  const digits = servedDigits().map((digit) => ({ ...digit, fault: null, seed: servedSeed(digit) }));
  const broken = Object.entries(faults).flatMap(([fault, { count }]) => Array.from({ length: count }, () => ({ fault })));
  const every = Math.floor(digits.length / broken.length);
  const list = digits.flatMap((digit, at) => (at % every === 17 && broken.length > 0 ? [broken.shift(), digit] : [digit]));
  return list.map((picture, at) => ({ ...picture, id: `photo-${String(at + 1).padStart(4, "0")}` }));
}
