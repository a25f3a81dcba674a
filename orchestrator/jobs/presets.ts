import type { PreprocessSpec } from "../../task-manager/protocol.ts";

/** What a preset says; how many threads decode and how large an image may be is the machine's business. */
export type PreprocessPreset = Omit<PreprocessSpec, "concurrency" | "maxPixels">;

/** Float32 RGB in 0..1, minus mean, by standard deviation of ImageNet, as torchvision's models expect it. */
const imageNet = {
  colorOrder: "rgb",
  layout: "nchw",
  dtype: "float32",
  scale: 1 / 255,
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
} satisfies Partial<PreprocessPreset>;

export type PreprocessPresetName = "torchvision-imagenet" | "off-sample" | "fast";

export const presets: Readonly<Record<PreprocessPresetName, PreprocessPreset>> = {
  /** torchvision's Resize(256), CenterCrop(224), ToTensor, Normalize on Pillow images: equal to within 1e-4. */
  "torchvision-imagenet": {
    ...imageNet,
    resize: { width: 256, height: 256, fit: "shorter-side", kernel: "pillow-bilinear" },
    crop: { width: 224, height: 224 },
  },
  /** The whole image sampled bilinearly on the align-corners grid of 224 x 224, without antialias: equal to within 1e-4. */
  "off-sample": {
    ...imageNet,
    resize: { width: 224, height: 224, fit: "fill", kernel: "align-corners" },
    crop: null,
  },
  /**
   * libvips' own resize of the shorter side to 256 and its centre crop, shrinking large JPEG while decoding: pays from
   * about 1000 pixels a side, below which `torchvision-imagenet` costs no more. The same part of the image, other
   * values: up to 0.3 apart in single normalised pixels, more where it shrank while decoding.
   */
  fast: {
    ...imageNet,
    resize: { width: 256, height: 256, fit: "shorter-side", kernel: "linear" },
    crop: { width: 224, height: 224 },
  },
};
