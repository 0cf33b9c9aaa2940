#!/bin/bash
# Installs the files of a release on a Debian without Rust and Node, uses them, and removes them.
#
# Usage, as root: clean-root.sh FILES ROOT
#   FILES  a folder with a wheel and a Debian package, as `make dist` makes it
#   ROOT   a folder with that Debian; made with debootstrap (and the network) if it is missing
set -euo pipefail
files=$(realpath "$1") root=$2
here=$(realpath "$(dirname "$0")/..")
[ -e "$root" ] || debootstrap --variant=minbase --include=python3-venv,systemd,adduser "${SUITE:-bookworm}" "$root"
root=$(realpath "$root")

# What is mounted goes when this process ends, and there is no network but the loopback.
[ -n "${APART:-}" ] || APART=1 exec unshare --mount --net "$0" "$files" "$root"
ip link set lo up
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
within=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 chroot "$root")
inside() { "${within[@]}" "$@"; }
never() { if inside "$@"; then echo "should have failed: $*"; exit 1; fi; }
step() { printf '\n== %s\n' "$*"; }

step "Nothing to build with"
for tool in cargo rustc node npm gcc; do never sh -c "command -v $tool"; done

rm -rf "$root/tmp/release" && mkdir "$root/tmp/release"
cp "$files"/*.whl "$files"/*.deb "$here/samples/brushes.png" "$root/tmp/release/"
listing() { (cd "$root" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./tmp -o -path ./run -o -path ./var/log -o -path ./var/lib/dpkg \
    -o -path ./var/cache -o -name __pycache__ \) -prune -o -print | sort); }

step "The wheel"
inside python3 -m venv /tmp/release/venv
inside sh -c '/tmp/release/venv/bin/pip install --no-index --disable-pip-version-check /tmp/release/*.whl'
inside /tmp/release/venv/bin/enlarger upscale /tmp/release/brushes.png -s 1.5x --draft -o /tmp/release/wheel.png
inside test -s /tmp/release/wheel.png
inside /tmp/release/venv/bin/pip uninstall -q -y enlarger
never test -e /tmp/release/venv/bin/enlarger

step "A wheel of another platform is refused"
wheel=$(basename "$root"/tmp/release/*.whl)
cp "$root/tmp/release/$wheel" "$root/tmp/${wheel%-*}-win_amd64.whl"
refused=$(inside /tmp/release/venv/bin/pip install --no-index "/tmp/${wheel%-*}-win_amd64.whl" 2>&1) && exit 1
rm "$root/tmp/${wheel%-*}-win_amd64.whl"
echo "$refused" | grep 'not a supported wheel on this platform'

step "The Debian package"
listing > "$root/tmp/before"
inside sh -c 'dpkg -i /tmp/release/*.deb'
inside enlarger --version
inside systemd-analyze verify --man=no enlarger.service

step "The service, as its unit starts it"
start=$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/enlarger.service")
install -d -m 700 "$root/var/lib/enlarger" && inside chown enlarger:enlarger /var/lib/enlarger
(exec "${within[@]}" setpriv --reuid=enlarger --regid=enlarger --init-groups $start) > "$root/tmp/service.log" 2>&1 &
service=$!
trap 'kill $service 2>/dev/null || true; cat "$root/tmp/service.log"' EXIT
inside python3 - <<'PYTHON'
import base64, json, time, urllib.request
def call(path, body=None):
    return json.load(urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:7788" + path, body)))
for _ in range(600):
    try:
        urllib.request.urlopen("http://127.0.0.1:7788/readyz"); break
    except OSError:
        time.sleep(0.1)
image = base64.b64encode(open("/tmp/release/brushes.png", "rb").read()).decode()
body = {"image": image, "request": {"size": {"factor": 1.5}, "quality": "draft"}}
task = call("/api/tasks", json.dumps(body).encode())
while task["status"] not in ("COMPLETED", "FAILED"):
    time.sleep(0.2); task = call("/api/tasks/" + task["task_id"])
assert task["status"] == "COMPLETED", task
print("enlarged:", task["result"]["width"], "x", task["result"]["height"])
PYTHON
kill $service && wait $service
trap - EXIT

step "Removed, and purged"
inside dpkg -r enlarger
never test -e /usr/bin/enlarger
inside test -e /var/lib/enlarger/tasks.sqlite
inside dpkg -P enlarger
listing > "$root/tmp/after"
# Users of packages stay, as Debian has it.
left=$(comm -13 "$root/tmp/before" "$root/tmp/after" | grep -v -E '^\./etc/(passwd|group|shadow|gshadow|subuid|subgid)' || true)
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
echo "nothing is left"
