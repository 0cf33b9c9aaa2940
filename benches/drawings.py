#!/usr/bin/env python3
"""`drawings.py FOLDER`: draws the drawings, pages and screens that quality is measured on into FOLDER.

The drawings are vector graphics from packages of Debian's KDE games, which are never installed and never part of the project; nothing was
trained on them (training/classifier/corpus.py). The pages and screens are in benches/drawings/. Chromium draws all of them four times as large: the
upper left 640 x 480 pixels are what a camera with four times the resolution would see.
"""

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

DRAWINGS = {
    "ktuberling-data": "usr/share/ktuberling/pics",
    "khangman": "usr/share/khangman/themes",
}
PAGES = Path(__file__).parent / "drawings"
# Chromium takes some of the height for itself.
WINDOW = "640,720"
# Parts of a drawing, as if it were 320 pixels wide.
PARTS = {"left": "0% 30%", "right": "100% 70%"}
FRAME = """<body style="margin:0;background:white"><div style="width:160px;height:120px;
background:url('{name}') {part}/320px auto no-repeat"></div>"""


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    if (folder / ".complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        subprocess.run(["apt-get", "download", "-qq", *DRAWINGS], cwd=work, check=True)
        for package, themes in DRAWINGS.items():
            subprocess.run(["dpkg-deb", "-x", next(work.glob(f"{package}_*.deb")), work / package], check=True)
            for file in sorted((work / package / themes).glob("*.svg*")):
                data = file.read_bytes()
                drawing = work / f"{file.stem}.svg"
                drawing.write_bytes(gzip.decompress(data) if file.suffix == ".svgz" else data)
                for name, part in PARTS.items():
                    page = FRAME.format(name=drawing.name, part=part)
                    draw(page, work, folder / f"art-{file.stem}-{name}.png")
        for page in sorted(PAGES.glob("*.html")):
            draw(page.read_text(), work, folder / f"{page.stem}.png")
    (folder / ".complete").touch()


def draw(page: str, work: Path, to: Path) -> None:
    """Takes a screenshot of a page whose files are in `work`."""
    file = work / "page.html"
    file.write_text(f"<style>html {{ zoom: 4 }}</style>{page}")
    flags = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WINDOW}", f"--user-data-dir={work}/profile"]
    subprocess.run(["chromium", *flags, f"--screenshot={to}", file.as_uri()], check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    main()
