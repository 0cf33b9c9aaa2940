"""How often the classifier is right on images that it was not trained on, by kind of damage.

    python evaluate.py FOLDER
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import damage as d
from train import Classifier, load

MOST = 640


def verdict(model, a):
    """Probabilities from the mean of all cells."""
    h, w = (side // 8 * 8 for side in a.shape[:2])
    x = torch.from_numpy(np.ascontiguousarray(np.round(np.clip(a[:h, :w], 0, 255)).transpose(2, 0, 1)) / 255).float()
    with torch.no_grad():
        return torch.sigmoid(model(x[None])[0].mean((1, 2))).numpy()


def centre(a, side=MOST):
    h, w = min(a.shape[0], side), min(a.shape[1], side)
    y, x = (a.shape[0] - h) // 2, (a.shape[1] - w) // 2
    return a[y : y + h, x : x + w]


def photos(folder):
    """Two images from each held-out photo: the whole photo, small, and a crop at half size."""
    for row in json.loads((folder / "corpus.json").read_text()):
        if row["kind"] == "photo" and row["held_out"]:
            image = load(folder / row["path"])
            small = image.resize((720, round(720 * image.height / image.width)), Image.LANCZOS)
            yield row["path"] + " small", centre(d.to_array(small), 720)
            half = image.resize((image.width // 2, image.height // 2), Image.BOX)
            yield row["path"] + " part", centre(d.to_array(half))


def drawings(folder):
    rows = [r for r in json.loads((folder / "corpus.json").read_text()) if r["kind"] == "art" and r["held_out"]]
    for row in random.Random(7).sample(rows, 70):
        yield row["path"], centre(d.to_array(load(folder / row["path"])))


KINDS = {
    # name: (damage, output, whether it is to be above its threshold)
    "clean": (lambda a, r: a, 0, False),
    "clean, not soft": (lambda a, r: a, 1, False),
    "clean, not drawn": (lambda a, r: a, 2, False),
    "JPEG 95": (lambda a, r: d.jpeg(a, 95), 0, False),
    "JPEG 50": (lambda a, r: d.jpeg(a, 50), 0, True),
    "JPEG 75": (lambda a, r: d.jpeg(a, 75), 0, True),
    "JPEG 50 cropped": (lambda a, r: d.jpeg(a, 50)[3:, 5:], 0, True),
    "JPEG 50 at 0.8": (lambda a, r: d.resized(d.jpeg(a, 50), 0.8, Image.BICUBIC), 0, True),
    "JPEG 50 at 1.3": (lambda a, r: d.resized(d.jpeg(a, 50), 1.3, Image.BICUBIC), 0, True),
    "JPEG 40 cropped, 90": (lambda a, r: d.jpeg(d.jpeg(a, 40)[3:, 2:], 90), 0, True),
    "WebP 40": (lambda a, r: d.webp(a, 40), 0, True),
    "noise 5": (lambda a, r: d.noise(a, 5, r, "rgb"), 0, True),
    "noise 10": (lambda a, r: d.noise(a, 10, r, "rgb"), 0, True),
    "noise 10 as JPEG 90": (lambda a, r: d.jpeg(np.clip(d.noise(a, 10, r, "rgb"), 0, 255), 90), 0, True),
    "noise 10 of luminance": (lambda a, r: d.noise(a, 10, r, "luma"), 0, True),
    "grey with noise 10": (lambda a, r: d.noise(d.grey(a), 10, r, "luma"), 0, True),
    "sepia with grain": (lambda a, r: d.sepia(d.grain(a, 9, 0.6, r)), 0, True),
    "night phone": (lambda a, r: d.night(a, r), 0, True),
    "blur 1.5": (lambda a, r: d.blurred(a, 1.5), 1, True),
    "blur 1.0": (lambda a, r: d.blurred(a, 1.0), 1, True),
    "enlarged 2x": (lambda a, r: d.resized(d.resized(a, 0.5, Image.BOX), 2, Image.BICUBIC), 1, True),
}
ART = {
    "PNG": lambda a: a,
    "reduced 2x": lambda a: d.resized(a, 0.5, Image.LANCZOS),
    "JPEG 85": lambda a: d.jpeg(a, 85),
    "JPEG 60": lambda a: d.jpeg(a, 60),
}


def main(folder, file):
    torch.set_num_threads(1)
    model = Classifier()
    model.load_state_dict(torch.load(file))
    all_photos, all_drawings = list(photos(folder)), list(drawings(folder))
    for name, (damage, output, wanted) in KINDS.items():
        rng = np.random.default_rng(1)
        got = sorted((float(verdict(model, np.clip(damage(a, rng), 0, 255))[output]), path) for path, a in all_photos)
        values = [v for v, _ in got]
        right = sum((v > 0.5) == wanted for v in values)
        worst = got[:3] if wanted else got[-3:]
        print(f"{name:24} {right:3} of {len(values)}  median {np.median(values):.2f}  " + ", ".join(f"{v:.2f} {p.split('/')[-1][:18]}" for v, p in worst), flush=True)
    for name, damage in ART.items():
        got = [verdict(model, damage(a)) for _, a in all_drawings]
        print(f"art, {name:19} {sum(v[2] > 0.5 for v in got):3} of {len(got)}", flush=True)
    got = [verdict(model, a) for _, a in all_drawings]
    print("art PNG, called damaged", sum(v[0] > 0.5 for v in got), "soft", sum(v[1] > 0.5 for v in got))
    got = [verdict(model, d.jpeg(a, 60)) for _, a in all_drawings]
    print("art JPEG 60, called damaged", sum(v[0] > 0.5 for v in got))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else Path(sys.argv[1]) / "classifier.pt")
