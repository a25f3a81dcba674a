// Draws a handwritten digit as a photograph of it: paper or board, light from one side, noise, ink.
import sharp from "sharp";
import { random } from "./random.mjs";

/** Seed of a served digit's picture: the same in every run of the demo, and in the model's judgement. */
export const servedSeed = ({ number }) => number;

export const width = 640;
export const height = 480;

const scenes = [
  { ground: [244, 239, 226], inks: [[32, 44, 120], [30, 30, 36]], rules: { every: 44, columns: false, color: [150, 176, 214] } },
  { ground: [238, 240, 236], inks: [[58, 58, 62], [24, 60, 130]], rules: { every: 32, columns: true, color: [170, 206, 190] } },
  { ground: [251, 226, 120], inks: [[36, 36, 44], [140, 26, 34]], rules: null },
  { ground: [190, 152, 108], inks: [[28, 24, 22], [52, 34, 24]], rules: null },
  { ground: [232, 236, 240], inks: [[20, 110, 60], [190, 34, 40], [26, 60, 160]], rules: null },
  { ground: [42, 62, 54], inks: [[232, 232, 222], [240, 214, 120]], rules: null },
];
const lightsPerScene = 3;

/** Samples of a digit from the data set, and how often each is enlarged before it is turned. */
const side = 28;
const enlargement = 4;

/**
 * @returns a function `(pixels, seed) => Promise<Buffer>`: a JPEG of 640 × 480 that shows the 28 × 28 gray values.
 * The same pixels and seed give the same picture.
 */
export function createPainter() {
  const grounds = scenes.flatMap((scene, at) =>
    Array.from({ length: lightsPerScene }, (_, light) => ({ scene, pixels: paintGround(scene, random(1000 * at + light)) })));

  return (pixels, seed) => {
    const next = random(seed);
    const { scene, pixels: ground } = grounds[Math.floor(next() * grounds.length)];
    const ink = scene.inks[Math.floor(next() * scene.inks.length)];
    const digit = writing(pixels, { size: Math.round(290 + 110 * next()), degrees: 24 * next() - 12 });
    const left = Math.round((width - digit.size) / 2 + 70 * (next() - 0.5));
    const top = Math.round((height - digit.size) / 2 + 50 * (next() - 0.5));
    const photo = Buffer.from(ground);
    blend(photo, digit, { left, top, ink, weight: 0.78 + 0.2 * next() });
    return sharp(photo, { raw: { width, height, channels: 3 } }).jpeg({ quality: 76 }).toBuffer();
  };
}

/** Light that falls from one side, darker corners, rules where the paper has them, and the camera's noise. */
function paintGround({ ground, rules }, next) {
  const pixels = Buffer.alloc(width * height * 3);
  const angle = 2 * Math.PI * next();
  const slope = 0.12 + 0.14 * next();
  const warmth = 0.06 * (next() - 0.5);
  const wave = 0.004 + 0.006 * next();
  const shift = Math.floor(40 * next());
  const slant = 0.03 * (next() - 0.5);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 3) {
      const dx = x / width - 0.5;
      const dy = y / height - 0.5;
      const light = 0.9 + slope * (dx * Math.cos(angle) + dy * Math.sin(angle)) - 0.3 * (dx * dx + dy * dy)
        + 0.012 * Math.sin(wave * x * 3 + wave * y * 5 + shift);
      const noise = 9 * (next() + next() + next() - 1.5);
      const color = rules && onRule(rules, x, y + slant * x + shift) ? rules.color : ground;
      pixels[at] = clamp(color[0] * (light + warmth) + noise);
      pixels[at + 1] = clamp(color[1] * light + noise);
      pixels[at + 2] = clamp(color[2] * (light - warmth) + noise);
    }
  }
  return pixels;
}

function onRule({ every, columns }, x, y) {
  return y % every < 1.6 || (columns && (x + 9) % every < 1.6);
}

/** The digit, enlarged smoothly and turned: opacity 0 to 1 of a square of `size` pixels. */
function writing(pixels, { size, degrees }) {
  const large = stretched(stretched(pixels, side), side * enlargement);
  const largeSide = side * enlargement;
  const scale = largeSide / size;
  const cos = scale * Math.cos((degrees * Math.PI) / 180);
  const sin = scale * Math.sin((degrees * Math.PI) / 180);
  const opacity = new Float32Array(size * size);
  for (let y = 0, at = 0; y < size; y++) {
    for (let x = 0; x < size; x++, at++) {
      const dx = x - size / 2;
      const dy = y - size / 2;
      const fromX = largeSide / 2 + cos * dx + sin * dy;
      const fromY = largeSide / 2 - sin * dx + cos * dy;
      if (fromX < 0 || fromY < 0 || fromX >= largeSide - 1 || fromY >= largeSide - 1) continue;
      opacity[at] = edge(bilinear(large, largeSide, fromX, fromY));
    }
  }
  return { opacity, size };
}

/** Weights of the cubic B-spline for the places between two samples. */
const splineWeights = Array.from({ length: enlargement }, (_, step) => {
  const t = (step + 0.5) / enlargement;
  return [(1 - t) ** 3 / 6, (3 * t ** 3 - 6 * t ** 2 + 4) / 6, (-3 * t ** 3 + 3 * t ** 2 + 3 * t + 1) / 6, t ** 3 / 6];
});

/** Rows of `side` samples, each enlarged and written as a column: twice gives the image both ways enlarged. */
function stretched(samples, rows) {
  const large = new Float32Array(rows * side * enlargement);
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < side; x++) {
      splineWeights.forEach((weights, step) => {
        let sum = 0;
        for (let tap = 0; tap < 4; tap++) {
          const from = x + tap - 1;
          if (from >= 0 && from < side) sum += weights[tap] * samples[row * side + from];
        }
        large[(x * enlargement + step) * rows + row] = sum;
      });
    }
  }
  return large;
}

function bilinear(samples, stride, x, y) {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const at = top * stride + left;
  const upper = samples[at] + (x - left) * (samples[at + 1] - samples[at]);
  const lower = samples[at + stride] + (x - left) * (samples[at + stride + 1] - samples[at + stride]);
  return upper + (y - top) * (lower - upper);
}

/** An enlarged stroke fades out over many pixels; a pen's edge does not. */
function edge(gray) {
  const share = Math.min(1, Math.max(0, (gray - 70) / 60));
  return share * share * (3 - 2 * share);
}

/** Ink takes the light and the noise of the ground under it. */
function blend(photo, { opacity, size }, { left, top, ink, weight }) {
  for (let y = 0, from = 0; y < size; y++) {
    for (let x = 0; x < size; x++, from++) {
      if (opacity[from] === 0) continue;
      const at = ((top + y) * width + left + x) * 3;
      for (let channel = 0; channel < 3; channel++) {
        const under = photo[at + channel];
        photo[at + channel] = clamp(under + opacity[from] * weight * (ink[channel] * (0.85 + 0.15 * (under / 255)) - under));
      }
    }
  }
}

function clamp(value) {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}
