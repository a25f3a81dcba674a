"""Makes the images and golden values of test/fixtures/preprocess.

Run with Debian 12's python3-torch 1.13, python3-torchvision 0.14, python3-pil 9.4:

    python3 scripts/make-preprocess-goldens.py

Images are synthetic (seeded), so that they are ours to give away. goldens.json holds for each image

- torchvision: sha256 of the 224 x 224 RGB bytes after Resize(256) and CenterCrop(224), which the kernel must equal to
  the bit, and 500 values of the normalised float32 tensor;
- offSample: 500 values and the 588 means over blocks of 16 x 16 of the normalised tensor sampled on the
  align-corners grid (in float64, and the largest distance of torch's own float32 answers to it);
- truncation: the lengths at which Pillow refuses the file cut short.
"""
import base64
import hashlib
import io
import json
import pathlib
import struct
import warnings
import zlib

import numpy as np
import torch
import torch.nn.functional as functional
from PIL import Image
from torchvision import transforms

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "preprocess"
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
SAMPLES = 500


# ---- images ----

def photo(width, height, seed, bands=3):
    """Smooth colours with edges and some noise: compresses like a photograph and has every value from 0 to 255."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, bands))
    for scale in (4, 16, 64):
        coarse = rng.normal(size=(height // scale + 2, width // scale + 2, bands)) * scale ** 0.5 * 12
        layers = [Image.fromarray(coarse[..., band].astype("f4"), "F").resize((width, height), Image.BICUBIC) for band in range(bands)]
        total += np.stack([np.array(layer) for layer in layers], -1)
    y, x = np.mgrid[0:height, 0:width]
    total += 60 * ((x // 37 + y // 23) % 2)[..., None] + rng.normal(size=total.shape) * 2
    pixels = np.clip(total + 98, 0, 255).astype("u1")
    return Image.fromarray(pixels[..., 0] if bands == 1 else pixels)


def save(name, image, **options):
    image.save(OUT / name, **options)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(name, width, height, depth, color, rows, extra=b""):
    """For what Pillow cannot write: 16 bits a sample, colour keys."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 9))
    (OUT / name).write_bytes(b"\x89PNG\r\n\x1a\n" + header + extra + data + png_chunk(b"IEND", b""))


def swapped_profile():
    """An ICC profile of RGB with red and blue exchanged: whoever applies it cannot go unnoticed."""
    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x0233) + b"\0\0"
    tags = {
        b"wtpt": xyz(0.9642, 1.0, 0.8249), b"rXYZ": xyz(0.1431, 0.0606, 0.7141), b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.4360, 0.2225, 0.0139), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 8) + b"swapped\0" + b"\0" * 78 + b"\0\0",
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
    }
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s12s4s4sI", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"\0" * 12, b"acsp", b"\0" * 4, 0)
    header += b"\0" * 20 + struct.pack(">iii", 63190, 65536, 54061) + b"\0" * 48
    return header + struct.pack(">I", len(tags)) + table + body


def make_images():
    save("baseline-640x480.jpg", photo(640, 480, 1), quality=70)
    save("portrait-333x500.jpg", photo(333, 500, 2), quality=60)
    save("progressive-301x227.jpg", photo(301, 227, 3), quality=70, progressive=True)
    save("full-chroma-257x255.jpg", photo(257, 255, 4), quality=70, subsampling=0)
    save("half-chroma-283x191.jpg", photo(283, 191, 5), quality=60, subsampling=1)
    save("gray-311x203.jpg", photo(311, 203, 6, bands=1), quality=70)
    save("cmyk-160x120.jpg", photo(160, 120, 7).convert("CMYK"), quality=70)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("rotated-by-exif-200x150.jpg", photo(200, 150, 8), quality=70, exif=exif.tobytes())
    save("profile-190x140.jpg", photo(190, 140, 9), quality=70, icc_profile=swapped_profile())
    save("square-256x256.jpg", photo(256, 256, 10), quality=60)
    save("shorter-side-256x311.jpg", photo(256, 311, 11), quality=60)
    save("tall-40x900.jpg", photo(40, 900, 12), quality=60)
    # Reduced by an odd and a large factor; smooth, so that it stays small.
    save("large-1900x1427.jpg", photo(190, 143, 13).resize((1900, 1427), Image.BICUBIC), quality=30)
    tail = (OUT / "half-chroma-283x191.jpg").read_bytes() + b"\0" * 512 + b"trailing"
    (OUT / "trailing-bytes-283x191.jpg").write_bytes(tail)

    save("rgb-97x131.png", photo(97, 131, 20))
    save("gray-90x70.png", photo(90, 70, 21, bands=1))
    save("one-bit-120x90.png", photo(120, 90, 22, bands=1).convert("1"))
    save("palette-150x110.png", photo(150, 110, 23).quantize(64))
    save("palette-transparent-150x110.png", photo(150, 110, 24).quantize(64), transparency=bytes(range(0, 256, 4)))
    alpha = photo(110, 80, 25, bands=1)
    color = photo(110, 80, 26)
    color.putalpha(alpha)
    save("alpha-110x80.png", color)
    gray = photo(110, 80, 27, bands=1)
    gray.putalpha(alpha)
    save("gray-alpha-110x80.png", gray)
    rng = np.random.default_rng(28)
    wide = np.clip(np.asarray(photo(80, 60, 28), dtype="u4") * 257 + rng.integers(-128, 128, (60, 80, 3)), 0, 65535).astype(">u2")
    write_png("sixteen-bit-80x60.png", 80, 60, 16, 2, [row.tobytes() for row in wide])
    write_png("sixteen-bit-gray-80x60.png", 80, 60, 16, 0, [row[:, 0].tobytes() for row in wide])
    key = np.asarray(photo(70, 50, 29))
    write_png("color-key-70x50.png", 70, 50, 8, 2, [row.tobytes() for row in key],
              png_chunk(b"tRNS", b"".join(struct.pack(">H", int(value)) for value in key[0, 0])))
    save("one-pixel-1x1.png", Image.new("RGB", (1, 1), (200, 30, 90)))
    save("two-pixels-2x1.png", Image.fromarray(np.array([[[255, 0, 10], [0, 255, 200]]], "u1")))
    save("thin-1x300.png", photo(1, 300, 30))
    save("wide-4000x3.png", photo(4000, 3, 31).quantize(32))

    save("lossy-222x166.webp", photo(222, 166, 40), quality=60)
    save("lossless-100x75.webp", photo(100, 75, 41), lossless=True)
    see_through = photo(120, 100, 42)
    see_through.putalpha(photo(120, 100, 43, bands=1).point(lambda value: 0 if value < 90 else value))
    save("alpha-120x100.webp", see_through, quality=60)
    frames = [photo(60, 80, seed) for seed in (44, 45)]
    save("animated-60x80.webp", frames[0], save_all=True, append_images=frames[1:], quality=50)

    frames = [photo(130, 98, seed).quantize(64) for seed in (50, 51, 52)]
    save("animated-130x98.gif", frames[0], save_all=True, append_images=frames[1:])
    save("transparent-90x60.gif", photo(90, 60, 53).quantize(32), transparency=3)

    save("lzw-140x100.tiff", photo(140, 100, 60), compression="tiff_lzw")
    save("gray-90x120.tiff", photo(90, 120, 61, bands=1), compression="tiff_deflate")
    save("big-endian-50x40.tiff", photo(50, 40, 62))
    swap_tiff(OUT / "big-endian-50x40.tiff")


