#!/usr/bin/env bash
# Unpacks the photos that quality is measured on into FOLDER. They come from Debian's wallpaper packages, are never
# installed and never part of the project. Nothing was trained on them: training/classifier/corpus.py leaves them out.
set -euo pipefail
folder=${1:?name a folder}
photos=(
    lomiri-wallpapers-16.04/usr/share/backgrounds/{Wine_by_Jakkub_Mede,picosdeeuropa_by_Aitzol_Berasategi,sunset_by_Aitzol_Berasategi}.jpg
    mate-backgrounds/usr/share/backgrounds/mate/nature/{Aqua,Dune,FreshFlower,Wood}.jpg
    lxqt-themes/usr/share/lxqt/wallpapers/{beam,butterfly,drop}.png
    plasma-workspace-wallpapers/usr/share/wallpapers/{Autumn,BytheWater,EveningGlow,Kite,summer_1am}/contents/images/2560x1600.jpg
)
if [ -e "$folder/.complete" ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"
packages=$(printf '%s\n' "${photos[@]%%/*}" | sort -u)
(cd "$work" && apt-get download -qq $packages)
for package in $packages; do dpkg-deb -x "$work/$package"_*.deb "$work/$package"; done
for photo in "${photos[@]}"; do
    name=${photo##*/}
    # Plasma's are named by their size.
    if [ "$name" = 2560x1600.jpg ]; then name=${photo%%/contents/*} && name=${name##*/}.jpg; fi
    cp "$work/$photo" "$folder/$name"
done
touch "$folder/.complete"
