#!/bin/sh
# The static binary of the image: `deploy/binary.sh FOLDER` leaves it at FOLDER/canary-mcp. Needs Rust, a C compiler and the C library's static
# part (gcc and libc6-dev).
set -eu
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags are for the program only: procedural macros cannot be static.
RUSTFLAGS="-C target-feature=+crt-static ${RUSTFLAGS:-}" cargo build --locked --profile dist --target "$host" --bin canary-mcp
mkdir -p "$1"
cp "${CARGO_TARGET_DIR:-target}/$host/dist/canary-mcp" "$1/canary-mcp"
