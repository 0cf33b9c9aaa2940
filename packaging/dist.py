#!/usr/bin/env python3
"""Makes the files of a release from a built binary.

Usage: dist.py package BINARY OUT [--level N]   an archive and a Python wheel for this platform, and on Debian a package
       dist.py manifests OUT [--complete]       manifests of package managers for all archives in OUT, install.sh and SHA256SUMS

`--level` is how hard to compress, 0 to 9. With `--complete` it is an error if an archive that a manifest names is missing;
without, that manifest is left out.

The binary is asked for its version, completions and man pages, so it must run on this machine. Files get the time of
the last commit (or SOURCE_DATE_EPOCH), so that the same binary gives the same archive.
"""

import argparse
import base64
import csv
import gzip
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "packaging"


@dataclass(frozen=True)
class Target:
    """A platform, by its names in several worlds."""

    triple: str
    wheel: str
    debian: str = ""


# Minimum versions of macOS are those of Rust's targets.
TARGETS = {
    ("Linux", "x86_64"): Target("x86_64-unknown-linux-gnu", "manylinux_2_{glibc}_x86_64", "amd64"),
    ("Linux", "aarch64"): Target("aarch64-unknown-linux-gnu", "manylinux_2_{glibc}_aarch64", "arm64"),
    ("Darwin", "arm64"): Target("aarch64-apple-darwin", "macosx_11_0_arm64"),
    ("Darwin", "x86_64"): Target("x86_64-apple-darwin", "macosx_10_12_x86_64"),
    ("Windows", "AMD64"): Target("x86_64-pc-windows-msvc", "win_amd64"),
}

COMPLETIONS = {"bash": "enlarger.bash", "zsh": "_enlarger", "fish": "enlarger.fish", "powershell": "_enlarger.ps1"}


def run(*words, **options):
    return subprocess.run([str(word) for word in words], check=True, **options)


def output(*words):
    return run(*words, capture_output=True, text=True).stdout


