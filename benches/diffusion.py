"""Speed of Stable Diffusion's UNet and VAE decoder beside onnxruntime and torch, in one run, for docs/reference/performance.md.

Usage: diffusion.py TIME_DIFFUSION FOLDER [--rounds N] [--threads 1,2] [--only unet,decode] [--out docs/reference/performance.md]

TIME_DIFFUSION is the example of that name in crates/enlarger-diffusion. FOLDER is made on first use: a checkpoint of the size of
SD 1.5 with random 16-bit weights (1.9 GB), and the same as ONNX in 32 bits (3.7 GB). All programs run in turn, again and again, and
each figure is the fewest seconds that a program kept processors busy, since others may use the machine. Results are compared, too.
"""

import argparse
import gc
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

from document import put

SIDE, TOKENS, WIDTH = 64, 77, 768
NAMES = {"unet": "UNet, one evaluation", "decode": "VAE, one decode"}


def networks():
    """UNet and VAE of the sizes of SD 1.5 with weights by a seed, rounded to 16 bits."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    unet = UNet2DConditionModel(cross_attention_dim=WIDTH, sample_size=SIDE)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512,
    )
    for network in (unet, vae):
        for name, p in network.named_parameters():
            scale = 0.1 if p.ndim == 1 else p[0].numel() ** -0.5
            one = p.ndim == 1 and "norm" in name and name.endswith("weight")
            p.copy_((torch.randn(p.shape) * scale + one).half().float())
    return unet.eval(), vae.eval()


class Decoder:
    """What a VAE does with latents, as a network of its own."""

    def __new__(cls, vae):
        import torch

        class Decode(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.vae = vae

            def forward(self, latents):
                return self.vae.decode(latents, return_dict=False)[0]

        return Decode()


class Predictor:
    """A UNet at one time, as a network of its own."""

    def __new__(cls, unet):
        import torch

        class Predict(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.unet = unet

            def forward(self, latents, text):
                return self.unet(latents, torch.full((1,), 500.0), text, return_dict=False)[0]

        return Predict()


def inputs():
    random = np.random.default_rng(7)
    latents = random.standard_normal((1, 4, SIDE, SIDE), np.float32)
    return {"unet": [latents, random.standard_normal((1, TOKENS, WIDTH), np.float32)], "decode": [latents]}


def prepare(folder):
    if (folder / "ready").exists():
        return
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    unet, vae = networks()
    for name, network in (("unet", Predictor(unet)), ("decode", Decoder(vae))):
        (folder / name).mkdir(exist_ok=True)
        network.eval()
        sample = tuple(torch.from_numpy(x) for x in inputs()[name])
        torch.onnx.export(network, sample, str(folder / name / "model.onnx"), dynamo=True, external_data=True)
    unet.half().save_pretrained(folder / "checkpoint/unet")
    vae.half().save_pretrained(folder / "checkpoint/vae")
    (folder / "ready").touch()


def busy(process):
    """Seconds that a process kept processors busy."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(process):
    lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6


