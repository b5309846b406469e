#!/usr/bin/env bash
# Publishes kernelscope as native files (NativeAOT), with the demo and the PTX inside: for machines that have neither an SDK nor a network. Needs clang or gcc as a linker.
# Usage: tools/publish-native.sh [--check] [RID] [OUTPUT] [INSTRUCTIONS]      default: linux-x64, artifacts/native
#        tools/publish-native.sh --kit [OUTPUT]      default: artifacts/kit; kernelscope-kit for tools/gpu-check.sh: linux-x64 with AVX2, without the server and dash, the demo with the SAEs that verify needs.
#                                                    Fails if it and the script have more than 60 MiB.
# A native file is compiled for one instruction set. By default there are two on x64: kernelscope runs on every processor with AVX2 (x86-64-v3) and, on Linux, hands over to kernelscope-avx512
# (x86-64-v4) beside it where the processor has AVX-512. Each works alone. INSTRUCTIONS makes one file instead, such as x86-64-v2 for processors without AVX2 (slow).
# --check: afterwards, what they print as JSON and what their servers answer must be what the ordinary build gives with the same vectors, and they must be as small, quick and frugal as bench/README.md says.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ${1:-} == --kit ]]; then
  out=${2:-artifacts/kit}
  mkdir -p "$out"
  # With build outputs of its own: the ordinary ones keep the whole demo and the server. Analyzers are for the ordinary build.
  dotnet publish src/KernelScope.Cli -c Release -r linux-x64 -p:PublishAot=true -p:PackAsTool=false -p:IlcInstructionSet=x86-64-v3 -p:DemoContent=minimal -p:Web=false -p:RunAnalyzers=false \
    -p:ArtifactsPath="$PWD/artifacts/kit-build" -o "$out/.kit" --nologo
  mv "$out/.kit/kernelscope" "$out/kernelscope-kit"
  cp tools/gpu-check.sh "$out/"
  rm -rf "$out/.kit"
  bytes=$(($(stat -c %s "$out/kernelscope-kit") + $(stat -c %s "$out/gpu-check.sh")))
  echo "kit: $bytes bytes (at most $((60 << 20)))"
  ((bytes <= 60 << 20))
  exit
fi

check=
if [[ ${1:-} == --check ]]; then check=1; shift; fi
rid=${1:-linux-x64}
out=${2:-artifacts/native}
instructions=${3:-}

publish() { # INSTRUCTIONS FILE OPTION…
  local folder="$out/.${2//\//.}"
  dotnet publish src/KernelScope.Cli -c Release -r "$rid" -p:PublishAot=true -p:PackAsTool=false ${1:+-p:IlcInstructionSet="$1"} "${@:3}" -o "$folder" --nologo
  local name=kernelscope
  [[ -e "$folder/$name" ]] || name=kernelscope.exe
  mv "$folder/$name" "$out/${name/kernelscope/$2}"
  rm -rf "$folder"
}

mkdir -p "$out"
if [[ -n $instructions || $rid != *-x64 ]]; then
  publish "$instructions" kernelscope
else
  publish x86-64-v3 kernelscope
  publish x86-64-v4 kernelscope-avx512
fi
ls -l "$out"

if [[ -n $check ]]; then
  # What the server costs: the same without it, with build outputs of its own.
  mkdir -p "$out/without-server"
  publish "${instructions:-x86-64-v3}" without-server/kernelscope -p:Web=false -p:ArtifactsPath="$PWD/artifacts/without-server-build"
  dotnet build src/KernelScope.Cli -c Release --nologo -v q
  tools/check-native.sh "$out"
fi
