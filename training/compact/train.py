"""Trains a small network (SRVGGNetCompact, Wang et al. 2021) that enlarges clean images 2x or 4x faithfully.

    python train.py FOLDER SCALE MINUTES [START]

FOLDER is the one that ../classifier/corpus.py made. Goes on from FOLDER/compact-SCALEx.pt if that is there, or from START's
layers that fit. Writes it, and compact-SCALEx.safetensors in half precision.
"""

import json
import queue
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

Image.MAX_IMAGE_PIXELS = None
FEATURES, CONVOLUTIONS = 64, 16
# Of what is below 0. Learnt slopes, as PReLU has, take longer to train than all convolutions on a CPU.
SLOPE = 0.2
# Side of what the network gets. MARGIN pixels around it are scaled down too and cut off, because scaling down repeats pixels at borders.
SIDE, MARGIN, BATCH = 48, 8, 16
REDUCE = [Image.BICUBIC, Image.BICUBIC, Image.LANCZOS, Image.BOX, Image.HAMMING]


class Compact(nn.Module):
    """Pictures x 3 x height x width of 0..=1 to the same, `scale` times as large."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        sizes = [3] + [FEATURES] * (CONVOLUTIONS + 1) + [3 * scale * scale]
        self.body = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in zip(sizes, sizes[1:]))
        # Each layer starts as a small change of what it gets; without that 16 of them learn nothing for a thousand steps.
        for layer in self.body:
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            nn.init.zeros_(layer.bias)
            if layer.in_channels == layer.out_channels:
                layer.weight.data *= 0.3
                layer.weight.data[:, :, 1, 1] += torch.eye(FEATURES)
        self.body[-1].weight.data *= 0.1

    def forward(self, x):
        out = x
        for layer in self.body[:-1]:
            out = nn.functional.leaky_relu(layer(out), SLOPE)
        return nn.functional.pixel_shuffle(self.body[-1](out), self.scale) + nn.functional.interpolate(x, scale_factor=self.scale)


class Pictures:
    """Clean images in memory, at sizes at which they are sharp."""

    def __init__(self, folder, rng):
        self.rng = rng
        rows = [row for row in json.loads((folder / "corpus.json").read_text()) if not row["held_out"]]
        self.photos, self.art = [], []
        for row in rows:
            if row["kind"] == "photo":
                image = Image.open(folder / row["path"]).convert("RGB")
                # Most wallpapers are soft at their own size.
                for reduce in (1.5, 2, 3, 4, 6):
                    size = [round(side / reduce) for side in image.size]
                    if min(size) >= 400:
                        self.photos.append(np.asarray(image.resize(size, Image.LANCZOS, reducing_gap=3)))
        drawings = [row for row in rows if row["kind"] == "art"]
        for i in rng.permutation(len(drawings))[:350]:
            image = Image.open(folder / drawings[i]["path"])
            if image.mode in ("RGBA", "LA", "P"):
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
            image = image.convert("RGB")
            if min(image.size) >= 340:
                self.art.append(np.asarray(image))
        self.weights = np.sqrt([a.shape[0] * a.shape[1] for a in self.photos])
        self.weights /= self.weights.sum()

    def crop(self, side):
        rng = self.rng
        if rng.random() < 0.75:
            a = self.photos[rng.choice(len(self.photos), p=self.weights)]
        else:
            a = self.art[rng.integers(len(self.art))]
        y, x = (rng.integers(0, s - side + 1) for s in a.shape[:2])
        a = a[y : y + side, x : x + side]
        a = np.rot90(a, rng.integers(4))
        return a[:, ::-1] if rng.random() < 0.5 else a

    def pair(self, scale):
        """A crop and its reduced copy. Of two crops the busier one: there is nothing to learn from skies."""
        rng = self.rng
        whole = (SIDE + 2 * MARGIN) * scale
        large = max((self.crop(whole) for _ in range(2)), key=lambda a: np.abs(np.diff(a[::2, ::2].astype(np.float32), axis=0)).mean())
        image = Image.fromarray(np.ascontiguousarray(large))
        small = image.resize((SIDE + 2 * MARGIN,) * 2, REDUCE[rng.integers(len(REDUCE))])
        cut = slice(MARGIN, MARGIN + SIDE)
        return np.asarray(small)[cut, cut], large[MARGIN * scale : -MARGIN * scale, MARGIN * scale : -MARGIN * scale]

    def batch(self, scale):
        pairs = [self.pair(scale) for _ in range(BATCH)]
        tensor = lambda a: torch.from_numpy(np.stack(a)).permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)
        return tuple(tensor(side) for side in zip(*pairs))


def edges(a):
    return torch.cat([(a[..., 1:, :-1] - a[..., :-1, :-1]), (a[..., :-1, 1:] - a[..., :-1, :-1])], 1)


def main():
    folder, scale, minutes = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    rng = np.random.default_rng(int(time.time()))
    model = Compact(scale).to(memory_format=torch.channels_last)
    file = folder / f"compact-{scale}x.pt"
    done = 0
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.9, 0.99))
    if file.exists():
        state = torch.load(file)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done = state["steps"]
    elif len(sys.argv) > 4:
        start = torch.load(sys.argv[4])["model"]
        own = model.state_dict()
        own.update({k: v for k, v in start.items() if own[k].shape == v.shape})
        model.load_state_dict(own)
    pictures = Pictures(folder, rng)
    print(len(pictures.photos), "photographs,", len(pictures.art), "drawings,", done, "steps done", flush=True)
    batches = queue.Queue(8)
    threading.Thread(target=lambda: [batches.put(pictures.batch(scale)) for _ in iter(int, 1)], daemon=True).start()
    start, steps, mean = time.time(), 0, 0.0
    while (share := (time.time() - start) / (60 * minutes)) < 1:
        small, large = batches.get()
        rate = 1e-3 * min(1, (steps + 1) / 100) * (0.02 + 0.98 * (1 + np.cos(np.pi * share)) / 2)
        optimiser.param_groups[0]["lr"] = float(rate)
        with torch.autocast("cpu", torch.bfloat16):
            result = model(small)
        result = result.float()
        loss = (result - large).abs().mean() + 0.5 * (edges(result) - edges(large)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        steps += 1
        mean += (loss.item() - mean) / min(steps, 100)
        if steps % 100 == 0:
            plain = nn.functional.interpolate(small, scale_factor=scale, mode="bicubic")
            gain = 10 * torch.log10(((plain - large) ** 2).mean() / ((result - large) ** 2).mean()).item()
            print(f"{done + steps} steps, {time.time() - start:.0f} s, loss {mean:.5f}, {gain:+.2f} dB to a cubic", flush=True)
        if steps % 500 == 0:
            save(model, optimiser, done + steps, file)
    save(model, optimiser, done + steps, file)


def save(model, optimiser, steps, file):
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "steps": steps}, file)
    # By the names that the architecture's own code gives, where every other layer is an activation.
    arrays = {}
    for i, layer in enumerate(model.body):
        arrays |= {f"body.{2 * i}.weight": layer.weight.half().contiguous(), f"body.{2 * i}.bias": layer.bias.half()}
        if layer is not model.body[-1]:
            arrays[f"body.{2 * i + 1}.weight"] = torch.full([FEATURES], SLOPE).half()
    save_file(arrays, file.with_suffix(".safetensors"))


if __name__ == "__main__":
    main()
