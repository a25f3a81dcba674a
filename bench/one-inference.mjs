// The least that a program with these libraries can do: one image, one inference.
import * as ort from "onnxruntime-node";
import sharp from "sharp";

const [image, model] = process.argv.slice(2);
const session = await ort.InferenceSession.create(model);
const { data } = await sharp(image).resize(224, 224).raw().toBuffer({ resolveWithObject: true });
const pixels = new Float32Array(3 * 224 * 224);
for (let at = 0; at < 224 * 224; at++) for (let c = 0; c < 3; c++) pixels[c * 224 * 224 + at] = data[at * 3 + c] / 255;
const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", pixels, [1, 3, 224, 224]) });
console.log(outputs[session.outputNames[0]].data.length);
