"""Makes the golden files with Pillow and ImageMagick: images of every kind, and the pixels they must decode to.

NAME.EXT is the picture; NAME.expected is raw interleaved samples (8 bits, or 16 bits little-endian) of the upright
picture; index.txt lists name, file, width, height, channels, bits and the tolerance that lossy decoding needs.
Needs pillow, numpy and ImageMagick's convert.
"""

import io
import os
import struct
import subprocess

import numpy as np
from PIL import Image, ImageCms

OUT = os.path.dirname(os.path.abspath(__file__))
W, H = 20, 14
index = []

y, x = np.mgrid[0:H, 0:W]
RGB = np.stack([(x * 12) % 256, (y * 17) % 256, (x * 7 + y * 5) % 256], -1).astype(np.uint8)
ALPHA = ((x * 9 + y * 3) % 256).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
GRAY = ((x * 6 + y * 8) % 256).astype(np.uint8)
RGB16 = (RGB.astype(np.uint16) * 257 + 19).astype(np.uint16)
SMOOTH = np.stack([x * 8 + 40, y * 12 + 40, 200 - x * 4], -1).astype(np.uint8)


def put(name, file, expected, tolerance=0):
    expected = np.ascontiguousarray(expected)
    if expected.ndim == 2:
        expected = expected[..., None]
    h, w, c = expected.shape
    bits = expected.dtype.itemsize * 8
    expected.astype("<u2" if bits == 16 else "u1").tofile(os.path.join(OUT, name + ".expected"))
    index.append(f"{name} {file} {w} {h} {c} {bits} {tolerance}")


def save(name, extension, image, expected, tolerance=0, **options):
    image.save(os.path.join(OUT, f"{name}.{extension}"), **options)
    put(name, f"{name}.{extension}", expected, tolerance)


def magick(name, extension, array, *options):
    """16-bit RGB and other kinds that Pillow cannot write."""
    depth = array.dtype.itemsize * 8
    file = os.path.join(OUT, f"{name}.{extension}")
    command = ["convert-im6.q16", "-size", f"{W}x{H}", "-depth", str(depth), "-endian", "LSB", "rgb:-", *options, file]
    subprocess.run(command, input=array.tobytes(), check=True)


def romm():
    """A matrix profile with the primaries and the gamma of ROMM RGB (ISO 22028-2), written from their numbers."""
    s15 = lambda v: struct.pack(">i", round(v * 65536))
    xyz = lambda a: b"XYZ \0\0\0\0" + b"".join(map(s15, a))
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256)) + b"\0\0"
    text = b"ROMM-like"
    tags = {
        b"rXYZ": xyz((0.7977, 0.2880, 0.0)), b"gXYZ": xyz((0.1352, 0.7119, 0.0)), b"bXYZ": xyz((0.0313, 0.0001, 0.8249)),
        b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + b"\0" * 80, b"cprt": b"text\0\0\0\0CC0\0",
    }
    at, body, table = 128 + 4 + 12 * len(tags), b"", b""
    for key, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += key + struct.pack(">II", at + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ") + b"\0" * 12
    head += b"acsp" + b"\0" * 28 + s15(0.9642) + s15(1) + s15(0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


rgb, gray = Image.fromarray(RGB), Image.fromarray(GRAY)
save("png_rgb8", "png", rgb, RGB)
save("png_rgba8", "png", Image.fromarray(RGBA), RGBA)
save("png_gray8", "png", gray, GRAY)
save("png_gray_alpha8", "png", Image.fromarray(np.dstack([GRAY, ALPHA]), "LA"), np.dstack([GRAY, ALPHA]))
save("png_1bit", "png", Image.fromarray(GRAY > 128), np.where(GRAY > 128, 255, 0).astype(np.uint8))
palette = rgb.quantize(16)
save("png_palette", "png", palette, np.asarray(palette.convert("RGB")))
save("png_palette_trns", "png", palette, np.asarray([[(*palette.convert("RGB").getpixel((i, j)), 0 if palette.getpixel((i, j)) == 3 else 255) for i in range(W)] for j in range(H)], np.uint8), transparency=3)
save("png_gray16", "png", Image.fromarray((GRAY.astype(np.uint16) * 257 + 3).astype(np.uint16)), (GRAY.astype(np.uint16) * 257 + 3).astype(np.uint16))
magick("png_rgb16", "png", RGB16)
put("png_rgb16", "png_rgb16.png", RGB16)
save("bmp_rgb8", "bmp", rgb, RGB)
save("gif_animated", "gif", palette, np.asarray(palette.convert("RGB")), save_all=True, append_images=[gray.quantize(8)], duration=50)
save("webp_lossless", "webp", Image.fromarray(RGBA), RGBA, lossless=True, exact=True)
save("webp_lossy", "webp", Image.fromarray(SMOOTH), np.asarray(Image.open(io.BytesIO((lambda b: (Image.fromarray(SMOOTH).save(b, "webp", quality=90), b.getvalue())[1])(io.BytesIO()))).convert("RGB")), 3, quality=90)
save("webp_animated", "webp", Image.fromarray(RGB), RGB, save_all=True, append_images=[Image.fromarray(SMOOTH)], lossless=True, duration=50)
for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
    save(f"tiff_rgb8_{compression}", "tif", rgb, RGB, compression=compression)
magick("tiff_rgb16_romm", "tif", RGB16, "-compress", "zip")
profiled = os.path.join(OUT, "romm.icc")
open(profiled, "wb").write(romm())
magick("tiff_rgb16_romm", "tif", RGB16, "-compress", "zip", "-profile", profiled)
put("tiff_rgb16_romm", "tiff_rgb16_romm.tif", RGB16)


def jpeg(name, image, tolerance, **options):
    file = os.path.join(OUT, f"{name}.jpg")
    image.save(file, quality=95, subsampling=0, **options)
    return file


file = jpeg("jpeg_rgb", Image.fromarray(SMOOTH), 3)
put("jpeg_rgb", "jpeg_rgb.jpg", np.asarray(Image.open(file).convert("RGB")), 3)
file = jpeg("jpeg_gray", gray, 3)
put("jpeg_gray", "jpeg_gray.jpg", np.asarray(Image.open(file)), 3)
# CMYK without a profile: 1 - min(1, c + k) is what every viewer shows.
cmyk = np.dstack([255 - SMOOTH, np.full((H, W), 20, np.uint8)])
file = jpeg("jpeg_cmyk", Image.fromarray(cmyk, "CMYK"), 6)
naive = np.asarray(Image.open(file), np.float64)
# Pillow gives CMYK as ink; the naive conversion multiplies what paper reflects.
put("jpeg_cmyk", "jpeg_cmyk.jpg", ((255 - naive[..., :3]) * (255 - naive[..., 3:]) / 255).round().astype(np.uint8), 6)
upright = Image.fromarray(SMOOTH)
T = Image.Transpose
# How a camera stores an upright picture under each orientation (Exif 2.3, table 6): the inverse of what viewers do.
stored = {1: None, 2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE, 6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270}
for orientation, operation in stored.items():
    image = upright.transpose(operation) if operation is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825).update({1: "N", 2: (43.0, 12.0, 0.0)})
    name = f"jpeg_orientation{orientation}"
    jpeg(name, image, 4, exif=exif)
    put(name, name + ".jpg", SMOOTH, 6)
srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
save("png_icc", "png", rgb, RGB, icc_profile=srgb)

open(os.path.join(OUT, "index.txt"), "w").write("\n".join(index) + "\n")
