#!/usr/bin/env bash
# Cuts all that an air-gapped GPU host needs for the reference run into parts of at most 60 MB.
#
# usage: bundle.sh OUT_DIR        writes OUT_DIR/part-00, part-01, ... and OUT_DIR/SHA256SUMS; needs the network
#
# The host is expected to have Linux on x86-64, Python 3.12, torch 2.11 for CUDA 13 and what host-has.txt names.
# The engine and this project get a folder each: vLLM pins an older starlette than ours.
set -euo pipefail
PART_BYTES=${PART_BYTES:-60000000}
NVITOP=(nvitop==1.7.2 nvitop-exporter==1.7.2 cachetools==8.0.1)

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pip matches a platform exactly, so every glibc up to the host's is named.
platforms=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
for minor in $(seq 5 39); do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done

download() { # FOLDER, then what pip download takes
  local folder=$1
  shift
  "$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" -d "$work/$folder" "$@"
}

names=$(sed '/^#/d; s/[-_]/[-_]/g; s/.*/^&==/' "$here/host-has.txt")
# The pins alone: pip would want a hash of the plugin below, too, if it saw any.
sed -n '/^[A-Za-z0-9]/s/ \\$//p' "$root/workload/requirements.lock" | grep -viE -f <(echo "$names") > "$work/project.txt"
download engine -r "$here/engine.txt"
download project -r "$work/project.txt" "${NVITOP[@]}"
rm "$work/project.txt"
"$python" -m pip wheel -q --no-deps -w "$work/project" "$root"

# Debian's binaries need nothing but glibc.
mkdir "$work/deb" "$work/prometheus"
(cd "$work/deb" && apt-get -q -o APT::Sandbox::User=root download prometheus && dpkg-deb -x prometheus_*.deb .)
gzip -c "$work/deb/usr/bin/prometheus" > "$work/prometheus/prometheus.gz"
gzip -c "$work/deb/usr/bin/promtool" > "$work/prometheus/promtool.gz"
rm -r "$work/deb"

mkdir -p "$work/checkout/tests/fixtures"
cp -r "$root/benchmarks" "$work/checkout/"
cp -r "$root/tests/fixtures/h200" "$work/checkout/tests/fixtures/"

rm -f "$out"/part-* "$out/SHA256SUMS"
tar -C "$work" -cf - . | split -b "$PART_BYTES" -d -a 2 - "$out/part-"
(cd "$out" && sha256sum part-* > SHA256SUMS)
ls -l "$out"
