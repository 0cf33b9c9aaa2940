#!/bin/sh
# Installs enlarger from its latest release into ~/.local, or into $PREFIX:
#
#     curl -fsSL https://github.com/enlarger/enlarger/releases/latest/download/install.sh | sh
#
# Only what the release's SHA256SUMS vouch for is installed. To uninstall, remove the files that it lists at the end.
set -eu

release=${ENLARGER_RELEASE:-https://github.com/enlarger/enlarger/releases/latest/download}
prefix=${PREFIX:-$HOME/.local}

fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

fetch() {
    curl -fsSL --retry 3 -o "$2" "$1" || fail "cannot download $1" "check the connection, and try again"
}

# All of it is read before any of it runs, so that a connection that breaks off does no harm.
main() {
    case "$(uname -s) $(uname -m)" in
    "Linux x86_64") target=x86_64-unknown-linux-gnu ;;
    "Linux aarch64") target=aarch64-unknown-linux-gnu ;;
    "Darwin arm64") target=aarch64-apple-darwin ;;
    "Darwin x86_64") target=x86_64-apple-darwin ;;
    *) fail "there is no release for $(uname -s) on $(uname -m)" "build it from source: see docs/guides/install.md" ;;
    esac
    temporary=$(mktemp -d)
    trap 'rm -rf "$temporary"' EXIT
    fetch "$release/SHA256SUMS" "$temporary/SHA256SUMS"
    grep -- "-$target\.tar\.gz\$" "$temporary/SHA256SUMS" >"$temporary/sum" ||
        fail "the release has no archive for $target" "build it from source: see docs/guides/install.md"
    archive=$(sed 's/.*  //' "$temporary/sum")
    fetch "$release/$archive" "$temporary/$archive"
    if command -v sha256sum >/dev/null; then sums=sha256sum; else sums="shasum -a 256"; fi
    (cd "$temporary" && $sums -c sum >/dev/null 2>&1) ||
        fail "$archive is not what the release's SHA256SUMS say" "try again; if it stays so, please report it"
    tar -xzf "$temporary/$archive" -C "$temporary"
    folder=$temporary/${archive%.tar.gz}
    "$folder/enlarger" --version >/dev/null 2>&1 ||
        fail "the binary does not run here; on Linux it needs glibc" "build it from source: see docs/guides/install.md"

    put enlarger "bin/enlarger" 755
    put completions/enlarger.bash share/bash-completion/completions/enlarger
    put completions/_enlarger share/zsh/site-functions/_enlarger
    put completions/enlarger.fish share/fish/vendor_completions.d/enlarger.fish
    for page in "$folder"/man/*.1; do
        put "man/${page##*/}" "share/man/man1/${page##*/}"
    done
    if [ "$(uname -s)" = Linux ]; then
        put linux/enlarger.desktop share/applications/enlarger.desktop
        put linux/enlarger.svg share/icons/hicolor/scalable/apps/enlarger.svg
    fi
    case ":$PATH:" in
    *":$prefix/bin:"*) ;;
    *) printf 'hint: add %s to PATH\n' "$prefix/bin" ;;
    esac
}

# FILE PLACE [MODE]: under the prefix. It is moved into place, so that a running program is not written to.
put() {
    mkdir -p "$prefix/$(dirname "$2")"
    cp "$folder/$1" "$prefix/$2.new"
    chmod "${3:-644}" "$prefix/$2.new"
    mv -f "$prefix/$2.new" "$prefix/$2"
    printf '%s\n' "$prefix/$2"
}

main