def epoch():
    """Seconds since 1970 that all files are dated with."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    try:
        return int(output("git", "-C", ROOT, "log", "-1", "--format=%ct"))
    except (OSError, subprocess.CalledProcessError):
        return int(time.time())


def repository():
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    return re.search(r'^repository = "(.+)"$', manifest, re.MULTILINE)[1]


def fill(template, **values):
    """The text of a template, with its `{{name}}` filled in."""
    text = (HERE / template).read_text(encoding="utf-8")
    return re.sub(r"\{\{([^}]+)\}\}", lambda match: values[match[1]], text)


def glibc(binary):
    """The newest 2.x of glibc whose symbols the binary uses."""
    return max(int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", binary.read_bytes()))


class Release:
    """What one platform's files are made of."""

    def __init__(self, binary, folder):
        self.binary = folder / binary.name
        shutil.copy2(binary, self.binary)
        self.binary.chmod(0o755)
        if platform.system() != "Windows":
            run("strip", self.binary)
        self.version = output(self.binary, "--version").split()[1]
        self.target = TARGETS[platform.system(), platform.machine()]
        self.name = f"enlarger-{self.version}-{self.target.triple}"
        self.completions = folder / "completions"
        self.completions.mkdir()
        for shell, name in COMPLETIONS.items():
            (self.completions / name).write_text(output(self.binary, "completions", shell), encoding="utf-8")
        self.man = folder / "man"
        run(self.binary, "man", self.man)

    def files(self):
        """Everything in the archive, as pairs of a name and a file."""
        documents = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES.md"]
        yield self.binary.name, self.binary
        yield from ((name, ROOT / name) for name in documents)
        yield from ((f"licenses/{path.name}", path) for path in sorted((ROOT / "models/licenses").iterdir()))
        yield from ((f"completions/{path.name}", path) for path in sorted(self.completions.iterdir()))
        yield from ((f"man/{path.name}", path) for path in sorted(self.man.iterdir()))
        if platform.system() == "Linux":
            yield from ((f"linux/{path.name}", path) for path in sorted((HERE / "linux").iterdir()))
            yield "linux/enlarger.svg", ROOT / "web/public/icon.svg"

    def archive(self, out, level):
        """A folder in a tar archive, or on Windows in a zip."""
        if platform.system() == "Windows":
            path = out / f"{self.name}.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
                for name, file in self.files():
                    archive.write(file, f"{self.name}/{name}")
            return path
        path = out / f"{self.name}.tar.gz"
        with path.open("wb") as raw, gzip.GzipFile("", "wb", level, raw, mtime=epoch()) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for name, file in self.files():
                    member = archive.gettarinfo(file, f"{self.name}/{name}")
                    member.uid = member.gid = 0
                    member.uname = member.gname = "root"
                    member.mtime = epoch()
                    member.mode = 0o755 if file == self.binary else 0o644
                    with file.open("rb") as content:
                        archive.addfile(member, content)
        return path

    def debian(self, out, level):
        """A package with the command, completions, man pages, an entry for file managers, and a service."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"

            def put(place, content, mode=0o644):
                path = root / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
                path.chmod(mode)

            put("usr/bin/enlarger", self.binary.read_bytes(), 0o755)
            for shell, place in {
                "bash": "bash-completion/completions/enlarger",
                "zsh": "zsh/vendor-completions/_enlarger",
                "fish": "fish/vendor_completions.d/enlarger.fish",
            }.items():
                put(f"usr/share/{place}", (self.completions / COMPLETIONS[shell]).read_bytes())
            for page in self.man.iterdir():
                put(f"usr/share/man/man1/{page.name}.gz", gzip.compress(page.read_bytes(), mtime=epoch()))
            put("usr/share/applications/enlarger.desktop", (HERE / "linux/enlarger.desktop").read_bytes())
            put("usr/share/icons/hicolor/scalable/apps/enlarger.svg", (ROOT / "web/public/icon.svg").read_bytes())
            put("usr/lib/systemd/system/enlarger.service", (ROOT / "deploy/enlarger.service").read_bytes())
            settings = output(self.binary, "serve", "--print-config")
            put("etc/enlarger/config.toml", settings.replace('#data_dir = ""', 'data_dir = "/var/lib/enlarger"'))
            put("usr/share/doc/enlarger/copyright", self.copyright())
            changes = (ROOT / "CHANGELOG.md").read_bytes()
            put("usr/share/doc/enlarger/changelog.gz", gzip.compress(changes, mtime=epoch()))

            size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
            control = {"version": self.version, "architecture": self.target.debian, "glibc": str(glibc(self.binary))}
            control |= {"size": str(size // 1024), "homepage": repository()}
            put("DEBIAN/control", fill("debian/control", **control))
            put("DEBIAN/conffiles", "/etc/enlarger/config.toml\n")
            for script in ["postinst", "prerm", "postrm"]:
                put(f"DEBIAN/{script}", (HERE / "debian" / script).read_bytes(), 0o755)
            for path in [root, *root.rglob("*")]:
                if path.is_dir():
                    path.chmod(0o755)
                os.utime(path, (epoch(), epoch()))
            path = out / f"enlarger_{self.version}_{self.target.debian}.deb"
            # Weights hardly compress: level 1 takes half a minute, and level 9 was not done after ten.
            packed = ["-Zxz", "-z1"] if level else ["-Znone"]
            run("dpkg-deb", "--build", "--root-owner-group", *packed, root, path, stdout=subprocess.DEVNULL)
            return path

    def copyright(self):
        """Licenses of the program, the models and the libraries, in one text."""
        texts = [ROOT / "LICENSE-MIT", *sorted((ROOT / "models/licenses").iterdir()), ROOT / "THIRD-PARTY-NOTICES.md"]
        head = f"enlarger ({repository()}) is licensed under Apache-2.0 (/usr/share/common-licenses/Apache-2.0) or MIT.\n"
        return head + "".join(f"\n{'=' * 80}\n{path.read_text(encoding='utf-8')}" for path in texts)

    def wheel(self, out, level):
        """A wheel that puts the binary beside `python`. Its format: https://packaging.python.org/specifications/binary-distribution-format/"""
        tag = self.target.wheel
        if platform.system() == "Linux":
            tag = tag.format(glibc=glibc(self.binary))
        info = f"enlarger-{self.version}.dist-info"
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        contents = [
            (f"enlarger-{self.version}.data/scripts/{self.binary.name}", self.binary.read_bytes(), 0o755),
            (f"{info}/METADATA", fill("python/METADATA", version=self.version, homepage=repository()) + readme, 0o644),
            (f"{info}/WHEEL", fill("python/WHEEL", tag=tag), 0o644),
        ]
        for path in [ROOT / "LICENSE-APACHE", ROOT / "LICENSE-MIT", ROOT / "THIRD-PARTY-NOTICES.md"]:
            contents.append((f"{info}/licenses/{path.name}", path.read_bytes(), 0o644))
        record = io.StringIO()
        rows = csv.writer(record, lineterminator="\n")
        path = out / f"enlarger-{self.version}-py3-none-{tag}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:

            def put(name, content, mode):
                entry = zipfile.ZipInfo(name, time.gmtime(epoch())[:6])
                entry.external_attr = (0o100000 | mode) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)

            for name, content, mode in contents:
                content = content if isinstance(content, bytes) else content.encode()
                put(name, content, mode)
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                rows.writerow([name, f"sha256={digest}", len(content)])
            rows.writerow([f"{info}/RECORD", "", ""])
            put(f"{info}/RECORD", record.getvalue(), 0o644)
        return path


