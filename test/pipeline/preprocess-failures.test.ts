import { describe, expect, test } from "vitest";
import { ItemFailure } from "../../task-manager/pipeline/failure.ts";
import { configureSharp, createPreprocessor } from "../../task-manager/pipeline/preprocess.ts";
import { TaskRefused } from "../../task-manager/tasks/types.ts";
import { differsFromPillow, fixture, goldens, png, randomBytes, specOf, testSeed } from "./preprocess-support.ts";

await configureSharp();

const preprocessor = createPreprocessor(specOf("torchvision-imagenet"));
const fast = createPreprocessor(specOf("fast"));

async function failureOf(encoded: Uint8Array, by = preprocessor): Promise<ItemFailure> {
  try {
    await by.run(encoded, new Float32Array(by.length));
  } catch (error) {
    if (!(error instanceof ItemFailure)) throw error;
    expect(error).toMatchObject({ stage: "preprocess", retryable: false });
    return error;
  }
  throw new Error(`accepted ${encoded.length} bytes`);
}

const ftyp = (brand: string): Buffer => Buffer.concat([Buffer.from([0, 0, 0, 16]), Buffer.from(`ftyp${brand}\0\0\0\0`)]);

describe("what is no image is named by what it looks like", () => {
  test.each([
    ["empty", Buffer.alloc(0)],
    ["an HTML page", Buffer.from("\n  <!DOCTYPE html><html><title>404</title>")],
    ["an HTML page", Buffer.from("<html lang=en>")],
    ["an XML document", Buffer.from("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>")],
    ["an SVG drawing", Buffer.from('<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')],
    ["a JSON document", Buffer.from('{"message":"not found"}')],
    ["text", Buffer.from("Größe unbekannt")],
    ["a BMP image", Buffer.from("BM\x3a\0\0\0\0\0\0\0\x36\0\0\0", "latin1")],
    ["a PDF document", Buffer.from("%PDF-1.7")],
    ["a ZIP archive", Buffer.from("PK\x03\x04\0\0", "latin1")],
    ["gzip data", Buffer.from([0x1f, 0x8b, 8, 0])],
    ["an ISO media file of brand \"heic\"", ftyp("heic")],
    ["unknown data that begins with 01 02 03 80", Buffer.from([1, 2, 3, 0x80, 5])],
  ])("%s", async (kind, bytes) => {
    const failure = await failureOf(bytes);
    expect(failure.code).toBe("DECODE_FORMAT");
    expect(failure.message).toContain(kind);
  });

  test("only the first bytes are quoted, never what a page says", async () => {
    expect((await failureOf(Buffer.from("secret-token=abc"))).message).not.toContain("secret");
  });
});

describe("an image cut short is an error wherever Pillow says so, never half gray", () => {
  test.each(Object.entries(goldens.images))("%s", async (name, { truncation }) => {
    const whole = fixture(name);
    // Before the eighth byte it is not yet recognised as an image.
    for (const length of truncation.filter((length) => length >= 12)) {
      const failure = await failureOf(whole.subarray(0, length));
      // A TIFF that lacks values of its directory looks damaged rather than short.
      const codes = name.endsWith(".tiff") ? ["DECODE_TRUNCATED", "DECODE_FAILED"] : ["DECODE_TRUNCATED"];
      expect(codes, `${length} of ${whole.length} bytes: ${failure.message}`).toContain(failure.code);
    }
  });

  test("also where libvips shrinks while it decodes", async () => {
    for (const name of ["large-1900x1427.jpg", "progressive-301x227.jpg", "tall-40x900.jpg", "lossy-222x166.webp", "rgb-97x131.png"]) {
      const whole = fixture(name);
      for (const share of [0.1, 0.5, 0.9, 0.99, 0.999]) {
        expect((await failureOf(whole.subarray(0, Math.trunc(whole.length * share)), fast)).code).toBe("DECODE_TRUNCATED");
      }
    }
  });
});

