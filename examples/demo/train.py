"""Trains the demo's digit classifier and writes digits.onnx beside this file.

Usage, in the checkout after `npm ci`:
    node examples/demo/draw-all.mjs DIRECTORY
    python3 examples/demo/train.py DIRECTORY

Trains on DIRECTORY/training (8000 digits, each drawn twice) and judges the result once, at the end, on
DIRECTORY/served (the 2000 digits that the demo serves, none of them trained on). Needs PyTorch 1.13, ONNX,
Pillow and NumPy (Debian 12: python3-torch python3-onnx python3-pil python3-numpy).
"""
import os
import sys
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image
from torch import nn

SIDE = 64
EPOCHS = 12
BATCH = 64
OUT = Path(__file__).with_name("digits.onnx")


def tensor_of(path):
    """What `task.preprocess` of the demo's job says, in Pillow: the shorter side to 64, the square at the centre."""
    gray = Image.open(path).convert("L")
    scale = SIDE / min(gray.size)
    resized = gray.resize([int(side * scale) for side in gray.size], Image.BILINEAR)
    left, top = (round((side - SIDE) / 2) for side in resized.size)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))


def load(folder):
    """uint8 [n, 1, 64, 64] and the digits that the pictures show."""
    paths = sorted(folder.glob("*.jpg"))
    with Pool() as pool:
        pictures = pool.map(tensor_of, paths, chunksize=64)
    digits = [int(path.stem.split("-")[1]) for path in paths]
    return torch.from_numpy(np.stack(pictures)[:, None]), torch.tensor(digits)


def normalised(pictures):
    return (pictures.float() / 255 - 0.5) / 0.25


def shaken(pictures, generator):
    """The same pictures moved by a few pixels, lighter or darker."""
    padded = nn.functional.pad(pictures, (4, 4, 4, 4), mode="replicate")
    moved = torch.empty_like(pictures)
    for at, (x, y) in enumerate(torch.randint(0, 9, (len(pictures), 2), generator=generator).tolist()):
        moved[at] = padded[at, :, y:y + SIDE, x:x + SIDE]
    gain = 0.85 + 0.3 * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    offset = 0.4 * torch.rand(len(pictures), 1, 1, 1, generator=generator) - 0.2
    return moved * gain + offset


def network():
    def block(inputs, outputs, size, stride):
        return [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 16, 5, 2),
        *block(16, 32, 3, 1), nn.MaxPool2d(2),
        *block(32, 64, 3, 1), nn.MaxPool2d(2),
        *block(64, 64, 3, 1), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10),
    )


def train(model, pictures, digits):
    generator = torch.Generator().manual_seed(11)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps = EPOCHS * (len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    model.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(pictures), generator=generator)[:len(pictures) // BATCH * BATCH]
        losses = []
        for batch in order.split(BATCH):
            loss = nn.functional.cross_entropy(model(shaken(normalised(pictures[batch]), generator)), digits[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.4f}", flush=True)


def accuracy(model, pictures, digits):
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(normalised(part)).argmax(1) for part in pictures.split(256)])
    return (answers == digits).float().mean().item()


def export(model):
    free_batch = {0: "batch"}
    torch.onnx.export(
        model.eval(), torch.zeros(1, 1, SIDE, SIDE), str(OUT), opset_version=13, input_names=["image"],
        output_names=["digit"], dynamic_axes={"image": free_batch, "digit": free_batch},
    )
    exported = onnx.load(str(OUT))
    onnx.checker.check_model(exported)
    print(f"{OUT.name}: {OUT.stat().st_size} bytes, IR {exported.ir_version}, opset {exported.opset_import[0].version}")


def main():
    torch.manual_seed(11)
    torch.set_num_threads(os.cpu_count())
    directory = Path(sys.argv[1])
    model = network()
    train(model, *load(directory / "training"))
    print(f"accuracy on the served digits: {accuracy(model, *load(directory / 'served')):.4f}")
    export(model)


main()
