#!/usr/bin/env bash
# Unpacks the photos that quality is measured on into FOLDER. They come from Debian's wallpaper packages, are never
# installed and never part of the project; the list leaves out what is no photograph.
set -euo pipefail
folder=${1:?name a folder}
photos="Bridge Dragonfly Kleiber Picture_0B Picture_1A Wine aitzgorri free friends greentock life picosdeeuropa"
if [ -e "$folder/.complete" ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"
(cd "$work" && apt-get download -qq lomiri-wallpapers-16.04 lomiri-wallpapers-20.04)
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
for photo in $photos; do
    find "$work/root" -name "${photo}_by_*.jpg" -type f -exec cp {} "$folder/" \;
done
touch "$folder/.complete"
