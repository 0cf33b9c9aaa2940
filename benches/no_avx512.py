"""Runs a Python program while hiding AVX-512 and AMX from its packages, as on a CPU with AVX2 only.

Usage: no_avx512.py PACKAGES PROGRAM [ARGUMENT...]

Neither onnxruntime nor ncnn can be told to leave AVX-512 alone. Their libraries ask the processor by CPUID, so that
instruction is replaced by a breakpoint in a copy of them, in the folder PACKAGES, and a handler answers in its place.
Needs a C compiler and binutils. What the Python packages use is what the copy has: its other libraries (NumPy's) run
as ever.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARIES = re.compile(r"(onnxruntime|openvino|ncnn).*\.so")
CPUID, BREAKPOINT = b"\x0f\xa2", b"\xcc\x90"
# A section of code in a list of `readelf -SW`: its address and its offset in the file, and its size.
SECTION = re.compile(r"PROGBITS\s+([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)\s+\S+\s+AX")


def blind(library):
    """Replaces each CPUID in a library."""
    sections = subprocess.run(["readelf", "-SW", library], check=True, capture_output=True, text=True).stdout
    sections = [[int(number, 16) for number in found] for found in SECTION.findall(sections)]
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", library], check=True, capture_output=True, text=True).stdout
    addresses = [int(line.split(":")[0], 16) for line in code.splitlines() if line.rstrip().endswith("cpuid")]
    with open(library, "r+b") as file:
        for address in addresses:
            place = next(offset + address - start for start, offset, size in sections if start <= address < start + size)
            file.seek(place)
            assert file.read(2) == CPUID, (library, hex(address))
            file.seek(place)
            file.write(BREAKPOINT)
    return len(addresses)


def copy(packages):
    shutil.copytree(sysconfig.get_path("purelib"), packages)
    for folder, _, names in os.walk(packages):
        for library in (os.path.join(folder, name) for name in names):
            if LIBRARIES.search(os.path.relpath(library, packages)) and not os.path.islink(library):
                if replaced := blind(library):
                    print(f"{os.path.basename(library)}: CPUID replaced in {replaced} places", file=sys.stderr)
    handler = os.path.join(packages, "no_avx512.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", os.path.join(HERE, "no_avx512.c"), "-o", handler], check=True)


def main():
    packages, program = os.path.abspath(sys.argv[1]), sys.argv[2:]
    if not os.path.exists(os.path.join(packages, "no_avx512.so")):
        copy(packages)
    preload = os.path.join(packages, "no_avx512.so")
    os.execve(sys.executable, [sys.executable, *program], {**os.environ, "PYTHONPATH": packages, "LD_PRELOAD": preload})


if __name__ == "__main__":
    main()
