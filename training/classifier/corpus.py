"""The classifier's training images: photographs and drawn art from Debian packages, each under a free license.

`python corpus.py FOLDER` downloads and unpacks the packages into FOLDER and writes FOLDER/corpus.json, a list of
{"path", "kind": "photo" | "art", "held_out"}. Nothing of it becomes part of the project. Every fourth picture is held
out: it is never trained on and is what the figures in README.md are measured on.
"""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

Image.MAX_IMAGE_PIXELS = None

PACKAGES = [
    "gnome-backgrounds", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "lxqt-themes", "mate-backgrounds",
    "plasma-workspace-wallpapers", "ukui-wallpapers", "stellarium-data", "renpy-thequestion", "wesnoth-1.16-data",
    "openclipart-png", "gimp-help-en", "marble-data", "gcompris-qt-data",
]

# Regular expressions on paths inside a package. Leaves out what fits neither list: abstract gradients, renders and
# blurred backdrops are neither a photograph nor drawn.
PHOTOS = {
    "lomiri-wallpapers-16.04": r".",
    "lomiri-wallpapers-20.04": r".",
    "mate-backgrounds": r"/nature/(?!.*Silk)|/(Garden|Dune|Wood|Aqua|TwoWings|Storm|GreenMeadow|RainDrops|Blinds|FreshFlower|LadyBird|YellowFlower)\.jpg",
    "plasma-workspace-wallpapers": r"/(Autumn|BytheWater|ColdRipple|DarkestHour|EveningGlow|FallenLeaf|FlyingKonqui|Grey|OneStandsOut|Path|SafeLanding|summer_1am|ColorfulCups|Canopee|Kite)/.*\.jpg",
    "lxqt-themes": r"/(flowers|fog|after-the-rain|Butterfly.*|beam|Valendas|appleflower|cloud|drop|this-is-not-windows|butterfly)\.(png|jpg)",
    "stellarium-data": r"/landscapes/.*\.(png|jpg)",
}
NOT_PHOTOS = r"Fossa|Infinite-Sea|Painting-Colors|analogpattern|umang|default|screenshot|FlyingKonqui|guereins_hor|moon/|mars/|saturn|Zero|trees_"
ART = {
    "renpy-thequestion": r"\.(png|jpg)",
    "wesnoth-1.16-data": r"/(portraits|terrain|story|scenery|maps|items|attacks)/|/data/core/images/[^/]*\.png",
    "openclipart-png": r"\.png",
    "gimp-help-en": r"\.png",
    "marble-data": r"\.png",
    "gcompris-qt-data": r"\.(png|jpg)",
}
MOST_OF_A_PACKAGE = 420


def unpack(folder: Path) -> None:
    debs = folder / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    missing = [p for p in PACKAGES if not list(debs.glob(f"{p}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", "-qq", *missing], cwd=debs, check=True)
    for package in PACKAGES:
        root = folder / "root" / package
        if not root.exists():
            root.mkdir(parents=True)
            subprocess.run(["dpkg-deb", "-x", next(debs.glob(f"{package}_*.deb")), root], check=True)


def pictures(folder: Path):
    for kind, rules in (("photo", PHOTOS), ("art", ART)):
        for package, rule in rules.items():
            found = []
            for path in sorted((folder / "root" / package).rglob("*")):
                if path.is_symlink() or path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
                    continue
                inside = "/" + str(path.relative_to(folder / "root" / package))
                if not re.search(rule, inside) or (kind == "photo" and re.search(NOT_PHOTOS, inside)):
                    continue
                try:
                    width, height = Image.open(path).size
                except OSError:
                    continue
                if min(width, height) >= (300 if kind == "photo" else 72):
                    found.append((hashlib.sha256(inside.encode()).hexdigest(), path, width * height))
            # Of the sizes of one photograph the largest; of large packages an even draw.
            if kind == "photo":
                largest = {}
                for digest, path, size in found:
                    name = path.parent.parent.parent.name if "contents" in path.parts else path.stem
                    if name not in largest or size > largest[name][2]:
                        largest[name] = (digest, path, size)
                found = list(largest.values())
            for digest, path, _ in sorted(found)[:MOST_OF_A_PACKAGE]:
                yield {"path": str(path.relative_to(folder)), "kind": kind, "held_out": int(digest[:8], 16) % 4 == 0}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    unpack(folder)
    corpus = list(pictures(folder))
    (folder / "corpus.json").write_text(json.dumps(corpus, indent=0))
    for kind in ("photo", "art"):
        rows = [row for row in corpus if row["kind"] == kind]
        print(kind, len(rows), "of them held out", sum(row["held_out"] for row in rows))
