"""Makes the small files of weights and PyTorch's own results that tests/pytorch.rs and tests/ncnn.rs compare with.

Needs torch and numpy. The networks are written here from their papers; weights are random, sizes tiny.
`make_pth.py NAME..` writes only the files that begin with these names.
"""

import json
import os
import pickle
import struct
import sys
import typing
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F

OUT = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(7)


def conv(inputs, outputs):
    return {"weight": torch.randn(outputs, inputs, 3, 3) * 1.2 / (9 * inputs) ** 0.5, "bias": torch.randn(outputs) * 0.05}


def run(state, name, x):
    return F.conv2d(x, state[name + ".weight"].float(), state[name + ".bias"].float(), padding=1)


def rrdb_state(seen, nf=8, nb=1, gc=4):
    layers = OrderedDict(conv_first=conv(seen, nf))
    for b in range(nb):
        for d in (1, 2, 3):
            for k in range(1, 6):
                layers[f"body.{b}.rdb{d}.conv{k}"] = conv(nf + (k - 1) * gc, nf if k == 5 else gc)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        layers[name] = conv(nf, nf)
    layers["conv_last"] = conv(nf, 3)
    return OrderedDict((f"{n}.{k}", v) for n, l in layers.items() for k, v in l.items())


def plus_state(state, nf=8, gc=4):
    """The convolutions of one pixel that ESRGAN+ adds to each dense block."""
    plus = {k.replace("conv1.weight", "conv1x1.weight"): torch.randn(gc, nf, 1, 1) / nf**0.5 for k in state if ".conv1.weight" in k}
    return OrderedDict(list(state.items()) + list(plus.items()))


def rrdb(state, x, unshuffle, nb=1):
    lrelu = lambda t: F.leaky_relu(t, 0.2)
    feat = run(state, "conv_first", F.pixel_unshuffle(x, unshuffle) if unshuffle > 1 else x)
    body = feat
    for b in range(nb):
        outer = body
        for d in (1, 2, 3):
            xs = [body]
            point = state.get(f"body.{b}.rdb{d}.conv1x1.weight")
            for k in range(1, 5):
                xs.append(lrelu(run(state, f"body.{b}.rdb{d}.conv{k}", torch.cat(xs, 1))))
                if point is not None and k == 2:
                    xs[2] = xs[2] + F.conv2d(xs[0], point)
                if point is not None and k == 4:
                    xs[4] = xs[4] + xs[2]
            body = run(state, f"body.{b}.rdb{d}.conv5", torch.cat(xs, 1)) * 0.2 + body
        body = body * 0.2 + outer
    feat = feat + run(state, "conv_body", body)
    for up in ("conv_up1", "conv_up2"):
        feat = lrelu(run(state, up, F.interpolate(feat, scale_factor=2, mode="nearest")))
    return run(state, "conv_last", lrelu(run(state, "conv_hr", feat)))


def compact_state(scale, nf=8, convs=2):
    state = OrderedDict()
    for i in range(convs + 1):
        for k, v in conv(3 if i == 0 else nf, nf).items():
            state[f"body.{2 * i}.{k}"] = v
        state[f"body.{2 * i + 1}.weight"] = torch.rand(nf) * 0.3
    for k, v in conv(nf, 3 * scale * scale).items():
        state[f"body.{2 * convs + 2}.{k}"] = v
    return state


def compact(state, x, scale, convs=2):
    out = x
    for i in range(convs + 1):
        out = F.prelu(run(state, f"body.{2 * i}", out), state[f"body.{2 * i + 1}.weight"].float())
    out = F.pixel_shuffle(run(state, f"body.{2 * convs + 2}", out), scale)
    return out + F.interpolate(x, scale_factor=scale, mode="nearest")


def esrgan_names(state, nb=1):
    """Array names of ESRGAN's first training code."""
    tail = {"conv_up1": "model.3", "conv_up2": "model.6", "conv_hr": "model.8", "conv_last": "model.10"}
    out = OrderedDict()
    for k, v in state.items():
        layer, part = k.rsplit(".", 1)
        if layer == "conv_first":
            layer = "model.0"
        elif layer == "conv_body":
            layer = f"model.1.sub.{nb}"
        elif layer in tail:
            layer = tail[layer]
        else:
            layer = layer.replace("body.", "model.1.sub.").replace(".rdb", ".RDB") + ("" if layer.endswith("1x1") else ".0")
        out[f"{layer}.{part}"] = v
    return out


