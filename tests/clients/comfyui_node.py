"""The nodes of integrations/comfyui against a real server: python comfyui_node.py PHOTO URL.

ComfyUI and torch are too large for CI. Their stand-ins here are arrays with a tensor's two methods that the nodes use, a progress bar that
remembers, and an interrupt that comes on request. Prints one JSON object.
"""

import importlib.util
import json
import pathlib
import sys
import types
import urllib.request

import numpy
from PIL import Image


class Tensor(numpy.ndarray):
    def cpu(self):
        return self

    def numpy(self):
        return numpy.asarray(self)


class Interrupted(Exception):
    pass


class Bar:
    last = None

    def __init__(self, total):
        Bar.last, self.total, self.steps = self, total, []

    def update_absolute(self, value):
        self.steps.append(value)


interrupted = False


def throw_if_interrupted():
    if interrupted:
        raise Interrupted


def module(name, **contents):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(contents)


module("torch", from_numpy=lambda array: array.view(Tensor), stack=lambda list: numpy.stack(list).view(Tensor))
module("comfy")
module("comfy.utils", ProgressBar=Bar)
module("comfy.model_management", throw_exception_if_processing_interrupted=throw_if_interrupted)
sys.modules["comfy"].utils = sys.modules["comfy.utils"]
sys.modules["comfy"].model_management = sys.modules["comfy.model_management"]

folder = pathlib.Path(__file__).parents[2] / "integrations" / "comfyui"
spec = importlib.util.spec_from_file_location("enlarger_nodes", folder / "__init__.py", submodule_search_locations=[str(folder)])
nodes = importlib.util.module_from_spec(spec)
sys.modules["enlarger_nodes"] = nodes
spec.loader.exec_module(nodes)

photo, url = sys.argv[1:]
image = (numpy.asarray(Image.open(photo).convert("RGB"), numpy.float32) / 255.0).view(Tensor)


def run(name, images, **given):
    """As ComfyUI runs a node: with the defaults of all inputs that are not given."""
    node = nodes.NODE_CLASS_MAPPINGS[name]()
    inputs = {}
    for input, (kind, *options) in node.INPUT_TYPES()["required"].items():
        inputs[input] = kind[0] if isinstance(kind, list) else (options or [{}])[0].get("default")
    return getattr(node, node.FUNCTION)(**{**inputs, "image": images, "server": url, **given})[0]


batch = run("EnlargerEnlarge", numpy.stack([image, image[::-1]]).view(Tensor), model="animevideo-v3")
steps, total = Bar.last.steps, Bar.last.total
precise = run("EnlargerEnlargePrecise", image[numpy.newaxis], scale=1.5, quality="draft")

refusals = []
for given in ({"model": "nosuch"}, {"server": "http://127.0.0.1:1"}, {"server": "nonsense"}):
    try:
        run("EnlargerEnlarge", image[numpy.newaxis], **given)
    except RuntimeError as error:
        refusals.append(str(error))

interrupted = True
try:
    run("EnlargerEnlarge", image[numpy.newaxis], model="x4plus", scale=16.0)
    raised = None
except Interrupted:
    raised = "Interrupted"
with urllib.request.urlopen(f"{url}/api/tasks") as answer:
    statuses = [task["status"] for task in json.load(answer)["tasks"]]

small = numpy.asarray(
    [Image.fromarray(numpy.uint8(one * 255)).resize((image.shape[1], image.shape[0]), Image.BOX) for one in batch], numpy.float32
)
print(
    json.dumps(
        {
            "batch": batch.shape,
            "precise": precise.shape,
            "type": str(batch.dtype),
            "deviation": float(numpy.abs(small / 255.0 - numpy.stack([image, image[::-1]])).mean()),
            "progress": [steps == sorted(steps), steps[-1] == total],
            "refusals": refusals,
            "raised": raised,
            "statuses": statuses,
        }
    )
)
