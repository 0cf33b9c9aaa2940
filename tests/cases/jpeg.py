"""JPEG cases: `make(folder)` writes files NAME.jpg and the expected results, NAME.jpg.expected.png.

Needs cjpeg and djpeg (Debian: libjpeg-turbo-progs) and Pillow.
"""

import os
import subprocess
import tempfile

from PIL import Image


def picture(width, height):
    """A binary PPM with slopes and edges."""
    pixels = bytearray()
    for y in range(height):
        for x in range(width):
            edge = 60 if (x // 5 + y // 7) % 2 == 0 else 0
            pixels += bytes(((x * 9 + y * 3 + edge) % 256, (y * 7 + edge) % 256, (255 + x * 2 - y) % 256))
    return b"P6\n%d %d\n255\n" % (width, height) + bytes(pixels)


def cjpeg(*arguments, scans=None, size=(61, 45)):
    with tempfile.TemporaryDirectory() as folder:
        if scans:
            script = os.path.join(folder, "scans")
            with open(script, "w") as out:
                out.write(scans)
            arguments += ("-scans", script)
        command = ["cjpeg", "-quality", "92", *arguments]
        return subprocess.run(command, input=picture(*size), stdout=subprocess.PIPE, check=True).stdout


def djpeg(jpeg):
    with tempfile.TemporaryDirectory() as folder:
        pnm = os.path.join(folder, "out.pnm")
        subprocess.run(["djpeg", "-pnm", "-outfile", pnm], input=jpeg, check=True)
        with Image.open(pnm) as image:
            image.load()
            return image


def segments(jpeg, marker):
    """Start and end of each segment with this marker before the first scan."""
    at, found = 2, []
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == marker:
            found.append((at, end))
        at = end
    return found


def without(jpeg, marker):
    for start, end in reversed(segments(jpeg, marker)):
        jpeg = jpeg[:start] + jpeg[end:]
    return jpeg


def cases():
    """Names, files, and the intact file with the same pixels."""
    each = "0;1;2;"
    for name, sampling in (("420", "2x2"), ("440", "1x2"), ("410", "4x2"), ("311", "3x1"), ("luma-coarser", "1x1,2x2,2x2")):
        jpeg = cjpeg("-sample", sampling, scans=each)
        yield f"jpeg-separate-scans-{name}", jpeg, jpeg
    for name, arguments, scans in (
        ("separate-scans-restarts", ("-sample", "1x1", "-restart", "1"), each),
        ("luma-then-chroma", ("-sample", "2x2"), "0;1 2;"),
        ("chroma-first", ("-sample", "2x2"), "2;0;1;"),
        ("luma-coarser-progressive", ("-sample", "1x1,2x2,2x2", "-progressive"), None),
        ("arithmetic", ("-arithmetic",), None),
        ("arithmetic-progressive", ("-arithmetic", "-progressive"), None),
    ):
        jpeg = cjpeg(*arguments, scans=scans)
        yield f"jpeg-{name}", jpeg, jpeg
    whole = cjpeg("-sample", "2x1")
    first = segments(whole, 0xDB)[0][0]
    yield "jpeg-no-end-mark", whole[:-2], whole
    yield "jpeg-end-mark-of-zeros", whole[:-2] + bytes(512), whole
    yield "jpeg-trailer-for-end-mark", whole[:-2] + b"\0\0\x01\n\x0e\0\0\0Image_UTC_DataSEFHe\0\0\0\xff\xe1\xff\xffSEFT", whole
    yield "jpeg-stray-bytes", whole[:first] + b"\0\0stray\0" + whole[first:], whole
    yield "jpeg-no-tables-of-codes", without(whole, 0xC4), whole
    yield "jpeg-no-tables-of-codes-no-end-mark", without(without(whole, 0xC4), 0xE0)[:-2], whole
    progressive = cjpeg("-progressive")
    yield "jpeg-progressive-no-end-mark", progressive[:-2], progressive


def make(folder):
    for name, jpeg, whole in cases():
        path = os.path.join(folder, name + ".jpg")
        with open(path, "wb") as out:
            out.write(jpeg)
        djpeg(whole).save(path + ".expected.png", optimize=True)


if __name__ == "__main__":
    make(os.path.dirname(os.path.abspath(__file__)))