def trunk_names(state):
    swap = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}
    out = OrderedDict()
    for k, v in state.items():
        layer, part = k.rsplit(".", 1)
        layer = swap.get(layer, layer.replace("body.", "RRDB_trunk.").replace(".rdb", ".RDB"))
        out[f"{layer}.{part}"] = v
    return out


class Ncnn:
    """Writes a graph as ncnn's converters do."""

    def __init__(self, fused):
        self.lines, self.bin, self.blobs, self.fused = [], b"", 0, fused

    def layer(self, kind, inputs, parameters, output=None):
        self.blobs += 1
        output = output or f"b{self.blobs}"
        self.lines.append(f"{kind} {kind.lower()}_{len(self.lines)} {len(inputs)} 1 {' '.join(inputs + [output])} {parameters}")
        return output

    def conv(self, state, name, blob, slope=None, output=None):
        w, b = state[name + ".weight"], state[name + ".bias"]
        text = f"0={w.shape[0]} 1=3 11=3 2=1 12=1 3=1 13=1 4=1 14=1 15=1 16=1 5=1 6={w.numel()}"
        if self.fused and slope is not None:
            text += f" 9=2 -23310=1,{slope:e}"
        self.bin += struct.pack("<I", 0) + w.numpy().astype("<f4").tobytes() + b.numpy().astype("<f4").tobytes()
        out = self.layer("Convolution", [blob], text, output)
        return out if self.fused or slope is None else self.layer("ReLU", [out], f"0={slope:e}")

    def residual(self, blob, trunk):
        """`0.2 * blob + trunk`: one layer, or two."""
        if not self.fused:
            return self.layer("Eltwise", [blob, trunk], "0=1 -23301=2,0.2,1.0")
        return self.layer("BinaryOp", [trunk, self.layer("BinaryOp", [blob], "0=2 1=1 2=2.000000e-01")], "0=0")

    def enlarged(self, blob, by):
        return self.layer("Interp", [blob], f"0=1 1={by:e} 2={by:e}")

    def write(self, name):
        if wanted(name):
            with open(os.path.join(OUT, name + ".param"), "w") as f:
                f.write(f"7767517\n{len(self.lines)} {self.blobs}\n" + "\n".join(self.lines) + "\n")
            with open(os.path.join(OUT, name + ".bin"), "wb") as f:
                f.write(self.bin)


def ncnn_rrdb(name, state, unshuffle, fused):
    net = Ncnn(fused)
    blob = net.layer("Input", [], "", "data")
    if unshuffle > 1:
        blob = net.layer("Reorg", [blob], f"0={unshuffle}")
    first = trunk = net.conv(state, "conv_first", blob)
    for d in (1, 2, 3):
        xs = [trunk]
        for k in range(1, 6):
            blob = xs[0] if k == 1 else net.layer("Concat", list(xs), "0=0")
            xs.append(net.conv(state, f"body.0.rdb{d}.conv{k}", blob, 0.2 if k < 5 else None))
        trunk = net.residual(xs[5], trunk)
    blob = net.conv(state, "conv_body", net.residual(trunk, first))
    blob = net.layer("BinaryOp", [first, blob], "0=0")
    for up in ("conv_up1", "conv_up2"):
        blob = net.conv(state, up, net.enlarged(blob, 2), 0.2)
    net.conv(state, "conv_last", net.conv(state, "conv_hr", blob, 0.2), output="output")
    net.write(name)


def ncnn_compact(name, state, scale, convs=2):
    net = Ncnn(False)
    data = blob = net.layer("Input", [], "", "data")
    for i in range(convs + 1):
        blob = net.conv(state, f"body.{2 * i}", blob)
        slopes = state[f"body.{2 * i + 1}.weight"]
        net.bin += slopes.numpy().astype("<f4").tobytes()
        blob = net.layer("PReLU", [blob], f"0={slopes.numel()}")
    blob = net.layer("PixelShuffle", [net.conv(state, f"body.{2 * convs + 2}", blob)], f"0={scale}")
    net.layer("BinaryOp", [blob, net.enlarged(data, scale)], "0=0", "output")
    net.write(name)


class Typed:
    """A dictionary that is saved as some trainers save theirs, by its name in `typing`."""

    def __init__(self, items):
        self.items = items

    def __reduce__(self):
        return typing.OrderedDict, (), None, None, iter(self.items.items())


