#!/usr/bin/env bash
# What published native files print as JSON against the ordinary build with the same vectors, and their size, start-up time and memory against what bench/README.md promises. Linux.
# Usage: tools/check-native.sh [FOLDER]      default: artifacts/native; the ordinary build must be there (dotnet build src/KernelScope.Cli -c Release).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-artifacts/native}
jit=(dotnet artifacts/bin/KernelScope.Cli/release/kernelscope.dll)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
complain() { echo "FAIL $*"; failed=1; }

cat > "$work/tokens.json" <<'T'
[[2, 17, 300, 45, 4000, 9, 77], [2, 5, 900, 31, 8]]
T
compare() { # NAME SETTING FILE: every verb that computes
  local arguments
  while IFS= read -r arguments; do
    eval "env $2 \"\${jit[@]}\" $arguments" > "$work/jit.json" 2> /dev/null || complain "the ordinary build: $arguments"
    eval "\"$3\" $arguments" > "$work/native.json" 2> /dev/null || complain "$1: $arguments"
    cmp -s "$work/jit.json" "$work/native.json" && echo "ok   $1: $arguments" || complain "$1 prints something else: $arguments"
  done <<'A'
features "And the king said, Let there be light." --json
generate "Once upon a time" --max-new-tokens 24 --temperature 0 --steer 7=+5 --json
run "She loved the river more than anything." --splice sae --json
tokenize "  spaces, ünïcödé and 123" --json
attribute "She loved the river more than anything." --loss --json
lens "And the king said" --site resid_post.3 --json
eval --tokens-file "$work/tokens.json" --json
inspect tests/fixtures/sae/evaluation/model --ranges --json
A
}

# Alone, the ordinary file does not hand over.
cp "$folder/kernelscope" "$work/kernelscope"
compare "AVX2" "DOTNET_EnableAVX512=0" "$work/kernelscope"
if [[ -e "$folder/kernelscope-avx512" ]] && grep -qw avx512vl /proc/cpuinfo; then
  compare "AVX-512" "" "$folder/kernelscope"
  "$folder/kernelscope" doctor --json | grep -q avx512f || complain "kernelscope does not hand over to kernelscope-avx512"
fi

least_ms() { # the fastest of ten, in ms
  local best=999999 start took
  for _ in {1..10}; do
    start=$(date +%s%N)
    "$@" > /dev/null 2>&1
    took=$((($(date +%s%N) - start) / 1000000))
    if ((took < best)); then best=$took; fi
  done
  echo "$best"
}
at_most() { if (($2 <= $3)); then echo "ok   $1: $2 (at most $3)"; else complain "$1: $2 (at most $3)"; fi; }

demo=$(find src/KernelScope.Demo/content -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
for file in "$folder"/kernelscope*; do
  # A ceiling against growth, with the server, training, the queue's client and 6.9 MB of PTX in it (bench/README.md has the parts). Before those
  # came in, 20 MB were the bar, and it is not met.
  at_most "$(basename "$file"), KiB without the demo" $((($(stat -c %s "$file") - demo) / 1024)) $((38700000 / 1024))
done
at_most "ms of --help" "$(least_ms "$folder/kernelscope" --help)" 15
at_most "ms of features" "$(least_ms "$folder/kernelscope" features "And the king said, Let there be light.")" 60
exit $failed
