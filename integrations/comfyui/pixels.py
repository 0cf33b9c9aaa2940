"""ComfyUI's images as PNG, and back."""

import io

import numpy
import torch
from PIL import Image


def to_png(image):
    """An image of ComfyUI, a tensor of height x width x channels from 0 to 1, as an 8-bit PNG."""
    array = numpy.clip(numpy.rint(image.cpu().numpy() * 255.0), 0, 255).astype(numpy.uint8)
    png = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(png, "PNG", compress_level=1)
    return png.getvalue()


def from_png(png, channels):
    """A PNG as such a tensor, with this many channels: 1, 3 or 4."""
    with Image.open(io.BytesIO(png)) as picture:
        array = numpy.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]), numpy.float32) / 255.0
    return torch.from_numpy(array.reshape(*array.shape[:2], channels))