def wanted(name):
    return len(sys.argv) < 2 or any(name.startswith(word) for word in sys.argv[1:])


def reference(name, x, y):
    """Input and output as [h][w][3] in one safetensors file."""
    if not wanted(name):
        return
    arrays = {"input": x, "output": y}
    header, data = {}, b""
    for key, tensor in arrays.items():
        a = np.ascontiguousarray(tensor[0].permute(1, 2, 0).detach().numpy().astype("<f4"))
        header[key] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(OUT, name + ".expected.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def save(name, content, legacy=False):
    if wanted(name):
        torch.save(content, os.path.join(OUT, name + ".pth"), _use_new_zipfile_serialization=not legacy)


def main():
    x = torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        s = rrdb_state(3)
        save("rrdb_x4_zip", {"params_ema": s, "params": rrdb_state(3)})
        reference("rrdb_x4_zip", x, rrdb(s, x, 1))
        save("rrdb_x4_esrgan_legacy", esrgan_names(s), legacy=True)
        reference("rrdb_x4_esrgan_legacy", x, rrdb(s, x, 1))
        save("rrdb_x4_trunk_parameters", OrderedDict((k, torch.nn.Parameter(v)) for k, v in trunk_names(s).items()))
        reference("rrdb_x4_trunk_parameters", x, rrdb(s, x, 1))
        s = rrdb_state(12)
        save("rrdb_x2_zip", s)
        reference("rrdb_x2_zip", x, rrdb(s, x, 2))
        s = rrdb_state(48)
        save("rrdb_x1_legacy", {"state_dict": s, "iter": 5}, legacy=True)
        reference("rrdb_x1_legacy", x, rrdb(s, x, 4))
        s = OrderedDict((k, v.half()) for k, v in compact_state(2).items())
        save("compact_x2_half", {"params": s})
        reference("compact_x2_half", x, compact({k: v.float() for k, v in s.items()}, x, 2))
        # A transposed view: values do not lie in the order of the shape.
        s = compact_state(3)
        views = OrderedDict((k, v.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3) if v.dim() == 4 else v) for k, v in s.items())
        save("compact_x3_strided", views)
        reference("compact_x3_strided", x, compact(s, x, 3))

        # Files that come with something else beside or around the network.
        torch.manual_seed(8)
        s = plus_state(rrdb_state(3))
        parameter = torch.nn.Parameter(torch.zeros(3))
        adam = torch.optim.Adam([parameter])
        parameter.grad = torch.ones(3)
        adam.step()
        wrapped = OrderedDict(("module.module." + k, v) for k, v in s.items())
        wrapped["module.module.bn.num_batches_tracked"] = torch.tensor(7)
        save("plus_x4_checkpoint", {"generator": wrapped, "optimizer": adam.state_dict(), "iter": torch.tensor([5])})
        reference("plus_x4_checkpoint", x, rrdb(s, x, 1))
        save("plus_x4_esrgan_legacy", {"netG": esrgan_names(s)}, legacy=True)
        reference("plus_x4_esrgan_legacy", x, rrdb(s, x, 1))
        s = compact_state(2)
        save("typed_x2_params-ema", {"params-ema": Typed(s), "params": Typed(compact_state(2))})
        reference("typed_x2_params-ema", x, compact(s, x, 2))

        torch.manual_seed(9)
        s = rrdb_state(3)
        ncnn_rrdb("ncnn_x4_fused", s, 1, fused=True)
        reference("ncnn_x4_fused", x, rrdb(s, x, 1))
        s = rrdb_state(12)
        ncnn_rrdb("ncnn_x2_reorg", s, 2, fused=False)
        reference("ncnn_x2_reorg", x, rrdb(s, x, 2))
        s = compact_state(3)
        ncnn_compact("ncnn_compact_x3", s, 3)
        reference("ncnn_compact_x3", x, compact(s, x, 3))

    class Evil:
        def __reduce__(self):
            return (os.system, ("echo this must never run > /tmp/enlarger-was-here",))

    if not wanted("evil"):
        return
    with open(os.path.join(OUT, "evil.pth"), "wb") as f:
        f.write(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")
        f.write(pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + pickle.dumps({"params": Evil()}, 2))


if __name__ == "__main__":
    sys.exit(main())
