"""Makes the small PyTorch files and PyTorch's own results that tests/pytorch.rs compares with.

Needs torch and numpy. The networks are written here from their papers; weights are random, sizes tiny.
"""

import json
import os
import pickle
import struct
import sys
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


def rrdb(state, x, unshuffle, nb=1):
    lrelu = lambda t: F.leaky_relu(t, 0.2)
    feat = run(state, "conv_first", F.pixel_unshuffle(x, unshuffle) if unshuffle > 1 else x)
    body = feat
    for b in range(nb):
        outer = body
        for d in (1, 2, 3):
            xs = [body]
            for k in range(1, 5):
                xs.append(lrelu(run(state, f"body.{b}.rdb{d}.conv{k}", torch.cat(xs, 1))))
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
    """The names of ESRGAN's first training code."""
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
            layer = layer.replace("body.", "model.1.sub.").replace(".rdb", ".RDB") + ".0"
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


def reference(name, x, y):
    """Input and output as [h][w][3] in one safetensors file."""
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

    class Evil:
        def __reduce__(self):
            return (os.system, ("echo this must never run > /tmp/enlarger-was-here",))

    with open(os.path.join(OUT, "evil.pth"), "wb") as f:
        f.write(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")
        f.write(pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + pickle.dumps({"params": Evil()}, 2))


if __name__ == "__main__":
    sys.exit(main())