class Ours:
    def __init__(self, binary, folder, threads):
        self.folder = folder
        command = [binary, str(folder / "checkpoint"), str(threads)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.loading = float(self.child.stdout.readline())
        self.pid = self.child.pid
        for name, arrays in inputs().items():
            last = [arrays[0].transpose(0, 2, 3, 1), *arrays[1:]]
            (folder / f"{name}.f32").write_bytes(b"".join(np.ascontiguousarray(x).tobytes() for x in last))

    def run(self, what, result="-"):
        self.child.stdin.write(f"{what} {self.folder / what}.f32 {result}\n")
        self.child.stdin.flush()
        if not self.child.stdout.readline():
            raise SystemExit("time_diffusion died")

    def output(self, what):
        self.run(what, self.folder / "result.f32")
        side, channels = (SIDE, 4) if what == "unet" else (8 * SIDE, 3)
        result = np.fromfile(self.folder / "result.f32", np.float32)
        return result.reshape(1, side, side, channels).transpose(0, 3, 1, 2)


class Child:
    """A peer in a process of its own, so that its time and memory are its own: this script, called with `--peer`."""

    def __init__(self, peer, folder, threads, what):
        self.folder, self.peer = folder, peer
        command = [sys.executable, __file__, "-", str(folder), "--peer", peer, "--threads", str(threads), "--only", what]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.loading = float(self.child.stdout.readline())
        self.pid = self.child.pid

    def run(self, what):
        self.child.stdin.write(f"{what}\n")
        self.child.stdin.flush()
        if not self.child.stdout.readline():
            raise SystemExit(f"{self.peer} died")

    def output(self, what):
        self.run(what)
        return np.load(self.folder / f"{self.peer}.npy")


def be_peer(peer, folder, threads, what):
    """Loads the networks, then runs one for each line on standard input and writes its result."""
    started = time.perf_counter()
    runs = {}
    if peer == "torch":
        import torch

        torch.set_num_threads(threads)
        unet, vae = networks()
        nets = {"unet": Predictor(unet), "decode": Decoder(vae)}
        for name in what:
            runs[name] = lambda xs, net=nets[name]: net(*map(torch.from_numpy, xs)).numpy()
    else:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Waiting threads would count as busy.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for name in what:
            session = onnxruntime.InferenceSession(folder / name / "model.onnx", options, providers=["CPUExecutionProvider"])
            names = [i.name for i in session.get_inputs()]
            runs[name] = lambda xs, session=session, names=names: session.run(None, dict(zip(names, xs)))[0]
    gc.collect()
    print(f"{time.perf_counter() - started:.3f}", flush=True)
    arrays = inputs()
    for line in sys.stdin:
        name = line.strip()
        np.save(folder / f"{peer}.npy", runs[name](arrays[name]))
        print("done", flush=True)


def measure(arguments, folder, threads):
    """Per network and program: seconds of processors, seconds, and how far the result is from torch's."""
    what = arguments.only.split(",")
    programs = {
        "enlarger": Ours(arguments.time_diffusion, folder, threads),
        "onnxruntime": Child("onnxruntime", folder, threads, arguments.only),
        "torch": Child("torch", folder, threads, arguments.only),
    }
    found = {}
    for name in what:
        best, results = {}, {}
        for _ in range(arguments.rounds):
            for label, program in programs.items():
                before, started = busy(program.pid), time.perf_counter()
                results[label] = program.output(name)
                times = busy(program.pid) - before, time.perf_counter() - started
                best[label] = tuple(map(min, best.get(label, times), times))
        most = np.abs(results["torch"]).max()
        for label, times in best.items():
            found[name, label] = *times, np.abs(results[label] - results["torch"]).max() / most
            print(f"{threads} {name} {label}: {times}, {found[name, label][2]:.2e}", file=sys.stderr, flush=True)
    memory = {label: (program.loading, peak(program.pid)) for label, program in programs.items()}
    print(f"{threads} threads, loading and peak: {memory}", file=sys.stderr, flush=True)
    for program in programs.values():
        program.child.stdin.close()
        program.child.wait()
    return found, memory


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("time_diffusion")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default="unet,decode")
    parser.add_argument("--out")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return be_peer(arguments.peer, arguments.folder, int(arguments.threads), arguments.only.split(","))
    prepare(arguments.folder)
    import onnxruntime
    import torch

    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    versions = {"enlarger": "enlarger", "onnxruntime": f"onnxruntime {onnxruntime.__version__}", "torch": f"torch {torch.__version__.split('+')[0]}"}
    lines = [f"{cpu}; {versions['onnxruntime']}, {versions['torch']}, all in f32. Best of {arguments.rounds} rounds, in turn."]
    for threads in map(int, arguments.threads.split(",")):
        found, memory = measure(arguments, arguments.folder, threads)
        lines += [f"\n**{threads} thread{'s'[:threads > 1]}**\n", "| | program | CPU seconds | enlarger / it | seconds | from torch |", "|---|---|---|---|---|---|"]
        for (name, label), (cpu_seconds, seconds, off) in found.items():
            ratio = "" if label == "enlarger" else f"{found[name, 'enlarger'][0] / cpu_seconds:.2f}"
            lines.append(f"| {NAMES[name]} | {versions[label]} | {cpu_seconds:.2f} | {ratio} | {seconds:.2f} | {off:.0e} |")
        lines.append("\nLoading, and peak memory of the process: " + "; ".join(
            f"{versions[label]} {loading:.1f} s, {gigabytes:.1f} GB" for label, (loading, gigabytes) in memory.items()) + ".")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        put(arguments.out, "diffusion", text)


if __name__ == "__main__":
    main()
