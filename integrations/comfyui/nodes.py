"""The nodes: settings in, an image per image of the batch out, with progress, until someone interrupts."""

import os

import comfy.model_management
import comfy.utils
import torch

from .client import USUAL_URL, Server
from .pixels import from_png, to_png

OPTIMIZED_FOR = [
    "standard",
    "soft_portraits",
    "hard_portraits",
    "art_n_illustration",
    "videogame_assets",
    "nature_n_landscapes",
    "films_n_photography",
    "3d_renders",
    "science_fiction_n_horror",
]


def knob(usual, least, most, tooltip):
    return ("INT", {"default": usual, "min": least, "max": most, "tooltip": tooltip})


class Enlarge:
    """Enlarges images in a style, which a subclass defines by its settings."""

    CATEGORY = "image/upscaling"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "enlarge"
    STYLE = {}

    @classmethod
    def INPUT_TYPES(cls):
        url = os.environ.get("ENLARGER_URL", USUAL_URL)
        return {
            "required": {
                "image": ("IMAGE",),
                "scale": ("FLOAT", {"default": 2.0, "min": 1.0, "max": 16.0, "step": 0.5, "tooltip": "Scale factor."}),
                **cls.STYLE,
                "quality": (["best", "fast", "draft"], {"tooltip": "How much work goes into the result."}),
                "model": ("STRING", {"default": "auto", "tooltip": "A model's name; auto: chosen to suit the image."}),
                "server": ("STRING", {"default": url, "tooltip": "Where `enlarger serve` runs. ENLARGER_URL sets the default."}),
            }
        }

    def enlarge(self, image, scale, quality, model, server, **look):
        client = Server(server, os.environ.get("ENLARGER_API_KEY"))
        request = {
            "size": {"factor": scale},
            "look": {"mode": self.MODE, **{name: value for name, value in look.items() if value not in ("", "auto")}},
            "model": None if model.strip() in ("", "auto") else model.strip(),
            "quality": quality,
        }
        bar = comfy.utils.ProgressBar(1000 * len(image))
        results = []
        for index, one in enumerate(image):

            def watch(fraction):
                comfy.model_management.throw_exception_if_processing_interrupted()
                bar.update_absolute(round(1000 * (index + fraction)))

            results.append(from_png(client.enlarge(to_png(one), request, watch), image.shape[-1]))
        return (torch.stack(results),)


class EnlargeCreative(Enlarge):
    DESCRIPTION = "Enlarges images on your own enlarger server, in Creative style, which may add detail."
    MODE = "creative"
    STYLE = {
        "creativity": knob(0, -10, 10, "How much new detail to add. Lower values add less."),
        "hdr": knob(0, -10, 10, "Definition and local contrast. High values look artificial."),
        "resemblance": knob(0, -10, 10, "How closely the result follows the original."),
        "fractality": knob(0, -10, 10, "How fine the added texture is. Lower values cause fewer artifacts."),
        "engine": (["automatic", "magnific_illusio", "magnific_sharpy", "magnific_sparkle"],),
        "optimized_for": (OPTIMIZED_FOR, {"tooltip": "What the image shows."}),
        "prompt": ("STRING", {"default": "", "multiline": True, "tooltip": "Guides the server's generative engine, if it has one."}),
    }


class EnlargePrecise(Enlarge):
    DESCRIPTION = "Enlarges images on your own enlarger server, in Precision style, which adds no detail."
    MODE = "precision"
    STYLE = {
        "sharpen": knob(7, 0, 100, "How crisp edges are."),
        "smart_grain": knob(7, 0, 100, "Fine grain that keeps surfaces from looking plastic."),
        "ultra_detail": knob(30, 0, 100, "How strongly the finest details are emphasized."),
        "flavor": (["auto", "sublime", "photo", "photo_denoiser"], {"tooltip": "The kind of image."}),
    }


NODE_CLASS_MAPPINGS = {"EnlargerEnlarge": EnlargeCreative, "EnlargerEnlargePrecise": EnlargePrecise}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EnlargerEnlarge": "Enlarge (enlarger)",
    "EnlargerEnlargePrecise": "Enlarge, precise (enlarger)",
}
