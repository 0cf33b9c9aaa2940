"""Makes the unusual files of this folder: as other programs write them, and as transfers and old software leave them.

    python3 tests/cases/make.py

Beside the inputs lie, for `crates/enlarger/tests/cases.rs`:
- NAME.expected.png: the pixels that every input whose name begins with NAME must have; the longest NAME counts.
- FILE.refused.txt: the input must be refused with these words.
- FILE.notes.txt: each line must be among the words that the command says.

Needs Python 3.10 with Pillow 13 and, of libtiff's tools, tiffcp (Debian: libtiff-tools). Results are committed.
"""

import io
import os
import struct
import subprocess
import zlib

from PIL import Image

OUT = os.path.dirname(os.path.abspath(__file__))
W, H = 40, 28


def path(name):
    return os.path.join(OUT, name)


def put(name, data, refused=None, notes=()):
    with open(path(name), "wb") as file:
        file.write(data)
    if refused:
        with open(path(name + ".refused.txt"), "w") as file:
            file.write(refused + "\n")
    if notes:
        with open(path(name + ".notes.txt"), "w") as file:
            file.write("".join(note + "\n" for note in notes))


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def drawing():
    """Smooth colours with two flat shapes and a thin line."""
    image = Image.new("RGB", (W, H))
    image.putdata([(40 + 4 * x, 30 + 7 * y, 220 - 3 * x - 2 * y) for y in range(H) for x in range(W)])
    image.paste((200, 64, 32), (6, 5, 18, 15))
    image.paste((250, 250, 240), (24, 12, 35, 24))
    image.paste((0, 0, 0), (3, 20, 38, 21))
    return image


RGB = drawing()


# Fax and scanner software: 1 bit, bits of a byte from the lowest, and every fax code.
def fax():
    page = Image.new("1", (64, 48), 1)
    page.paste(0, (5, 4, 30, 6))
    for i in range(20):
        page.paste(0, (8 + 2 * i, 10 + i, 9 + 2 * i + i % 4, 12 + i))
    page.paste(0, (40, 8, 63, 9))
    page.paste(0, (0, 36, 64, 47))
    page.paste(1, (17, 38, 50, 45))
    page.save(path("fax.expected.png"))
    source = path("source.tif")
    page.save(source, compression="raw")
    for name, compression in [
        ("none", "none"), ("packbits", "packbits"), ("lzw", "lzw"), ("zip", "zip"),
        ("g3-1d", "g3:1d"), ("g3-2d", "g3:2d"), ("g3-1d-fill", "g3:1d:fill"), ("g4", "g4"),
    ]:
        for order in ("msb2lsb", "lsb2msb"):
            target = path(f"fax-{name}-{order}.tif")
            subprocess.run(["tiffcp", "-c", compression, "-f", order, "-r", "20", source, target], check=True)
    put("fax-huffman.tif", saved(page, "TIFF", compression="tiff_ccitt"))
    os.remove(source)


# TIFF files beyond strips in a row.
def entries(order, tags, at, next=0):
    """A directory at an offset, followed by its values."""
    table, values = b"", b""
    values_at = at + 2 + 12 * len(tags) + 4
    for tag, kind, numbers in sorted(tags):
        data = b"".join(struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], n) for n in numbers)
        head = struct.pack(order + "HHI", tag, kind, len(numbers))
        if len(data) <= 4:
            table += head + data.ljust(4, b"\0")
        else:
            table += head + struct.pack(order + "I", values_at + len(values))
            values += data + b"\0" * (len(data) % 2)
    return struct.pack(order + "H", len(tags)) + table + struct.pack(order + "I", next) + values


def page(image, at, length=None, subfile=None, more=()):
    """The tags of a page whose samples lie at an offset, in one strip."""
    samples = len(image.getbands())
    length = len(image.tobytes()) if length is None else length
    tags = [
        (256, 3, [image.width]), (257, 3, [image.height]), (258, 3, [8] * samples), (259, 3, [1]), (262, 3, [2]),
        (273, 4, [at]), (277, 3, [samples]), (278, 3, [image.height]), (279, 4, [length]), *more,
    ]
    return tags if subfile is None else [(254, 4, [subfile]), *tags]


