#!/usr/bin/env bash
# How fast NativeAOT programs are beside the JIT with the same vectors: tests/Consumers/Native from the packages, published for x86-64-v3 (beside DOTNET_EnableAVX512=0) and, where the processor has AVX-512,
# for x86-64-v4. The builds take turns of a quarter of a second, because speed changes from second to second on a machine that others use too: only ratios of one round mean something. Linux.
# Usage: tools/compare-native.sh [--model FOLDER] [ROUNDS]      default: the demo, 21 rounds; prefill and decode should both be 0.9 of the JIT's speed or more.
# With more to run than there are cores, who gets one decides, and ratios go from 0.2 to 4: RUN_WITH="chrt -f 20" runs the programs that are timed before all others (as root).
set -euo pipefail
cd "$(dirname "$0")/.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
model=()
if [[ ${1:-} == --model ]]; then model=(--model "$(realpath "$2")"); shift 2; fi
rounds=${1:-21}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

dotnet pack KernelScope.sln -c Release -o "$work/feed" --nologo -v q
version=$(basename "$work"/feed/KernelScope.Demo.*.nupkg .nupkg)
version=${version#KernelScope.Demo.}
cp -r tests/Consumers/Native "$work/source"
settings=(-c Release --nologo -v q -p:KernelScopeVersion="$version" -p:RestoreAdditionalProjectSources="$work/feed" -p:RestorePackagesPath="$work/packages"
  -p:RestoreFallbackFolders="${NUGET_PACKAGES:-$HOME/.nuget/packages}")
dotnet publish "$work/source" "${settings[@]}" -o "$work/v3"
if grep -qw avx512vl /proc/cpuinfo; then dotnet publish "$work/source" "${settings[@]}" -p:IlcInstructionSet=x86-64-v4 -o "$work/v4"; fi
dotnet build "$work/source" "${settings[@]}" -p:PublishAot=false -o "$work/jit"

failed=0
start() { # NAME COMMAND…: it reads the pipe NAME.to and writes the pipe NAME.from
  mkfifo "$work/$1.to" "$work/$1.from"
  ${RUN_WITH:-} "${@:2}" --turns "${model[@]}" < "$work/$1.to" > "$work/$1.from" &
}
turn_of_jit() { echo "$1" >&3; read -r jit <&4; }
turn_of_native() { echo "$1" >&5; read -r native <&6; }
compare() { # NAME SETTING PROGRAM
  local what round jit native
  start jit env "$2" "$work/jit/Native"
  start native "$3"
  exec 3> "$work/jit.to" 4< "$work/jit.from" 5> "$work/native.to" 6< "$work/native.from"
  read -r jit <&4
  read -r native <&6
  [[ $jit == "$native" ]] || { echo "FAIL $1: $native beside $jit"; failed=1; }
  for what in prefill decode; do
    for ((round = 0; round < rounds; round++)); do
      # Who begins changes from round to round.
      if ((round % 2)); then turn_of_jit $what; turn_of_native $what; else turn_of_native $what; turn_of_jit $what; fi
      echo "$native $jit"
    done | awk '{ print $1 / $2, $1, $2 }' | sort -g | awk -v name="$1 $what" '
      { ratio[NR] = $1; native[NR] = $2; jit[NR] = $3 }
      END {
        middle = int((NR + 1) / 2)
        printf "%s %s: %.2f of the JIT (%.2f to %.2f), %.0f and %.0f tokens/s in the round of the median\n", ratio[middle] < 0.9 ? "FAIL" : "ok  ", name, ratio[middle], ratio[1], ratio[NR], native[middle], jit[middle]
        exit ratio[middle] < 0.9
      }' || failed=1
  done
  exec 3>&- 4<&- 5>&- 6<&-
  wait
  rm "$work"/{jit,native}.{to,from}
}

compare x86-64-v3 DOTNET_EnableAVX512=0 "$work/v3/Native"
if [[ -e $work/v4/Native ]]; then compare x86-64-v4 DOTNET_EnableAVX512=1 "$work/v4/Native"; fi
exit $failed
