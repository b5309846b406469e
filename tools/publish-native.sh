#!/usr/bin/env bash
# Publishes kernelscope as one native file (NativeAOT), with the demo inside: for machines that have neither an SDK nor a network.
# Usage: tools/publish-native.sh [RID] [OUTPUT]      default: linux-x64, artifacts/native. Needs clang or gcc as a linker.
set -euo pipefail
cd "$(dirname "$0")/.."
rid=${1:-linux-x64}
out=${2:-artifacts/native}
dotnet publish src/KernelScope.Cli -c Release -r "$rid" -p:PublishAot=true -p:PackAsTool=false -p:StripSymbols=true -o "$out" --nologo
rm -f "$out"/*.xml "$out"/*.dbg
ls -l "$out"
