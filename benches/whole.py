"""Time of `enlarger upscale` beyond the network itself, whether time grows with pixels, and peak memory.

Usage: whole.py ENLARGER PHOTO [--rounds N] [--models a,b] [--sizes 0.25,1,4,12] [--slow 1] [--out docs/reference/performance.md]

ENLARGER is the release binary, PHOTO any photograph: it is enlarged to each size first. The whole command (from JPEG to
PNG) and the network alone (`enlarger bench`, from memory to memory) run in turn, and each figure is of the fastest round, since other programs may use
the machine. What networks took within the whole command is told by itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from document import put


def run(command):
    """Standard output, seconds and peak megabytes of a program."""
    started = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, (command, status)
    return text, time.monotonic() - started, usage.ru_maxrss * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("enlarger")
    parser.add_argument("photo")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", default="animevideo-v3,default")
    parser.add_argument("--sizes", default="0.25,1,4,12")
    parser.add_argument("--slow", type=float, default=1, help="million pixels up to which large networks run: minutes each")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    binary = arguments.enlarger
    lines = [
        "| network | input | seconds | per MP of input | of which networks | ratio | networks alone | ratio | peak, MB | allowed, MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models.split(","):
            named = [] if model == "default" else ["-m", model]
            for size in [float(size) for size in arguments.sizes.split(",")]:
                if model != "animevideo-v3" and size > arguments.slow:
                    continue
                side = round((size * 1e6) ** 0.5) // 16 * 16
                picture, result = os.path.join(folder, f"{side}.jpg"), os.path.join(folder, "out.png")
                if not os.path.exists(picture):
                    made = ["-m", "animevideo-v3", "--width", str(side), "-f", "jpeg", "-o", picture, "--quiet"]
                    run([binary, "upscale", arguments.photo, *made])
                whole, alone, peak, names = [], [], 0, []
                for _ in range(arguments.rounds):
                    upscale = [binary, "upscale", picture, "-s", "4", "-o", result, "--overwrite", "--json", "--quiet"]
                    text, seconds, memory = run([*upscale, *named])
                    result_of = json.loads(text)["result"]
                    whole.append((seconds, result_of["timings"]["network"]))
                    peak = max(peak, memory)
                    names = [
                        name
                        for step in result_of["plan"]["steps"]
                        if step["do"] == "network"
                        for name in [step["model"]] + [mix["model"] for mix in [step.get("mix")] if mix]
                    ]
                    threads = str(os.cpu_count())
                    bench = [binary, "bench", "--size", str(side), "--threads", threads, "--json", "--quiet"]
                    networks = [argument for name in names for argument in ("-m", name)]
                    runs = json.loads(run([*bench, *networks])[0])["runs"]
                    alone.append(sum(one["seconds"] for one in runs))
                megapixels = side * side / 1e6
                allowed = 400 + megapixels * 3 * 17
                (seconds, inside), network = min(whole), min(alone)
                lines.append(
                    f"| {' + '.join(names)} | {side}x{side} | {seconds:.2f} | {seconds / megapixels:.2f} | {inside:.2f} "
                    f"| {seconds / inside:.2f} | {network:.2f} | {seconds / network:.2f} | {peak:.0f} | {allowed:.0f} |"
                )
                print(lines[-1], file=sys.stderr)
        doctor = json.loads(run([binary, "doctor", "--json"])[0])
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    heading = (
        f"{cpu}, {os.cpu_count()} threads, {doctor['kernels_in_use']}. Best of {arguments.rounds}, in turn, on cores that "
        "other programs shared: only the ratios are meaningful.\n"
    )
    text = "\n".join([heading, *lines]) + "\n"
    print(text)
    if arguments.out:
        put(arguments.out, "whole", text)


if __name__ == "__main__":
    main()
