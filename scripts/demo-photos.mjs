import { servedDigits } from "../examples/demo/digits.mjs";
import { createPainter, servedSeed } from "../examples/demo/draw.mjs";

export async function demoPhotos(count) {
  if (count === 0) return [];
  const paint = createPainter();
  return Promise.all(servedDigits().slice(0, count).map(async (digit, at) => ({
    name: `${String(at + 1).padStart(4, "0")}-${digit.digit}.jpg`, bytes: await paint(digit.pixels, servedSeed(digit)),
  })));
}