def package(binary, out, level):
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        release = Release(binary, Path(folder))
        made = [release.archive(out, level), release.wheel(out, level)]
        if release.target.debian and shutil.which("dpkg-deb"):
            made.append(release.debian(out, level))
    for path in made:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


MANIFESTS = ["homebrew", "aur", "winget"]


def manifests(out, complete):
    archives = {}
    for path in sorted(out.iterdir()):
        if match := re.fullmatch(r"enlarger-([0-9][^-]*)-(.+?)\.(?:tar\.gz|zip)", path.name):
            archives[match[2]] = (match[1], path)
    if not archives:
        sys.exit(f"error: there are no archives in {out}\nhint: make them with `dist.py package`")
    version = {version for version, _ in archives.values()}
    if len(version) > 1:
        sys.exit(f"error: there are archives of several versions in {out}: {', '.join(sorted(version))}")
    version = version.pop()
    values = {"version": version, "homepage": repository(), "date": time.strftime("%Y-%m-%d", time.gmtime(epoch()))}
    for triple, (_, path) in archives.items():
        values[f"url {triple}"] = f"{repository()}/releases/download/v{version}/{path.name}"
        values[f"sha256 {triple}"] = sha256(path)
    for manager in MANIFESTS:
        templates = sorted((HERE / manager).iterdir())
        try:
            texts = [fill(template, **values) for template in templates]
        except KeyError as missing:
            what = f"the manifest for {manager} names an archive that is missing: {missing.args[0].split()[-1]}"
            if complete:
                sys.exit(f"error: {what}")
            print(f"left out: {what}")
            continue
        (out / manager).mkdir(exist_ok=True)
        for template, text in zip(templates, texts):
            path = out / manager / template.name
            path.write_text(text, encoding="utf-8")
            print(f"{path}  {check(path)}")
    shutil.copy2(HERE / "install.sh", out)
    sums = [f"{sha256(path)}  {path.name}\n" for path in sorted(out.iterdir()) if path.is_file() and path.name != "SHA256SUMS"]
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    print(out / "SHA256SUMS")


def check(path):
    """Whether a manifest is well-formed, by what is installed here."""
    match path.suffix:
        case ".rb" if shutil.which("ruby"):
            run("ruby", "-c", path, stdout=subprocess.DEVNULL)
        case "" if shutil.which("bash"):
            run("bash", "-n", path)
        case ".yaml":
            try:
                import yaml
            except ImportError:
                return "not checked: PyYAML is not installed"
            yaml.safe_load(path.read_text(encoding="utf-8"))
        case _:
            return "not checked: nothing is installed that reads it"
    return "well-formed"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("package")
    make.add_argument("binary", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--level", type=int, default=9)
    fill_in = commands.add_parser("manifests")
    fill_in.add_argument("out", type=Path)
    fill_in.add_argument("--complete", action="store_true")
    args = parser.parse_args()
    if args.command == "package":
        package(args.binary, args.out, args.level)
    else:
        manifests(args.out, args.complete)


if __name__ == "__main__":
    main()