def swap_tiff(path):
    """Writes an uncompressed 8-bit RGB TIFF again in Motorola byte order."""
    image = Image.open(path).convert("RGB")
    entries = [(256, 3, image.width), (257, 3, image.height), (258, 3, 8), (259, 3, 1), (262, 3, 2), (273, 4, 0),
               (277, 3, 3), (278, 3, image.height), (279, 4, image.width * image.height * 3)]
    bits_at = 8 + 2 + 12 * len(entries) + 4
    directory = struct.pack(">H", len(entries))
    for tag, kind, value in entries:
        if tag == 258:
            directory += struct.pack(">HHII", tag, 3, 3, bits_at)
        elif kind == 3:
            directory += struct.pack(">HHIHH", tag, 3, 1, value, 0)
        else:
            directory += struct.pack(">HHII", tag, 4, 1, bits_at + 6 if tag == 273 else value)
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8) + directory + struct.pack(">I", 0) + struct.pack(">HHH", 8, 8, 8) + image.tobytes())


# ---- goldens ----

def encode(values):
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def positions(length):
    return np.random.default_rng(7).permutation(length)[:SAMPLES]


def torchvision_golden(image):
    cropped = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(image)
    normalised = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN.flatten(), STD.flatten())])(cropped)
    values = normalised.numpy().ravel()
    return {"sha256": hashlib.sha256(np.asarray(cropped).tobytes()).hexdigest(), "samples": encode(values[positions(values.size)])}


def off_sample_golden(image):
    pixels = transforms.ToTensor()(image)[None]
    exact = functional.interpolate(pixels.double(), (224, 224), mode="bilinear", align_corners=True)[0]
    single = functional.interpolate(pixels, (224, 224), mode="bilinear", align_corners=True)[0]
    grid = functional.affine_grid(torch.eye(2, 3)[None], [1, 3, 224, 224], align_corners=True)
    gridded = functional.grid_sample(pixels, grid, mode="bilinear", align_corners=True)[0]
    normalised = ((exact - MEAN) / STD).numpy()
    return {
        "samples": encode(normalised.ravel()[positions(normalised.size)]),
        "blockMeans": encode(normalised.reshape(3, 14, 16, 14, 16).mean((2, 4))),
        "float32Distance": {
            "interpolate": float(((single - exact) / STD).abs().max()),
            "gridSample": float(((gridded - exact) / STD).abs().max()),
        },
    }


def pillow_refuses(data):
    try:
        Image.open(io.BytesIO(data)).convert("RGB")
        return False
    except Exception:
        return True


def truncation_golden(data):
    lengths = sorted({len(data) * step // 40 for step in range(1, 40)} | {len(data) - left for left in range(1, 20)})
    return [length for length in lengths if pillow_refuses(data[:length])]


def main():
    warnings.simplefilter("ignore")
    OUT.mkdir(parents=True, exist_ok=True)
    make_images()
    goldens = {}
    for path in sorted(OUT.iterdir()):
        if path.suffix not in (".jpg", ".png", ".webp", ".gif", ".tiff"):
            continue
        data = path.read_bytes()
        image = Image.open(io.BytesIO(data)).convert("RGB")
        goldens[path.name] = {
            "width": image.width, "height": image.height,
            "torchvision": torchvision_golden(image), "offSample": off_sample_golden(image),
            "truncation": truncation_golden(data),
        }
    length = 3 * 224 * 224
    document = {"positions": [int(at) for at in positions(length)], "images": goldens}
    (OUT / "goldens.json").write_text(json.dumps(document, indent=1) + "\n")


main()
