#!/usr/bin/env bash
# Installs, from Debian's packages, a compiler for 64-bit Arm and an emulator of it.
set -euo pipefail
if command -v qemu-aarch64 >/dev/null && command -v aarch64-linux-gnu-gcc >/dev/null \
  && [ -d /usr/lib/rustlib/aarch64-unknown-linux-gnu ]; then
  exit 0
fi
dpkg --add-architecture arm64
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu qemu-user
