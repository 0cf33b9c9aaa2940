"""Speed on a GPU: our kernels, upscaling models, a UNet evaluation and a VAE decode, beside PyTorch in fp16 with channels last and
ncnn-vulkan with Upscayl's options. Takes less than ten minutes.

Usage: gpu.py TIME_GPU GPU FOLDER [--tiny] [--packages DIR] [--out docs/reference/performance.md]

TIME_GPU is the example of that name in crates/enlarger-diffusion; GPU is part of the card's name, as `enlarger doctor` lists it. FOLDER
is made on first use: a checkpoint of the size of SD 1.5 with random 16-bit weights (2 GB), or a tiny one. PyTorch (with diffusers) and
ncnn are measured where they can be imported and see a GPU; DIR has what `make packages` unpacks, for ncnn. Their inputs and results
stay in the card's memory for PyTorch; ours and ncnn's come from the CPU and go back. Only speed is compared: weights are random.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import time

from document import put

HERE = pathlib.Path(__file__).parent
KEYS = HERE / "../crates/enlarger-diffusion/tests/reference/sd15.keys"
WEIGHTS = HERE / "../models/weights"
# A measurement is repeated until so many seconds are over.
SECONDS = 3.0
VAE = (128, 256, 512, 512)


def level(name, prefix):
    return int(name.split(prefix)[1].split(".")[0]) if prefix in name else None


def full(name, shape):
    """The shape of an array of SD 1.5, from that of the tiny checkpoint of the tests: ten times the channels."""
    shape = list(shape)
    if name.startswith("first_stage_model."):
        first = any(part in name for part in ("block.0.conv1", "nin_shortcut", "block.0.norm1"))
        if (at := level(name, "encoder.down.")) is not None:
            sides = VAE[at], VAE[max(at - 1, 0) if first else at]
        elif (at := level(name, "decoder.up.")) is not None:
            sides = VAE[at], VAE[min(at + 1, 3) if first else at]
        elif "encoder.conv_in" in name or "decoder.conv_out" in name or "decoder.norm_out" in name:
            sides = 128, 128
        else:
            sides = 512, 512
        # The first normalization of a block is of what it reads.
        sides = sides[::-1] if "block.0.norm1" in name else sides
        return [side if axis < 2 and length >= 32 else length for axis, (length, side) in enumerate(zip(shape, (*sides, 0, 0)))]
    if name.startswith("cond_stage_model."):
        return [{32: 768, 128: 3072}.get(length, length) for length in shape]
    text = "attn2.to_k" in name or "attn2.to_v" in name
    return [768 if text and axis == 1 else length if axis > 1 or length < 8 else 10 * length for axis, length in enumerate(shape)]


def arrays_of(tiny):
    """Names and shapes of the checkpoint's arrays."""
    for line in KEYS.read_text().splitlines():
        name, shape = line.split(" ")
        shape = [int(length) for length in shape.split("x")]
        if name.startswith(("lora_", "control_model.")):
            continue
        if not tiny:
            shape = full(name, shape)
        elif "attn2.to_k" in name or "attn2.to_v" in name:
            shape[1] = 768
        elif name.startswith("cond_stage_model."):
            shape = [768 if length == 32 else length for length in shape]
        yield name, shape
    if not tiny:
        # Where the tiny one keeps its number of channels.
        for block, sides in (("encoder.down.2", (512, 256)), ("decoder.up.1", (256, 512))):
            yield f"first_stage_model.{block}.block.0.nin_shortcut.weight", [*sides, 1, 1]
            yield f"first_stage_model.{block}.block.0.nin_shortcut.bias", [sides[0]]