def tiff():
    pixels, small = RGB.tobytes(), RGB.resize((10, 7))
    for order, magic in (("<", b"II*\0"), (">", b"MM\0*")):
        name = "little" if order == "<" else "big"
        # Behind the header lie pixels, then directories.
        start = 8 + len(pixels)
        head = lambda first: magic + struct.pack(order + "I", first)
        directory = entries(order, page(RGB, 8, length=0), start)
        put(f"rgb-tiff-no-byte-counts-{name}.tif", head(start) + pixels + directory)
        tags = [tag for tag in page(RGB, 8) if tag[0] != 279]
        put(f"rgb-tiff-without-byte-counts-{name}.tif", head(start) + pixels + entries(order, tags, start))
        # A thumbnail comes first.
        start += len(small.tobytes())
        second = start + len(entries(order, page(small, 0, subfile=1), 0))
        first = entries(order, page(small, 8 + len(pixels), subfile=1), start, second)
        file = head(start) + pixels + small.tobytes() + first + entries(order, page(RGB, 8, subfile=0), second)
        put(f"rgb-tiff-thumbnail-first-{name}.tif", file)
        # What the sensor saw is in a directory below the thumbnail's.
        sensor = [(254, 4, [0]), (256, 3, [W]), (257, 3, [H]), (258, 3, [8]), (259, 3, [1]), (262, 3, [32803]), (273, 4, [8]),
                  (277, 3, [1]), (278, 3, [H]), (279, 4, [W * H])]
        tags = page(small, 8 + len(pixels), subfile=1, more=[(330, 4, [second])])
        second = start + len(entries(order, tags, 0))
        tags[-1] = (330, 4, [second])
        file = head(start) + pixels + small.tobytes() + entries(order, tags, start) + entries(order, sensor, second)
        put(f"raw-sensor-below-{name}.nef", file, refused="a camera raw file")
        tags = page(small, 8 + len(pixels), subfile=1, more=[(50706, 1, [1, 4, 0, 0])])
        file = head(start) + pixels + small.tobytes() + entries(order, tags, start)
        put(f"raw-version-{name}.dng", file, refused="a camera raw file")
    put("raw-canon.cr2", b"II*\0\x10\0\0\0CR\x02\0" + b"\0" * 100, refused="a camera raw file")
    put("raw-olympus.orf", b"IIRO\x08\0\0\0" + b"\0" * 100, refused="a camera raw file")
    put("raw-panasonic.rw2", b"IIU\0\x18\0\0\0" + b"\0" * 100, refused="a camera raw file")
    for name, number, words in (
        ("zstandard", 50000, "this TIFF file has Zstandard compression, which is not supported"),
        ("lzma", 34925, "this TIFF file has LZMA compression, which is not supported"),
        ("unheard-of", 4711, "this TIFF file has compression type 4711, which is not supported"),
    ):
        tags = [(259, 3, [number]) if tag[0] == 259 else tag for tag in page(RGB, 8)]
        file = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + entries("<", tags, 8 + len(pixels))
        put(f"tiff-{name}.tif", file, refused=words)
    # Strips that overlap: each is nearly the whole file.
    strips = [8 + i for i in range(H)]
    tags = [tag for tag in page(RGB, 8) if tag[0] not in (273, 278, 279)]
    tags += [(273, 4, strips), (278, 3, [1]), (279, 4, [len(pixels) - H] * H)]
    file = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + entries("<", tags, 8 + len(pixels))
    put("tiff-overlapping-strips.tif", file, refused="its strips or tiles overlap")


# PNG: what lies in chunks.
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks, image=RGB):
    """A PNG with chunks after its header, which is 25 bytes long and follows a signature of 8 bytes."""
    file = saved(image, "PNG")
    return file[:33] + b"".join(chunk(*c) for c in chunks) + file[33:]


def png():
    plain = saved(RGB, "PNG")
    put("rgb-png-no-iend.png", plain[:-12])
    put("rgb-png-half-iend.png", plain[:-5])
    put("rgb-png-no-last-checksum.png", plain[:-16])
    put("png-cut.png", plain[: len(plain) * 2 // 3], refused="the PNG file is truncated")
    put("rgb-png-cicp-srgb.png", with_chunks((b"cICP", bytes((1, 13, 0, 1)))))
    put("rgb-png-gama-srgb.png", with_chunks((b"gAMA", struct.pack(">I", 45455))))
    for name, transfer in (("pq", 16), ("hlg", 18)):
        hdr = with_chunks((b"cICP", bytes((9, transfer, 0, 1))))
        put(f"rgb-png-cicp-{name}.png", hdr, notes=[f"the image is HDR ({name.upper()})"])
    linear = [round(65535 * (v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4)) for v in range(256)]
    rows = b""
    for y in range(H):
        row = b"".join(struct.pack(">H", linear[v]) for x in range(W) for v in RGB.getpixel((x, y)))
        rows += b"\0" + row
    deep = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 16, 2, 0, 0, 0))
    deep += chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    put("linear-png-gama.png", deep, notes=["the linear colors were converted to sRGB"])
    # Orientation 6 is upright once turned to the right by a quarter.
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + entries(">", [(274, 3, [6])], 8)
    turned = RGB.transpose(Image.Transpose.ROTATE_90)
    put("rgb-png-exif-with-prefix.png", with_chunks((b"eXIf", exif), image=turned))
    put("rgb-png-exif-without-prefix.png", with_chunks((b"eXIf", exif[6:]), image=turned))


