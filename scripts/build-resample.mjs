// Compiles task-manager/pipeline/resample.wat into the module that is checked in beside it.
import { readFile, writeFile } from "node:fs/promises";
import wabt from "wabt";

const folder = new URL("../task-manager/pipeline/", import.meta.url);

/** The text of resample-wasm.ts for the present resample.wat. */
export async function resampleModule() {
  const { parseWat } = await wabt();
  const source = parseWat("resample.wat", await readFile(new URL("resample.wat", folder)), { simd: true });
  source.validate();
  const base64 = Buffer.from(source.toBinary({}).buffer).toString("base64");
  const lines = base64.match(/.{1,110}/g).map((line) => `  "${line}",`);
  return [
    "/** Made of resample.wat by scripts/build-resample.mjs. */",
    "export const resampleWasm = Buffer.from([",
    ...lines,
    '].join(""), "base64");',
    "",
  ].join("\n");
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  await writeFile(new URL("resample-wasm.ts", folder), await resampleModule());
}
