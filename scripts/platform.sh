#!/usr/bin/env bash
# For scripts that build for a platform, or run what was built: `source scripts/platform.sh`, then `platform TRIPLE`.
# What is set here is for who sources this.
# shellcheck shell=bash disable=SC2034

# The platforms of a release. They are Rust's names.
platforms=(
    x86_64-unknown-linux-gnu
    aarch64-unknown-linux-gnu
    x86_64-unknown-linux-musl
    aarch64-unknown-linux-musl
)

# The oldest glibc that the binaries run with: the one that Rust's own standard library needs.
oldest_glibc=2.17

# Sets what depends on the platform, and the environment of cargo and go for it.
platform() {
    triple=$1
    local machine=${triple%%-*} libc=${triple##*-} cross
    case " ${platforms[*]} " in
        *" $triple "*) ;;
        *)
            echo "$0: $triple is no platform of a release; these are: ${platforms[*]}" >&2
            exit 2
            ;;
    esac
    case $machine in
        x86_64) goarch=amd64 ;;
        aarch64) goarch=arm64 ;;
    esac
    # The name with the glibc version is cargo-zigbuild's, and zig's.
    if [[ $libc == gnu ]]; then
        rust_target=$triple.$oldest_glibc zig_target=$machine-linux-gnu.$oldest_glibc
    else
        rust_target=$triple zig_target=$machine-linux-musl
    fi
    cross=$PWD/build/cross-tools
    export PATH=$cross/bin:$PATH CARGO_ZIGBUILD_ZIG_PATH=$cross/bin/zig
    # A folder of its own: these flags would make each build of this machine's own start from nothing.
    export CARGO_TARGET_DIR=$PWD/build/cross
    built=$CARGO_TARGET_DIR/$triple/release
    # No folder of this machine gets into what is built.
    local cargo_home=${CARGO_HOME:-$HOME/.cargo}
    export CARGO_ENCODED_RUSTFLAGS=--remap-path-prefix=$PWD=/atlock$'\x1f'--remap-path-prefix=$cargo_home=/cargo
    export CFLAGS="-ffile-prefix-map=$PWD=/atlock -ffile-prefix-map=$cargo_home=/cargo"
}