def gif():
    image = RGB.quantize(32)
    image.convert("RGB").save(path("indexed.expected.png"))
    file = saved(image, "GIF")
    # The descriptor of the picture, behind palette and extensions.
    at = file.rindex(b"\x2c" + struct.pack("<HHHH", 0, 0, W, H))
    put("indexed-gif-zeros-before-picture.gif", file[:at] + b"\0\0" + file[at:])
    put("indexed-gif-zeros-before-trailer.gif", file[:-1] + b"\0\0\0;")
    put("indexed-gif-junk-before-trailer.gif", file[:-1] + b"\x77;", notes=["damaged after its first frame"])
    put("indexed-gif-no-trailer.gif", file[:-1])
    put("indexed-gif-canvas-0x0.gif", file[:6] + b"\0\0\0\0" + file[10:])
    second = file[at:-1]
    put("indexed-gif-second-frame-cut.gif", file[:-1] + second[: len(second) // 2], notes=["damaged after its first frame"])
    put("gif-cut.gif", file[: at + 40], refused="the GIF file is truncated")


def bmp():
    image = RGB.quantize(32)
    palette = image.getpalette() + [0] * (768 - 96)
    colours = b"".join(bytes((b, g, r, 0)) for r, g, b in zip(palette[::3], palette[1::3], palette[2::3]))
    runs = b""
    for y in reversed(range(H)):
        x = 0
        while x < W:
            value, end = image.getpixel((x, y)), x
            while end < W and image.getpixel((end, y)) == value:
                end += 1
            runs, x = runs + bytes((end - x, value)), end
        runs += b"\0\0"
    def file(runs):
        head = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 8, 1, len(runs), 0, 0, 256, 0)
        at = 14 + len(head) + len(colours)
        return struct.pack("<2sIHHI", b"BM", at + len(runs), 0, 0, at) + head + colours + runs
    put("indexed-bmp-runs.bmp", file(runs + b"\0\1"))
    put("indexed-bmp-no-end-mark.bmp", file(runs))
    put("indexed-bmp-no-last-row-end.bmp", file(runs[:-2]))
    put("bmp-runs-cut.bmp", file(runs[: len(runs) // 2]), refused="the BMP file is truncated")


def webp():
    """Assembles RIFF chunks whose contents come from libwebp."""
    def riff(*chunks):
        body = b"WEBP" + b"".join(k + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for k, d in chunks)
        return b"RIFF" + struct.pack("<I", len(body)) + body
    def stream(file):
        return file[12:16], file[20 : 20 + struct.unpack("<I", file[16:20])[0]]
    size = lambda w, h: struct.pack("<I", w - 1)[:3] + struct.pack("<I", h - 1)[:3]
    lossy = saved(RGB, "WEBP", quality=95)
    Image.open(io.BytesIO(lossy)).convert("RGB").save(path("webp-lossy.expected.png"))
    header = lambda flags: (b"VP8X", bytes((flags, 0, 0, 0)) + size(W, H))
    put("webp-lossy-jpeg-like.webp", lossy)
    put("webp-lossy-jpeg-like-alpha-flag.webp", riff(header(0x10), stream(lossy)))
    shaded = RGB.copy()
    shaded.putalpha(Image.linear_gradient("L").resize((W, H)).point(lambda v: max(v, 1)))
    shaded.save(path("webp-blended.expected.png"))
    lossless = stream(saved(shaded, "WEBP", lossless=True, exact=True))
    inner = lossless[0] + struct.pack("<I", len(lossless[1])) + lossless[1] + b"\0" * (len(lossless[1]) % 2)
    frame = b"\0" * 6 + size(W, H) + struct.pack("<I", 50)[:3]
    for name, flags in (("blended", 0), ("replaced", 2)):
        frames = [(b"ANMF", frame + bytes((flags,)) + inner)] * 2
        file = riff(header(0x12), (b"ANIM", b"\xff\xff\xff\xff\0\0"), *frames)
        put(f"webp-blended-{name}.webp", file, notes=["only its first frame was used"])


if __name__ == "__main__":
    RGB.save(path("rgb.expected.png"))
    RGB.save(path("linear.expected.png"))
    fax()
    tiff()
    png()
    gif()
    bmp()
    webp()