test("a bomb is turned away by its header, before it costs memory", async () => {
  const bomb = png({ width: 30_000, height: 30_000, depth: 8, colorType: 2, rows: [Buffer.alloc(90_000)] });
  const before = process.memoryUsage().rss;
  const failure = await failureOf(bomb);
  expect(failure.code).toBe("DECODE_TOO_MANY_PIXELS");
  expect(failure.message).toBe("30000 x 30000 pixels are more than maxPixels 268402689");
  expect(process.memoryUsage().rss - before).toBeLessThan(50_000_000);
});

test("maxPixels itself is allowed, one more is not", async () => {
  const image = fixture("rgb-97x131.png");
  const strict = (maxPixels: number) => createPreprocessor({ ...specOf("fast"), maxPixels });
  await strict(97 * 131).run(image, new Float32Array(150_528));
  expect((await failureOf(image, strict(97 * 131 - 1))).code).toBe("DECODE_TOO_MANY_PIXELS");
});

test("a side beyond the limit of the resize is an error of its own", async () => {
  const rows = Array(1_000_001).fill(Buffer.from([0]));
  const failure = await failureOf(png({ width: 1, height: 1_000_001, depth: 1, colorType: 0, rows }));
  expect(failure.code).toBe("PREPROCESS_FAILED");
  expect(failure.message).toContain("1000001");
  const byLibvips = await failureOf(png({ width: 1, height: 60_000, depth: 1, colorType: 0, rows: rows.slice(0, 60_000) }), fast);
  expect(byLibvips.code).toBe("PREPROCESS_FAILED");
  expect(byLibvips.message).toContain("256 x 15360000 pixels");
});

test("damage inside a PNG is found", async () => {
  const damaged = Buffer.from(fixture("rgb-97x131.png"));
  damaged.fill(0xaa, 2_000, 2_100);
  expect((await failureOf(damaged)).code).toBe("DECODE_FAILED");
});

test("damaged images end in a result or an ItemFailure, and the next image is none the worse", async () => {
  const seed = testSeed();
  const clean = fixture("lossy-222x166.webp");
  const before = new Float32Array(preprocessor.length);
  await preprocessor.run(clean, before);
  const names = Object.keys(goldens.images).filter((name) => !name.startsWith("large") && !(name in differsFromPillow));
  const dice = randomBytes(names.length * 40, seed);
  for (const [index, name] of names.entries()) {
    const damaged = Buffer.from(fixture(name));
    for (let change = 0; change < 20; change++) {
      const at = index * 40 + change * 2;
      // The first bytes decide the most: half of the changes go there.
      const place = change % 2 === 0 ? (dice[at] ?? 0) % damaged.length : Math.trunc(((dice[at] ?? 0) / 256) * damaged.length);
      damaged[place] = dice[at + 1] ?? 0;
    }
    await preprocessor.run(damaged, new Float32Array(preprocessor.length)).catch((error: unknown) => {
      expect(error, name).toBeInstanceOf(ItemFailure);
    });
  }
  const after = new Float32Array(preprocessor.length);
  await preprocessor.run(clean, after);
  expect(after).toEqual(before);
});

test("a target of the wrong type or length is the caller's mistake, not the item's", async () => {
  const image = fixture("one-pixel-1x1.png");
  await expect(preprocessor.run(image, new Float32Array(7))).rejects.toThrow(TypeError);
  await expect(preprocessor.run(image, new Uint8Array(preprocessor.length))).rejects.toThrow("Uint8Array of 150528, not Float32Array");
});

describe("a spec that gives no tensor of one size is refused by its field", () => {
  test.each([
    ["task.preprocess.crop", specOf("torchvision-imagenet", { crop: null })],
    ["task.preprocess.crop", specOf("fast", { crop: null })],
    ["task.preprocess.mean", specOf("fast", { mean: [0.5] })],
    ["task.preprocess.std", specOf("fast", { colorOrder: "gray", mean: [0.5] })],
    ["task.preprocess.std", specOf("fast", { std: [1, 0, 1] })],
  ])("%s", (field, spec) => {
    expect(() => createPreprocessor(spec)).toThrow(TaskRefused);
    try {
      createPreprocessor(spec);
    } catch (error) {
      expect(error).toMatchObject({ field });
    }
  });
});
