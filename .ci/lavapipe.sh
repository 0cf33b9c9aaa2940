#!/usr/bin/env bash
# Unpacks Mesa's software renderer for Vulkan (lavapipe) and the Vulkan loader from Debian's packages into .tools/lavapipe, for
# the tests of GPUs. Nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
to=.tools/lavapipe
[ ! -e "$to/driver.json" ] || exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
    echo "The tests of GPUs need Mesa's lavapipe and a Vulkan loader. Without Debian's tools, put libvulkan.so.1 and driver.json" >&2
    echo "(lavapipe's lvp_icd.json with the full path of libvulkan_lvp.so) into $to." >&2
    exit 1
}
rm -rf "$to"
mkdir -p "$to/packages"
download() { (cd "$to/packages" && apt-get download -qq mesa-vulkan-drivers libvulkan1 2>/dev/null); }
# Package lists may be old or missing.
download || { [ "$(id -u)" = 0 ] && apt-get update -qq || sudo apt-get update -qq; download; }
for package in "$to"/packages/*.deb; do dpkg-deb -x "$package" "$to/unpacked"; done
mv "$to"/unpacked/usr/lib/*/libvulkan_lvp.so "$to"/unpacked/usr/lib/*/libvulkan.so.1* "$to"
missing=$(ldd "$to/libvulkan_lvp.so" | grep "not found" || true)
[ -z "$missing" ] || { echo "lavapipe needs libraries that Chromium brings along; install it: $missing" >&2; exit 1; }
sed "s|\"library_path\": \".*\"|\"library_path\": \"$PWD/$to/libvulkan_lvp.so\"|" "$to"/unpacked/usr/share/vulkan/icd.d/lvp_icd.*.json > "$to/driver.json"
rm -rf "$to/unpacked" "$to/packages"
