"""Other programs that run the same networks on the CPU: onnxruntime, OpenVINO and ncnn."""

import os
import sys

import ncnn
import numpy as np
import onnxruntime
import openvino

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../crates/enlarger-nn/tests/reference"))
from make_parity import MODELS, graph  # noqa: E402

__all__ = ["MODELS", "peers"]


def of_onnxruntime(model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads would take processor time from whoever is measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options)
    name = session.get_inputs()[0].name
    return f"onnxruntime {onnxruntime.__version__} f32", lambda x: session.run(None, {name: x})[0]


def of_openvino(model, threads, precision, shape):
    core = openvino.Core()
    network = core.read_model(model)
    network.reshape(list(shape))
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
    compiled = core.compile_model(network, "CPU", settings)
    # A processor without bfloat16 silently gets f32: what counts is what is used.
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    request = compiled.create_infer_request()
    version = openvino.__version__.split("-")[0]
    return f"OpenVINO {version} {used}", lambda x: request.infer({0: x})[compiled.output(0)].copy()


def of_ncnn(path, threads):
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.openmp_blocktime = 0
    # f32 throughout, as its default is to store bfloat16 or half floats where it can.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(path + ".param")
    net.load_model(path + ".bin")

    def run(x):
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(x[0]).clone())
        return np.array(extractor.extract("output")[1])[None]

    return f"ncnn {ncnn.__version__} f32", run


def peers(packages, name, threads, shape):
    """Names, and functions from a picture `[1, 3, height, width]` in 0..1 to the enlarged one."""
    path = os.path.join(packages, MODELS[name])
    model = graph(path).SerializeToString()
    found = [of_onnxruntime(model, threads), of_openvino(model, threads, "f32", shape)]
    narrow = of_openvino(model, threads, "bf16", shape)
    if narrow[0] != found[1][0]:
        found.append(narrow)
    return found + [of_ncnn(path, threads)]
