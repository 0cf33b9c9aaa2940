"""Trains the classifier: a small convolutional network that says of each 8 x 8 cell of a picture how likely it is damaged
(compressed or noisy), soft (out of focus or enlarged before) and drawn (flat art, lines, text, screens).

    python train.py FOLDER [MINUTES]

FOLDER is the one that corpus.py made. Goes on from FOLDER/classifier.pt if that is there. Writes it, and classifier.safetensors
in half precision, which belongs at crates/enlarger-pipeline/src/classifier/weights.safetensors.
"""

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import nn

import damage as d

Image.MAX_IMAGE_PIXELS = None
SIDE = 96
NAMES = ["damaged", "soft", "drawn"]


class Classifier(nn.Module):
    """Pictures x 3 x height x width of 0..=1, sides multiples of 8, to logits of cells of 8 x 8 pixels."""

    WIDTHS = [(19, 24, 1), (24, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1)]

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, stride, 1) for a, b, stride in self.WIDTHS)
        self.head = nn.Conv2d(48, len(NAMES), 1)

    def forward(self, x):
        x = features(x)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def features(rgb):
    """What the network sees, at half the size: the mean colour, and how much neighbours differ. Damage is a matter of a few
    levels in 255; beside a picture's own contrast it would be too small to be learnt from, so differences d become d / (d + 4)."""
    rgb = rgb * 255
    luminance = (rgb * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    opponent = rgb[:, :1] - rgb[:, 1:2]
    padded, colour = (nn.functional.pad(plane, (0, 1, 0, 1), mode="replicate") for plane in (luminance, opponent))
    across = padded[:, :, :-1, 1:] - padded[:, :, :-1, :-1]
    down = padded[:, :, 1:, :-1] - padded[:, :, :-1, :-1]
    diagonal = haar(padded)
    differences = torch.cat([across, down, diagonal, haar(colour)], 1).abs()
    seen = nn.functional.pixel_unshuffle(differences / (differences + 4) * 2, 2)
    return torch.cat([seen, nn.functional.avg_pool2d(rgb, 2) / 64 - 2], 1)


def haar(plane):
    return (plane[:, :, :-1, :-1] - plane[:, :, :-1, 1:] - plane[:, :, 1:, :-1] + plane[:, :, 1:, 1:]) / 2


def load(path):
    """An image with a plain background behind its transparent parts."""
    image = Image.open(path)
    if image.width * image.height > 14e6:
        image.draft("RGB", (image.width // 2, image.height // 2))
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        back = random.choice([(255, 255, 255)] * 3 + [tuple(random.randrange(256) for _ in range(3))])
        under = Image.new("RGBA", image.size, back + (255,))
        image = Image.alpha_composite(under, image)
    return image.convert("RGB")


class Source:
    """Crops of clean pictures. Photographs are kept in memory at several sizes."""

    def __init__(self, folder, held_out, rng):
        rows = [r for r in json.loads((folder / "corpus.json").read_text()) if r["held_out"] == held_out]
        self.folder, self.rng = folder, rng
        self.photos = []
        for row in rows:
            if row["kind"] == "photo":
                image = load(folder / row["path"])
                for reduce in (1, 2, 3, 4, 6):
                    size = (image.width // reduce, image.height // reduce)
                    if min(size) >= 216 and size[0] * size[1] <= 9e6:
                        self.photos.append(np.asarray(image if reduce == 1 else image.resize(size, Image.LANCZOS if rng.random() < 0.5 else Image.BOX)))
        self.art = [folder / r["path"] for r in rows if r["kind"] == "art"]
        self.kept = {}

    def photo(self, side):
        a = self.photos[self.rng.integers(len(self.photos))]
        return self.cut(a, side)

    def drawing(self, side):
        for _ in range(30):
            path = self.art[self.rng.integers(len(self.art))]
            a = self.kept.get(path)
            if a is None:
                image = load(path)
                if min(image.size) > 900:
                    image = image.resize((image.width // 2, image.height // 2), Image.LANCZOS)
                a = np.asarray(image)
                if len(self.kept) < 800:
                    self.kept[path] = a
            if self.rng.random() < 0.35 and min(a.shape[:2]) > 2.2 * side:
                size = (a.shape[1] // 2, a.shape[0] // 2)
                a = np.asarray(Image.fromarray(a).resize(size, [Image.LANCZOS, Image.BOX, Image.BICUBIC][self.rng.integers(3)]))
            if min(a.shape[:2]) < side:
                pad = [(0, max(0, side - s)) for s in a.shape[:2]] + [(0, 0)]
                a = np.pad(a, pad, mode="edge")
            a = self.cut(a, side)
            if a.std() > 4:
                return a
        return a

    def text(self, side):
        """A page, a caption or a terminal."""
        fonts = sorted(Path("/usr/share/fonts").rglob("*.ttf"))
        light, dark = self.rng.integers(190, 256, 3), self.rng.integers(0, 90, 3)
        if self.rng.random() < 0.3:
            light, dark = dark, light
        image = Image.new("RGB", (side, side), tuple(int(c) for c in light))
        draw = ImageDraw.Draw(image)
        size = int(self.rng.integers(8, 40))
        font = ImageFont.truetype(str(fonts[self.rng.integers(len(fonts))]), size)
        letters = list("etaoinshrdlucmfwypvbgkqjxz     ,.ETAOIN0123456789")
        for y in range(-int(self.rng.integers(0, size)), side, int(size * self.rng.uniform(1.1, 1.8))):
            if self.rng.random() < 0.9:
                line = "".join(self.rng.choice(letters, int(side / size * self.rng.uniform(0.5, 3))))
                draw.text((int(self.rng.integers(-size, size)), y), line, tuple(int(c) for c in dark), font)
        return np.asarray(image).astype(np.float32)

    def pixels(self, side):
        """Pixel art, each of its pixels two to four large."""
        large = int(self.rng.integers(2, 5))
        a = self.drawing(side)
        small = np.asarray(Image.fromarray(a.astype(np.uint8)).resize((-(-side // large),) * 2, Image.BOX))
        if self.rng.random() < 0.7:
            small = np.asarray(Image.fromarray(small).quantize(int(self.rng.integers(6, 40)), dither=0).convert("RGB"))
        return small.repeat(large, 0).repeat(large, 1)[:side, :side].astype(np.float32)

    def cut(self, a, side):
        y, x = (self.rng.integers(0, s - side + 1) for s in a.shape[:2])
        return a[y : y + side, x : x + side].astype(np.float32)


def compressed(a, rng):
    """The same, and how far it counts as damaged."""
    quality = rng.integers(20, 80) if rng.random() < 0.7 else rng.integers(80, 99)
    if rng.random() < 0.25:
        return d.webp(a, quality - 5), visible(quality)
    return d.jpeg(a, quality, int(rng.choice([0, 2, 2, 2]))), visible(quality)


def visible(quality):
    """How visible a JPEG's damage is: from 0 at quality 90 and above to 1 at 65 and below."""
    return float(np.clip((90 - quality) / 25, 0, 1))


def example(source, rng):
    """A crop of SIDE pixels, its labels, and a weight for each of them."""
    drawn = rng.random() < 0.4
    side = SIDE * 2 + 16
    kind = rng.random()
    if not drawn:
        a = source.photo(side)
    elif kind < 0.12:
        a = source.text(side)
    elif kind < 0.2:
        a = source.pixels(side)
    else:
        a = source.drawing(side)
    if rng.random() < 0.12:
        a = d.grey(a)
    if rng.random() < 0.06:
        a = d.sepia(a)
    if rng.random() < 0.3:
        a = np.clip((a - 128) * rng.uniform(0.6, 1.2) + 128 + rng.uniform(-30, 30), 0, 255)
    damaged = soft = 0.0
    weight = [1.0, 1.0, 1.0]
    # Soft first: out of focus, or enlarged before.
    if rng.random() < 0.28:
        how = rng.integers(4)
        if how == 0:
            sigma = rng.uniform(0.4, 2.5)
            a, soft = d.blurred(a, sigma), np.clip((sigma - 0.5) / 0.5, 0, 1)
        elif how == 1:
            radius = rng.uniform(0.8, 3.5)
            a, soft = d.defocused(a, radius), np.clip((radius - 0.9) / 0.6, 0, 1)
        else:
            factor = rng.uniform(1.2, 3.5)
            small = d.resized(a, 1 / factor, d.FILTERS[rng.integers(4)])
            a, soft = d.resized(small, factor, d.FILTERS[rng.integers(3)]), np.clip((factor - 1.25) / 0.5, 0, 1)
    way = rng.random()
    if way < 0.22:
        a, damaged = compressed(a, rng)
    elif way < 0.42:
        # Compressed, then cropped or resized, then perhaps saved again.
        a, damaged = compressed(a, rng)
        if rng.random() < 0.6:
            factor = rng.uniform(0.5, 1.5)
            a = d.resized(a, factor, d.FILTERS[rng.integers(3)])
            if factor < 0.75:
                damaged *= np.clip((factor - 0.35) / 0.4, 0, 1)
            if factor > 1.25:
                soft = max(soft, float(np.clip((factor - 1.25) / 0.5, 0, 1)))
        y, x = rng.integers(0, 9, 2)
        a = a[y:, x:]
        if rng.random() < 0.5:
            quality = rng.integers(82, 97)
            a, damaged = d.jpeg(a, quality), max(damaged, visible(quality))
    elif way < 0.66:
        sigma = rng.uniform(2, 22)
        kind = rng.random()
        if kind < 0.5:
            a = d.noise(a, sigma, rng, ["rgb", "luma", "shot"][rng.integers(3)])
        elif kind < 0.8:
            a = d.grain(a, sigma * 0.7, rng.uniform(0.4, 1.2), rng)
            if rng.random() < 0.4:
                a = d.sepia(a)
        elif not drawn:
            a, sigma = d.night(a, rng), 9
        else:
            a = d.noise(a, sigma, rng, "rgb")
        damaged = float(np.clip((sigma - 2.5) / 2.5, 0, 1))
        if rng.random() < 0.25:
            a = d.grey(a)
        if rng.random() < 0.45:
            quality = rng.integers(75, 97)
            a, damaged = d.jpeg(np.clip(a, 0, 255), quality), max(damaged, visible(quality))
    # Heavy damage hides softness, and the other way round.
    if damaged > 0.3:
        weight[1] = 0.3
    y, x = (rng.integers(0, max(1, s - SIDE + 1)) for s in a.shape[:2])
    a = a[y : y + SIDE, x : x + SIDE]
    if a.shape[0] < SIDE or a.shape[1] < SIDE:
        a = np.pad(a, [(0, SIDE - a.shape[0]), (0, SIDE - a.shape[1]), (0, 0)], mode="reflect")
    if rng.random() < 0.5:
        a = a[:, ::-1]
    if rng.random() < 0.5:
        a = a.transpose(1, 0, 2)
    a = np.round(np.clip(a, 0, 255)) / 255
    return a.astype(np.float32), [damaged, soft, float(drawn)], weight


class Examples(torch.utils.data.IterableDataset):
    def __init__(self, folder, seed):
        self.folder, self.seed = folder, seed

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        seed = self.seed + (info.id if info else 0)
        random.seed(seed)
        rng = np.random.default_rng(seed)
        source = Source(self.folder, False, rng)
        while True:
            a, labels, weight = example(source, rng)
            yield torch.from_numpy(a.transpose(2, 0, 1).copy()), torch.tensor(labels, dtype=torch.float32), torch.tensor(weight)


def main(folder, minutes):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    classifier = Classifier()
    print("parameters", sum(p.numel() for p in classifier.parameters()))
    data = iter(torch.utils.data.DataLoader(Examples(folder, int(time.time())), batch_size=48, num_workers=1, prefetch_factor=4))
    last = folder / "classifier.pt"
    if last.exists():
        classifier.load_state_dict(torch.load(last))
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=1e-4)
    start, step, mean = time.time(), 0, None
    while (spent := (time.time() - start) / 60) < minutes:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * max(0.02, 0.5 + 0.5 * np.cos(np.pi * spent / minutes)) * min(1, (step + 1) / 100)
        pictures, labels, weight = next(data)
        if step % 4 == 0:
            pictures = pictures[:, :, :64, :64]
        cells = classifier(pictures.to(memory_format=torch.channels_last))
        # A crop's verdict is the mean of its cells'; a cell's own counts a little, so that the map says where.
        whole = nn.functional.binary_cross_entropy_with_logits(cells.mean((2, 3)), labels, weight=weight)
        each = nn.functional.binary_cross_entropy_with_logits(cells, labels[:, :, None, None].expand_as(cells), weight=weight[:, :, None, None])
        loss = whole + 0.5 * each
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimiser.step()
        mean = loss.item() if mean is None else 0.99 * mean + 0.01 * loss.item()
        step += 1
        if step % 25 == 0:
            print(f"{spent:.1f} min, step {step}, loss {mean:.4f} (whole {whole.item():.3f})", flush=True)
            save(classifier, folder)
    save(classifier, folder)


def save(classifier, folder):
    torch.save(classifier.state_dict(), folder / "classifier.pt")
    layers = [*classifier.layers, classifier.head]
    arrays = {f"{i}.{name}": value.detach().half().contiguous() for i, layer in enumerate(layers) for name, value in layer.named_parameters()}
    save_file(arrays, folder / "classifier.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 60)
