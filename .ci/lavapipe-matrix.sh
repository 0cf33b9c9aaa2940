#!/usr/bin/env bash
# Unpacks Mesa 26's software renderer, the first with units for matrices, into .tools/lavapipe-matrix: from Debian's unstable
# suite, with all libraries down to the C library, for one test that runs itself by them. Nothing is installed. Where it cannot be
# had, that test says so.
set -euo pipefail
cd "$(dirname "$0")/.."
to=.tools/lavapipe-matrix
[ ! -e "$to/driver.json" ] || exit 0
cannot() { echo "Kernels for matrix units will not be tested: $1" >&2; exit 0; }
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || cannot "this is no Debian on x86-64"
rm -rf "$to"
mkdir -p "$to"/apt/{state/lists,cache/archives}/partial "$to"/lib
: > "$to/apt/status"
# From where this system's packages come.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | grep -v security | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} sid main" > "$to/apt/sources"
apt() {
    apt-get -qq -o Dir::State="$PWD/$to/apt/state" -o Dir::State::status="$PWD/$to/apt/status" -o Dir::Cache="$PWD/$to/apt/cache" \
        -o Dir::Etc::sourcelist="$PWD/$to/apt/sources" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User="$(id -un)" "$@"
}
# Without recorded packages, all that they depend on is downloaded.
apt update && apt install -y --download-only --no-install-recommends mesa-vulkan-drivers libvulkan1 ||
    cannot "Debian's unstable suite cannot be reached"
for package in "$to"/apt/cache/archives/*.deb; do dpkg-deb -x "$package" "$to/unpacked"; done
find "$to/unpacked" -name '*.so*' -path '*x86_64-linux-gnu*' -not -path '*/gconv/*' -not -name 'libvulkan_[!l]*' -exec cp -P -t "$to/lib" {} +
sed "s|\"library_path\": \".*\"|\"library_path\": \"$PWD/$to/lib/libvulkan_lvp.so\"|" "$to"/unpacked/usr/share/vulkan/icd.d/lvp_icd*.json > "$to/driver.json"
rm -rf "$to/unpacked" "$to/apt"
