#!/usr/bin/env bash
# Publishes kernelscope as one native file (NativeAOT), with the demo and the PTX inside: for machines that have neither an SDK nor a network.
# Usage: tools/publish-native.sh [RID] [OUTPUT] [INSTRUCTIONS]      default: linux-x64, artifacts/native, x86-64-v3 (AVX2). Needs clang or gcc as a linker.
# INSTRUCTIONS fixes the vector width: x86-64-v4 has AVX-512. A native file does not start on a processor that lacks them; the ordinary build chooses by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
rid=${1:-linux-x64}
out=${2:-artifacts/native}
instructions=${3:-x86-64-v3}
dotnet publish src/KernelScope.Cli -c Release -r "$rid" -p:PublishAot=true -p:PackAsTool=false -p:IlcInstructionSet="$instructions" -o "$out" --nologo
rm -f "$out"/*.xml "$out"/*.dbg
ls -l "$out"
