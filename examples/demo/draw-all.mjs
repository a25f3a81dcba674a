// Draws the pictures that `train.py` trains and judges with. Usage: node examples/demo/draw-all.mjs DIRECTORY
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { servedDigits, trainingDigits } from "./digits.mjs";
import { createPainter, servedSeed } from "./draw.mjs";

const variantsPerDigit = 2;
const atOnce = 8;

const directory = path.resolve(process.argv[2] ?? "");
if (process.argv[2] === undefined) throw new Error("Usage: node examples/demo/draw-all.mjs DIRECTORY");
const paint = createPainter();
await drawSet("served", servedDigits().map((digit) => ({ ...digit, seed: servedSeed(digit) })));
await drawSet("training", trainingDigits().flatMap((digit) =>
  Array.from({ length: variantsPerDigit }, (_, variant) => ({ ...digit, seed: 1_000_000 + digit.number * variantsPerDigit + variant }))));

/** One JPEG a picture, `SEED-DIGIT.jpg`. */
async function drawSet(name, pictures) {
  const folder = path.join(directory, name);
  await mkdir(folder, { recursive: true });
  const waiting = pictures.values();
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (const { pixels, digit, seed } of waiting) {
      await writeFile(path.join(folder, `${seed}-${digit}.jpg`), await paint(pixels, seed));
    }
  }));
}
