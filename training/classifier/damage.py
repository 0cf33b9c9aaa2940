"""Realistic damage: compression, noise, blur and resizing, in the orders in which they happen.

Each function takes and gives an array of height x width x 3, float32, 0..=255.
"""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter, uniform_filter

FILTERS = [Image.BILINEAR, Image.BICUBIC, Image.LANCZOS, Image.BOX]


def to_image(a):
    return Image.fromarray(np.clip(a + 0.5, 0, 255).astype(np.uint8))


def to_array(image):
    return np.asarray(image.convert("RGB")).astype(np.float32)


def jpeg(a, quality, subsampling=2):
    out = io.BytesIO()
    to_image(a).save(out, "JPEG", quality=int(quality), subsampling=subsampling)
    return to_array(Image.open(out))


def webp(a, quality):
    out = io.BytesIO()
    to_image(a).save(out, "WEBP", quality=int(quality), method=2)
    return to_array(Image.open(out))


def resized(a, factor, how):
    size = [max(8, round(side * factor)) for side in a.shape[1::-1]]
    return to_array(to_image(a).resize(size, how))


def blurred(a, sigma):
    return gaussian_filter(a, (sigma, sigma, 0))


def defocused(a, radius):
    r = int(np.ceil(radius))
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    disc /= disc.sum()
    from scipy.signal import fftconvolve

    padded = np.pad(a, ((r, r), (r, r), (0, 0)), mode="edge")
    return np.stack([fftconvolve(padded[..., c], disc, mode="valid") for c in range(3)], -1).astype(np.float32)


def noise(a, sigma, rng, colour):
    """`colour`: "rgb" (independent), "luma" (the same in all three) or "shot" (grows with the root of light)."""
    shape = a.shape if colour != "luma" else a.shape[:2] + (1,)
    n = rng.standard_normal(shape).astype(np.float32) * sigma
    if colour == "shot":
        n *= np.sqrt((a + 12) / 128)
    return a + n


def grain(a, sigma, size, rng):
    n = gaussian_filter(rng.standard_normal(a.shape[:2]).astype(np.float32), size)
    return a + (n / (n.std() + 1e-6) * sigma)[..., None]


def grey(a):
    return np.repeat((a @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, -1)


def sepia(a):
    return grey(a) * np.array([1.07, 0.95, 0.74], np.float32)


def night(a, rng):
    """A phone at night: little light, noise, its denoiser, its sharpening, JPEG."""
    dark = a * rng.uniform(0.25, 0.7)
    dark = noise(dark, rng.uniform(6, 18), rng, "shot")
    how = rng.integers(3)
    if how == 0:
        dark = median_filter(dark, (3, 3, 1))
    elif how == 1:
        dark = blurred(dark, rng.uniform(0.5, 1.0))
    else:
        luma = grey(dark)
        chroma = blurred(dark - luma, rng.uniform(1.5, 4))
        dark = uniform_filter(luma, (2, 2, 0)) + chroma
    dark = dark + rng.uniform(0.3, 1.2) * (dark - blurred(dark, 1.0))
    return jpeg(np.clip(dark, 0, 255), rng.integers(70, 93))
