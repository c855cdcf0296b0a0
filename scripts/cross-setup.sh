#!/usr/bin/env bash
# Prepares a Debian machine with rustup to check localhub for Windows and macOS:
#
#   scripts/cross-setup.sh           cargo check|clippy --target x86_64-pc-windows-gnu|aarch64-apple-darwin,
#                                    cargo build --target x86_64-pc-windows-gnu
#   scripts/cross-setup.sh --wine    also Wine, so that `. /opt/localhub-cross/env.sh` and then
#                                    `cargo test --target x86_64-pc-windows-gnu` works
#
# Does only what is missing. The standard library of a target comes from rustup; where rustup's server is
# out of reach it is built from Debian's rust-src package of the same version as the compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

base=${LOCALHUB_CROSS:-/opt/localhub-cross}
targets=(x86_64-pc-windows-gnu aarch64-apple-darwin)
case ${1-} in
    '') wine=false ;;
    --wine) wine=true ;;
    *) echo "usage: $0 [--wine]" >&2; exit 2 ;;
esac

say() { printf 'cross-setup: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

has_std() { compgen -G "$(rustc --print target-libdir --target "$1")/libstd-*.rlib" > /dev/null; }

# Installs Debian packages, as root or by sudo.
install_packages() {
    command -v apt-get > /dev/null || die "this is no Debian: install $* by hand, then run this again"
    local sudo=()
    [ "$EUID" = 0 ] || sudo=(sudo)
    say "installing $*"
    local log
    log=$(mktemp)
    { "${sudo[@]}" apt-get update &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
        > "$log" 2>&1 < /dev/null || { tail -20 "$log" >&2; die "apt-get could not install $*"; }
    rm "$log"
}

# Unpacks the standard library's source for compiler version $1 to $2/library, from whichever Debian suite has it.
# The machine's own package lists stay as they are.
unpack_std_source() {
    local version=$1 dir=$2 mirror suite package
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/$') || return
    for suite in trixie-backports trixie forky sid; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done > "$dir/sources.list"
    local apt=(-q -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=-
        -o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache"
        -o Acquire::Languages=none -o APT::Sandbox::User=root)
    mkdir -p "$dir"/{lists,cache/archives}/partial
    apt-get "${apt[@]}" update > "$dir/log" 2>&1 || true # a suite may be gone by now: another may do
    package=$(apt-cache "${apt[@]}" madison rust-src | awk -v v="$version+" 'index($3, v) == 1 { print $3; exit }')
    [ -n "$package" ] || return
    (cd "$dir" && apt-get "${apt[@]}" download "rust-src=$package" >> log 2>&1) || return
    dpkg-deb --fsys-tarfile "$dir"/rust-src_*.deb |
        tar -x -C "$dir" --strip-components=4 --wildcards './usr/src/rustc-*/library'
}

# Builds the standard library for each target in "$@" as the compiler's own build does, and puts it
# where rustup would.
build_std() {
    local version sysroot work target lib
    version=$(rustc --version | cut -d' ' -f2)
    sysroot=$(rustc --print sysroot)
    work=$(mktemp -d)
    say "rustup does not have it here: building std $version for $*"
    unpack_std_source "$version" "$work" || die "no Debian suite has rust-src $version (see $work/log)"
    # A dylib would need each target's linker.
    sed -i 's/crate-type = \["dylib", "rlib"\]/crate-type = ["rlib"]/' "$work/library/std/Cargo.toml"
    rm -rf "$work/library/.cargo" "$work/library/vendor"
    for target in "$@"; do
        (cd "$work/library" &&
            env -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET \
                PATH="$sysroot/bin:$PATH" CARGO_TARGET_DIR="$work/target" CARGO_INCREMENTAL=0 \
                RUSTC_BOOTSTRAP=1 __CARGO_DEFAULT_LIB_METADATA=localhub \
                RUSTFLAGS="-Zforce-unstable-if-unmarked --remap-path-prefix=$PWD=/rustc/library" \
                cargo build -q --profile dist --target "$target" --manifest-path sysroot/Cargo.toml \
                --features 'panic-unwind backtrace') || die "std for $target did not build (in $work)"
        lib=$(rustc --print target-libdir --target "$target")
        rm "$work/target/$target/dist/deps"/libsysroot-*.rlib
        mkdir -p "$lib.new"
        cp "$work/target/$target/dist/deps"/*.rlib "$lib.new"
        rm -rf "$lib"
        mv "$lib.new" "$lib"
    done
    rm -rf "$work"
}

# Mingw's win32 flavour: programs by the posix one may ask for libwinpthread-1.dll. Building std needs it, too.
packages=()
command -v x86_64-w64-mingw32-gcc > /dev/null || packages+=(gcc-mingw-w64-x86-64-win32)
if $wine; then command -v wine > /dev/null || packages+=(wine wine64); fi
[ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"

missing=()
for target in "${targets[@]}"; do
    has_std "$target" || missing+=("$target")
done
if [ ${#missing[@]} -gt 0 ] && ! timeout 20 rustup -q target add "${missing[@]}" < /dev/null 2> /dev/null; then
    build_std "${missing[@]}"
fi

if $wine && [ ! -e "$base/env.sh" ]; then
    say "making a Wine prefix in $base"
    mkdir -p "$base"
    cat > "$base/env.new" <<END
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine
export WINEPREFIX=$base/prefix WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml,winemenubuilder.exe='
unset DISPLAY
END
    . "$base/env.new"
    rm -rf "$WINEPREFIX"
    wineboot --init > "$base/wineboot.log" 2>&1 < /dev/null || die "wineboot failed (see $base/wineboot.log)"
    wineserver --wait
    # std takes random numbers from this library, which Wine lacks before version 9.
    dll=$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll
    if [ ! -e "$dll" ]; then
        printf 'EXPORTS\nProcessPrng=advapi32.SystemFunction036\n' > "$base/bcryptprimitives.def"
        x86_64-w64-mingw32-gcc -shared -nostdlib -Wl,--entry,0 -o "$dll" "$base/bcryptprimitives.def"
    fi
    mv "$base/env.new" "$base/env.sh" # last: its presence says that all of this is done
fi

say "ready: ${targets[*]}$($wine && echo " (for Wine: . $base/env.sh)")"
