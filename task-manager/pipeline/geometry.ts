import type { PreprocessSpec } from "../protocol.ts";

/**
 * One axis of an image on its way into the tensor: it is resized to `resized` pixels, of which [from, from + count)
 * are seen, as output pixels [start, start + count) of `size`. The other output pixels are padding.
 */
export interface AxisView {
  readonly resized: number;
  readonly from: number;
  readonly count: number;
  readonly start: number;
  readonly size: number;
}

export interface View {
  readonly columns: AxisView;
  readonly rows: AxisView;
}

/** Where the pixels of an image of this size end up: resized as `spec.resize` says, then cropped at the centre. */
export function viewOf(width: number, height: number, spec: Pick<PreprocessSpec, "resize" | "crop">): View {
  const resized = resizedSize(width, height, spec.resize);
  const { fit } = spec.resize;
  const onCanvas = fit === "cover" || fit === "contain";
  const columns = onCanvas ? centred(wholeAxis(resized.width), spec.resize.width) : wholeAxis(resized.width);
  const rows = onCanvas ? centred(wholeAxis(resized.height), spec.resize.height) : wholeAxis(resized.height);
  if (spec.crop === null) return { columns, rows };
  return { columns: centred(columns, spec.crop.width), rows: centred(rows, spec.crop.height) };
}

/** `shorter-side` is torchvision's Resize(int): the longer side is truncated, so 640 x 480 at 256 gives 341 x 256. */
function resizedSize(width: number, height: number, resize: PreprocessSpec["resize"]): { width: number; height: number } {
  switch (resize.fit) {
    case "fill":
      return { width: resize.width, height: resize.height };
    case "shorter-side":
      return width <= height
        ? { width: resize.width, height: Math.trunc((resize.width * height) / width) }
        : { width: Math.trunc((resize.width * width) / height), height: resize.width };
    case "cover":
    case "contain": {
      const widthDecides = resize.width * height > resize.height * width === (resize.fit === "cover");
      return widthDecides
        ? { width: resize.width, height: Math.max(1, Math.round((resize.width * height) / width)) }
        : { width: Math.max(1, Math.round((resize.height * width) / height)), height: resize.height };
    }
  }
}

function wholeAxis(resized: number): AxisView {
  return { resized, from: 0, count: resized, start: 0, size: resized };
}

/** torchvision's center_crop: pads by half the difference, truncated, or crops at half of it, rounded half to even. */
function centred(view: AxisView, size: number): AxisView {
  const offset = size > view.size ? -Math.floor((size - view.size) / 2) : roundHalfToEven((view.size - size) / 2);
  const first = Math.max(view.start, offset);
  const end = Math.min(view.start + view.count, offset + size);
  return {
    resized: view.resized,
    from: view.from + first - view.start,
    count: Math.max(0, end - first),
    start: first - offset,
    size,
  };
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