def checkpoint(folder, tiny):
    """A checkpoint with random weights that keep values in range."""
    path = folder / ("tiny.safetensors" if tiny else "sd15.safetensors")
    if path.exists():
        return path
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    header, at, arrays = {}, 0, []
    for name, shape in arrays_of(tiny):
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        arrays.append((name, shape))
        at += size
    text = json.dumps(header).encode()
    with open(path.with_suffix(".part"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in arrays:
            values = random.standard_normal(shape, np.float32)
            inputs = max(int(np.prod(shape[1:])), 1)
            values = values * inputs**-0.5 if len(shape) > 1 else 0.05 * values + name.endswith(".weight")
            file.write(values.astype(np.float16).tobytes())
    path.with_suffix(".part").rename(path)
    return path


def ours(arguments, path):
    """The name of the device, and seconds and operations by what was measured."""
    command = [arguments.time_gpu, arguments.gpu, str(WEIGHTS), str(path)] + ["tiny"] * arguments.tiny
    found, device = {}, None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            said = json.loads(line)
            print(said, file=sys.stderr, flush=True)
            if "device" in said:
                device = f"{said['device']} ({said['kernel']})"
            else:
                found[said["what"]] = said["seconds"], said["flops"]
    if child.returncode:
        raise SystemExit(f"time_gpu ended with {child.returncode}")
    return device, found


def best(run):
    """The fewest seconds of a run, after one to warm up."""
    run()
    begun, least = time.perf_counter(), float("inf")
    while time.perf_counter() - begun < SECONDS:
        started = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - started)
    return least


def torch_networks():
    from torch import cat, nn
    from torch.nn import functional

    def conv(inputs, outputs):
        return nn.Conv2d(inputs, outputs, 3, padding=1)

    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(conv(64 + 32 * i, 32 if i < 4 else 64) for i in range(5))

        def forward(self, x):
            maps = [x]
            for layer in self.convs[:4]:
                maps.append(functional.leaky_relu(layer(cat(maps, 1)), 0.2, inplace=True))
            return self.convs[4](cat(maps, 1)) * 0.2 + x

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.Sequential(Dense(), Dense(), Dense())

        def forward(self, x):
            return self.parts(x) * 0.2 + x

    class RrdbNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.body, self.after = conv(3, 64), nn.Sequential(*(Block() for _ in range(23))), conv(64, 64)
            self.ups, self.high, self.last = nn.ModuleList([conv(64, 64), conv(64, 64)]), conv(64, 64), conv(64, 3)

        def forward(self, x):
            x = self.first(x)
            x = x + self.after(self.body(x))
            for up in self.ups:
                x = functional.leaky_relu(up(functional.interpolate(x, scale_factor=2)), 0.2, inplace=True)
            return self.last(functional.leaky_relu(self.high(x), 0.2, inplace=True))

    class Compact(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [conv(3, 64), nn.PReLU(64)]
            for _ in range(16):
                layers += [conv(64, 64), nn.PReLU(64)]
            self.body = nn.Sequential(*layers, conv(64, 48), nn.PixelShuffle(4))

        def forward(self, x):
            return self.body(x) + functional.interpolate(x, scale_factor=4)

    return {"x4plus": RrdbNet, "animevideo-v3": Compact}


def of_torch(whats, notes):
    """Seconds by what was measured."""
    try:
        import torch
    except ImportError:
        notes.append("PyTorch is not installed")
        return "PyTorch", {}
    label = f"PyTorch {torch.__version__.split('+')[0]}"
    if not torch.cuda.is_available():
        notes.append(f"{label} sees no GPU")
        return label, {}
    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True

    def ready(network):
        return network.half().cuda().eval().to(memory_format=torch.channels_last)

    def measured(run):
        def whole():
            run()
            torch.cuda.synchronize()

        return best(whole)

    found = {}
    networks = torch_networks()
    for what in whats:
        name, _, size = what.partition(", ")
        if name in networks:
            width, height = map(int, size.split("x"))
            network = ready(networks[name]())
            x = torch.rand(1, 3, height, width, device="cuda", dtype=torch.half).to(memory_format=torch.channels_last)
            found[what] = measured(lambda: network(x))
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
    except ImportError:
        notes.append("diffusers is not installed: PyTorch's UNet and VAE were not measured")
        return label, found
    for what in whats:
        name, _, size = what.partition(", ")
        if name not in ("UNet", "VAE decode"):
            continue
        side = int(size.split("x")[0])
        x = torch.randn(1, 4, side, side, device="cuda", dtype=torch.half).to(memory_format=torch.channels_last)
        if name == "UNet":
            unet = ready(UNet2DConditionModel(cross_attention_dim=768, sample_size=side))
            text = torch.randn(1, 77, 768, device="cuda", dtype=torch.half)
            found[what] = measured(lambda: unet(x, 500, text, return_dict=False))
        else:
            vae = ready(AutoencoderKL(
                block_out_channels=VAE, down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512,
            ))
            found[what] = measured(lambda: vae.decode(x, return_dict=False))
    return label, found


def of_ncnn(whats, packages, notes):
    """Seconds by what was measured, in tiles of 200 pixels with 10 around them, as Upscayl runs it."""
    try:
        import ncnn
        import numpy as np
    except ImportError:
        notes.append("ncnn is not installed")
        return "ncnn-vulkan", {}
    label = f"ncnn-vulkan {ncnn.__version__}"
    if not packages or not ncnn.get_gpu_count():
        notes.append(f"{label} sees no GPU" if packages else f"{label} was not given its models (--packages)")
        return label, {}
    sys.path.insert(0, str(HERE / "../crates/enlarger-nn/tests/reference"))
    from make_parity import MODELS

    found = {}
    for what in whats:
        name, _, size = what.partition(", ")
        if name not in MODELS:
            continue
        width, height = map(int, size.split("x"))
        net = ncnn.Net()
        net.opt.use_vulkan_compute = True
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_int8_storage = True
        net.opt.use_fp16_arithmetic = net.opt.use_int8_arithmetic = False
        path = pathlib.Path(packages) / MODELS[name]
        net.load_param(f"{path}.param")
        net.load_model(f"{path}.bin")
        x = np.random.default_rng(1).random((3, height, width), np.float32)

        def run():
            for top in range(0, height, 200):
                for left in range(0, width, 200):
                    tile = np.pad(x[:, top:top + 200, left:left + 200], ((0, 0), (10, 10), (10, 10)), mode="edge")
                    extractor = net.create_extractor()
                    extractor.input("data", ncnn.Mat(np.ascontiguousarray(tile)).clone())
                    np.array(extractor.extract("output")[1])

        found[what] = best(run)
    return label, found


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("time_gpu")
    parser.add_argument("gpu")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--packages")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    started = time.perf_counter()
    device, found = ours(arguments, checkpoint(arguments.folder, arguments.tiny))
    notes = []
    torch_label, torch = of_torch(found, notes)
    ncnn_label, ncnn = of_ncnn(found, arguments.packages, notes)

    def against(theirs, what):
        return f"{theirs[what]:.4f} | {theirs[what] / found[what][0]:.2f}" if what in theirs else "- | -"

    lines = [
        f"{device}" + (", tiny sizes" if arguments.tiny else "") + ". The fewest seconds of each, and how many times as fast enlarger is.\n",
        f"| | enlarger, s | GFLOP/s | {torch_label} fp16, s | times | {ncnn_label}, s | times |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, (seconds, flops) in found.items():
        row = f"| {what} | {seconds:.4f} | {flops / seconds / 1e9:.1f} | {against(torch, what)} | {against(ncnn, what)} |"
        lines.append(row)
    if notes:
        lines.append(f"\nNot measured: {'; '.join(notes)}.")
    text = "\n".join(lines) + "\n"
    print(text)
    print(f"{time.perf_counter() - started:.0f} s in all", file=sys.stderr)
    if arguments.out:
        put(arguments.out, "gpu", text)


if __name__ == "__main__":
    main()
