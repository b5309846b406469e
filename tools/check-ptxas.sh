#!/usr/bin/env bash
# Assembles every committed PTX with NVIDIA's own assembler for sm_75, 80, 86, 89, 90 and holds the result to kernels/ptx/resources.json: registers, spills, shared memory, blocks on a
# multiprocessor, loads under way. The assembler is not part of this project: it is taken from PTXAS and NVDISASM if they are set, or from the PATH, or from Debian's non-free section without
# installing anything (84 MB, kept in the user's cache). Where none is to be had, one line says why, and nothing fails.
# Usage: tools/check-ptxas.sh [--write]      --write: writes resources.json instead
set -euo pipefail
cd "$(dirname "$0")/.."
mode=--check
if [[ ${1:-} == --write ]]; then mode=; fi

skip() { echo "ptxas: skipped: $1."; exit 0; }

ptxas=${PTXAS:-$(command -v ptxas || true)}
nvdisasm=${NVDISASM:-$(command -v nvdisasm || true)}
if [[ -z $ptxas ]]; then
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/kernelscope/ptxas
  if [[ ! -x $cache/usr/bin/ptxas ]]; then
    sources=/etc/apt/sources.list.d/debian.sources
    [[ -e $sources ]] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "no ptxas on the PATH, and this system is not Debian"
    [[ $(dpkg --print-architecture) == amd64 ]] || skip "no ptxas on the PATH, and Debian has it for amd64 only"
    mkdir -p "$cache/lists/partial" "$cache/parts" "$cache/cache/archives/partial"
    sed 's/^Components: main.*/Components: main non-free/' "$sources" > "$cache/parts/debian.sources"
    apt=(apt-get -qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$cache/parts" -o "Dir::State::Lists=$cache/lists" -o "Dir::Cache=$cache/cache" -o "Acquire::Retries=0" -o "Acquire::http::Timeout=20")
    timeout 120 "${apt[@]}" update 2>/dev/null || skip "Debian's non-free section cannot be reached"
    (cd "$cache" && timeout 300 "${apt[@]}" download nvidia-cuda-toolkit 2>/dev/null) || skip "nvidia-cuda-toolkit cannot be downloaded"
    dpkg-deb --fsys-tarfile "$cache"/nvidia-cuda-toolkit_*.deb | tar -x -C "$cache" ./usr/bin/ptxas ./usr/bin/nvdisasm
    rm -rf "$cache"/*.deb "$cache/lists" "$cache/cache"
  fi
  ptxas=$cache/usr/bin/ptxas
  nvdisasm=$cache/usr/bin/nvdisasm
fi
[[ -n $nvdisasm ]] || skip "there is a ptxas, but no nvdisasm beside it"

began=$SECONDS
status=0
dotnet run --project tools/PtxCompiler -c Release ${KERNELSCOPE_NO_BUILD:+--no-build} -- $mode --ptxas "$ptxas" --nvdisasm "$nvdisasm" || status=$?
echo "ptxas: $((SECONDS - began)) s"
exit $status
