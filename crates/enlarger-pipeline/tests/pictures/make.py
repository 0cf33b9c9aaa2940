"""Draws the pictures of the tests and sheets of presets: `python make.py FOLDER`, with numpy and Pillow. They show no real person."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

W, H, S = 128, 144, 4
random = np.random.default_rng(14)


def soft(draw, radius):
    """A mask, 0 to 1, of what `draw` fills, blurred by pixels of the result."""
    mask = Image.new("L", (W * S, H * S), 0)
    draw(ImageDraw.Draw(mask))
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(radius * S)), np.float64)[..., None] / 255


def box(x, y, wide, high):
    return [(x - wide) * S, (y - high) * S, (x + wide) * S, (y + high) * S]


def ellipse(x, y, wide, high, radius=0.4):
    return soft(lambda d: d.ellipse(box(x, y, wide, high), fill=255), radius)


def line(points, width, radius=0.3):
    return soft(lambda d: d.line([(x * S, y * S) for x, y in points], fill=255, width=round(width * S), joint="curve"), radius)


def arc(x, y, wide, high, start, end, count=12):
    angles = np.radians(np.linspace(start, end, count))
    return [(x + wide * np.cos(a), y + high * np.sin(a)) for a in angles]


def portrait():
    """A face from the front, with pores on its skin, before a plain wall."""
    image = np.empty((H * S, W * S, 3))
    y, x = np.mgrid[0 : H * S, 0 : W * S] / S
    image[:] = np.stack([150 + 0.2 * x, 152 + 0.15 * x, 150 - 0.1 * y], -1)

    def paint(mask, colour):
        nonlocal image
        image += mask * (np.asarray(colour, np.float64) - image)

    hair = np.array([62, 42, 30])
    paint(ellipse(64, 58, 39, 46), hair)
    paint(soft(lambda d: d.polygon([(p[0] * S, p[1] * S) for p in [(10, 144), (40, 116), (88, 116), (118, 144)]], fill=255), 1), [70, 80, 110])
    paint(ellipse(64, 116, 15, 18, 1), [178, 132, 108])
    face = ellipse(64, 72, 29, 39, 0.6)
    light = 1.06 - 0.0032 * (x - 44) - 0.0016 * np.abs(y - 66)
    skin = np.array([222, 176, 150]) * light[..., None]
    # Pores: as fine as the picture can show, and weak.
    pores = random.normal(0, 1, (H, W)).repeat(S, 0).repeat(S, 1)
    skin = skin + 4.0 * pores[..., None]
    image += face * (skin - image)
    for side in (-1, 1):
        eye_x = 64 + side * 12.5
        paint(0.35 * ellipse(eye_x, 64, 9, 6, 2.5), [120, 80, 66])
        paint(0.5 * ellipse(64 + side * 18, 88, 7, 7, 4), [226, 140, 122])
        paint(ellipse(eye_x, 65, 6.2, 3.1), [238, 234, 228])
        paint(ellipse(eye_x, 64.8, 3, 3), [84, 100, 72])
        paint(ellipse(eye_x, 64.8, 1.5, 1.5), [16, 14, 14])
        paint(ellipse(eye_x - 1, 63.6, 0.7, 0.7, 0.2), [255, 255, 255])
        paint(line(arc(eye_x, 66, 7, 4.6, 190, 350), 1.3), [38, 26, 22])
        for lash in np.linspace(200, 340, 9):
            a = np.radians(lash)
            paint(line([(eye_x + 7 * np.cos(a), 66 + 4.6 * np.sin(a)), (eye_x + 8.8 * np.cos(a), 66 + 7 * np.sin(a))], 0.5), [38, 26, 22])
        paint(0.85 * line(arc(eye_x, 62, 9, 8, 205, 335), 2.2, 0.6), hair)
        paint(0.5 * ellipse(64 + side * 4, 84.5, 2, 1.2, 0.6), [96, 52, 44])
    paint(0.3 * line([(61, 62), (60, 74), (58.5, 82)], 3, 2), [150, 104, 84])
    paint(0.45 * line(arc(64, 82, 6.5, 4, 20, 160), 1.6, 0.8), [130, 82, 68])
    paint(ellipse(64, 95, 11, 3.6, 0.7), [186, 84, 84])
    paint(line(arc(64, 91, 11, 5, 25, 155), 1.0, 0.3), [96, 34, 38])
    paint(0.4 * line(arc(64, 107, 9, 3, 30, 150), 2, 1.5), [160, 116, 96])
    # A fringe, then strands over all of the hair.
    paint(soft(lambda d: d.chord(box(64, 50, 33, 25), 180, 360, fill=255), 0.8), hair)
    for _ in range(260):
        a = random.uniform(np.pi * 0.93, np.pi * 2.07)
        r = random.uniform(0.8, 0.98)
        root = (64 + random.normal(0, 5), 14 + abs(random.normal(0, 2)))
        end = (64 + 39 * r * np.cos(a), 58 + 46 * r * np.sin(a))
        tone = random.uniform(0.6, 1.9)
        paint(0.7 * line([root, ((root[0] + end[0]) / 2 * 1.04 - 2.5, (root[1] + end[1]) / 2 - 3), end], 0.6, 0.2), hair * tone)
    image += random.normal(0, 0.8, image.shape)
    return reduced(image)


def reduced(image):
    small = image.reshape(H, S, W, S, 3).mean((1, 3))
    return Image.fromarray(np.clip(small + 0.5, 0, 255).astype(np.uint8))


def render():
    """Three balls of even shades on a tiled floor, before an even wall."""
    y, x = np.mgrid[0 : H * S, 0 : W * S] / S
    image = np.stack([64 + 0.7 * y, 90 + 0.62 * y, 140 + 0.45 * y], -1)
    tiles = (np.floor(x / 7) + np.floor(2 * np.sqrt(np.maximum(y - 88, 0)))) % 2
    image[y > 90] = (np.stack([140 + 50 * tiles, 128 + 50 * tiles, 115 + 50 * tiles], -1))[y > 90]
    for cx, cy, r, colour in ((45, 68, 30, (217, 51, 38)), (88, 81, 24, (38, 115, 204)), (70, 104, 12, (242, 204, 51))):
        nx, ny = (x - cx) / r, (y - cy) / r
        nz = np.sqrt(np.maximum(1 - nx**2 - ny**2, 0))
        light = np.clip(-0.5 * nx - 0.6 * ny + 0.6 * nz, 0, 1)[..., None]
        shine = np.clip(-0.45 * nx - 0.5 * ny + 0.74 * nz, 0, 1)[..., None] ** 40
        ball = np.array(colour) * (0.15 + 0.85 * light) + 178 * shine
        image = np.where((nx**2 + ny**2 < 1)[..., None], ball, image)
    return reduced(image)


def sprite():
    """A lantern of 16 x 16 pixels and seven colours on transparent ground."""
    colours = {
        ".": (255, 255, 255, 0),
        "k": (24, 20, 37, 255),
        "b": (90, 60, 40, 255),
        "y": (254, 231, 97, 255),
        "o": (247, 118, 34, 255),
        "r": (190, 40, 50, 255),
        "w": (255, 255, 255, 255),
    }
    rows = """
        ................ ......kkkk...... .....k....k..... .....k....k.....
        ....kkkkkkkk.... ....kbbbbbbk.... .....kyyyyk..... ....kyywwyyk....
        ....kywwwwyk.... ....kyywwyyk.... ....koyyyyok.... ....koooooook...
        .....krrrrk..... ....kbbbbbbk.... ....kkkkkkkk.... ................
    """
    return Image.fromarray(np.array([[colours[c] for c in row] for row in rows.split()], np.uint8))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    render().save(folder / "render.png", optimize=True)
    sprite().save(folder / "sprite.png", optimize=True)
    portrait().save(folder / "portrait.png", optimize=True)
