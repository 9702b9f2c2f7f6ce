#!/usr/bin/env bash
# Converts what real programs wrote, and loads it with real programs. scripts/interop.py does it; this makes its two
# environments below target/interop, from PyPI, and the loader in Rust.
#
#     scripts/interop.sh [CKPT2ST]
#
# CKPT2ST is the program to test; without it the release is built. Prints a table and writes it to
# target/interop/interop.md. Nothing but packages is downloaded. Where PyPI cannot be reached nothing is tested and the
# exit code is 0; where it can be, what fails is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=$PWD/target/interop
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_QUIET=1
# What programs cache stays below target/ too.
export XDG_CACHE_HOME=$home/cache HF_HOME=$home/cache/huggingface TMPDIR=$home/tmp PYTHONPYCACHEPREFIX=$home/pycache
mkdir -p "$home" "$TMPDIR"

# The first Python of some versions that can make environments.
find_python() {
    local minor
    for minor in "$@"; do
        if "python3.$minor" -c 'import ensurepip, venv' 2> "$home/python.err"; then
            echo "python3.$minor"
            return
        fi
        if python3 -c "import ensurepip, sys, venv; sys.exit(sys.version_info[1] != $minor)" 2> "$home/python.err"; then
            echo python3
            return
        fi
    done
    return 1
}

# Whether the registry answers, asked for something small.
reachable() {
    rm -rf "$home/probe"
    "$1" -m pip download --no-deps --no-cache-dir --dest "$home/probe" mdurl==0.1.2 2> "$home/reach.err"
}

# An environment with what a file lists: its own folder, where torch starts. Made once for each list.
environment() {
    local name=$1 python=$2 list=$3 folder=$home/$1
    if cmp -s "$list" "$folder/installed.txt"; then
        return
    fi
    local start=$SECONDS attempt
    rm -rf "$folder"
    "$python" -m venv "$folder"
    for attempt in 1 2 3; do
        if "$folder/bin/python" -m pip install --no-deps --no-compile --no-cache-dir -r "$list"; then
            break
        fi
        if [ "$attempt" = 3 ]; then
            echo "interop: $list could not be installed in 3 attempts" >&2
            return 1
        fi
        sleep $((attempt * 10))
    done
    start_torch "$folder" "$(grep '^torch==' "$list")"
    cp "$list" "$folder/installed.txt"
    echo "interop: $name made in $((SECONDS - start)) s, $(du -sh "$folder" | cut -f1)"
}

# torch without NVIDIA's libraries; with them where that does not work.
start_torch() {
    local python=$1/bin/python packages
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    if [ "$(uname -s)" = Linux ]; then
        "$python" scripts/interop_cuda.py "$packages" || echo 'interop: the CUDA libraries could not be replaced' >&2
    fi
    if ! "$python" -c 'import torch' 2> "$home/torch.err"; then
        cat "$home/torch.err" >&2
        echo 'interop: torch does not start so; installing it with all it wants' >&2
        "$python" -m pip install --no-compile --no-cache-dir --force-reinstall "$2"
        "$python" -c 'import torch'
    fi
}

waiting=''
trap 'if [ -n "$waiting" ]; then kill "$waiting" 2> "$home/kill.err" || true; fi' EXIT

main() {
    local python old='' binary=${1:-}
    if ! python=$(find_python 11 12 13 14); then
        echo 'interop: skipped: no Python from 3.11 to 3.14 with venv and ensurepip is here'
        return
    fi
    if ! reachable "$python"; then
        tail -n 1 "$home/reach.err"
        echo 'interop: skipped: PyPI cannot be reached'
        return
    fi
    if old=$(find_python 11 10 9); then
        # Most of it is waiting for the network, so it goes beside the rest.
        environment torch113 "$old" scripts/interop_torch113.txt > "$home/torch113.log" 2>&1 &
        waiting=$!
        old=$home/torch113/bin/python
    else
        echo 'interop: torch 1.13.1 is skipped: no Python from 3.9 to 3.11 is here, and it has no wheels for others'
    fi
    environment current "$python" scripts/interop.txt
    if [ -z "$binary" ]; then
        cargo build --locked --release
        binary=$CARGO_TARGET_DIR/release/ckpt2st
    fi
    cargo build --locked --manifest-path scripts/interop_rust/Cargo.toml
    if [ -n "$waiting" ] && ! wait "$waiting"; then
        cat "$home/torch113.log" >&2
        return 1
    fi
    "$home/current/bin/python" scripts/interop.py --ckpt2st "$binary" --old-python "$old" \
        --rust "$CARGO_TARGET_DIR/debug/interop_rust" --folder "$home/work" --table "$home/interop.md"
}

main "$@"
