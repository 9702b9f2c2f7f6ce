#!/usr/bin/env bash
# Writes src/verdict/allowed.txt, standard_library.txt and python2.txt: see scripts/allow/README.md.
#
#     scripts/allow_list.sh [--ready FOLDER] [--check]
#
# FOLDER has the environments of scripts/interop.sh; without it all are made below target/allow, from PyPI. --check
# fails when a file changes. PYTHONS names the folder with the Pythons, as pyenv lays them out (default
# ~/.pyenv/versions).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=$PWD/target/allow
pythons=${PYTHONS:-$HOME/.pyenv/versions}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_QUIET=1 TMPDIR=$home/tmp PYTHONDONTWRITEBYTECODE=1
mkdir -p "$TMPDIR"

python() {
    echo "$pythons"/"$1".*/bin/python"$1" | cut -d' ' -f1
}

# Installs a list with pip; further arguments say where.
install() {
    local interpreter=$1 list=$2 folder=$3
    shift 3
    cmp -s "$list" "$folder/installed.txt" && return
    "$interpreter" -m pip install --no-deps --no-compile --no-cache-dir -r "$list" "$@"
    cp "$list" "$folder/installed.txt"
}

# An environment of its own: name, Python, list.
environment() {
    [ -x "$home/$1/bin/python" ] || "$(python "$2")" -m venv "$home/$1"
    cmp -s "$3" "$home/$1/installed.txt" && return
    install "$home/$1/bin/python" "$3" "$home/$1"
    "$home/$1/bin/python" scripts/interop_cuda.py "$home/$1/lib/python$2/site-packages"
}

main() {
    local ready='' check='' current
    while [ $# -gt 0 ]; do
        case $1 in
            --ready) ready=$(realpath "$2"); shift ;;
            --check) check=yes ;;
            *) echo "allow_list: unknown argument $1" >&2; exit 2 ;;
        esac
        shift
    done
    environment torch113 3.10 scripts/allow/torch113.txt
    environment torch24 3.11 scripts/allow/torch24.txt
    if [ -n "$ready" ]; then
        current=$ready/current/bin/python
    else
        environment torch215 3.11 scripts/interop.txt
        current=$home/torch215/bin/python
    fi
    mkdir -p "$home/current"
    install "$current" scripts/allow/current.txt "$home/current" --target "$home/current" --upgrade
    "$(python 3.11)" scripts/allow current="$current:$home/current" torch24="$home/torch24/bin/python" \
        torch113="$home/torch113/bin/python" python38="$(python 3.8)" python311="$(python 3.11)" \
        python313="$(python 3.13)" --report "$home/left_out.txt"
    "$(python 3.11)" scripts/allow/standard.py "$(python 3.6)" "$(python 3.7)" "$(python 3.9)" \
        "$(python 3.10)" "$(python 3.12)" --import "$(python 3.8)" --import "$(python 3.11)" --import "$(python 3.13)"
    if [ -n "$check" ]; then
        git diff --exit-code --stat -- src/verdict
    fi
}

main "$@"
