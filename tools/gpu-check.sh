#!/usr/bin/env bash
# First contact of kernelscope with a GPU: what works there, what does not, and how fast it is, in one file, within 8 minutes. Needs a native file of tools/publish-native.sh, bash and the NVIDIA driver: no SDK,
# no network, no root. Every step is a process of its own under a time limit; a failure never stops the next; the results are written anew after each step, so that a run that is cut off still tells.
# Usage: tools/gpu-check.sh FILE OUT.json [--device NAME]      default: cuda; with emulated it rehearses: tiny shapes, nothing timed
# The last line of standard output is the summary, as JSON. Exit 0 if everything agreed, 1 if not, 2 for bad usage.
set -uo pipefail

program=${1:-}
out=${2:-}
device=cuda
if [[ ${3:-} == --device ]]; then device=${4:-}; fi
if [[ -z $program || -z $out || -z $device || ( ${3:-} != --device && -n ${3:-} ) ]]; then
  echo "Usage: tools/gpu-check.sh FILE OUT.json [--device NAME]" >&2
  exit 2
fi
[[ -x $program ]] || { echo "gpu-check: $program is not there, or is not a program." >&2; exit 2; }
program=$(realpath "$program")
emulated=
if [[ $device == emulated ]]; then emulated=1; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CUDA_CACHE_PATH="$work/cuda-cache"
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/nvidia/lib64:/usr/lib/wsl/lib"
began=$(date +%s)
started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sha=$(sha256sum "$program" | cut -d' ' -f1)
version=$("$program" --version 2>/dev/null | head -1)
steps=()
table=()

text() { tr -d '\000-\010\013\014\016-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' -e 's/\r//g' | awk 'NR > 1 { printf "\\n" } { printf "%s", $0 }'; }
# A number of a document by its name; the first one.
number() { grep -o "\"$2\":[-0-9.eE+]*" <<<"$1" | head -1 | cut -d: -f2; }
count() { grep -o "$2" <<<"$1" | wc -l; }

summary() {
  printf '{"device":"%s","loaded":%s,"ops_ok":%s,"ops_failed":%s,"hashes_equal":%s,"cross_ok":%s,"tokens_per_second":%s,"share_of_copy":%s,"failed_steps":%s}' \
    "$(text <<<"$name")" "${loaded:-null}" "${ops_ok:-null}" "${ops_failed:-null}" "${hashes_equal:-null}" "${cross_ok:-null}" "${tokens:-null}" "${share:-null}" "$failed"
}

write() { # every step so far, and what is known; under a temporary name first
  {
    printf '{"format":1,"version":"%s","file_sha256":"%s","started":"%s","device":"%s","seconds":%s,"steps":[' "$(text <<<"$version")" "$sha" "$started" "$device" $(($(date +%s) - began))
    local separator=
    for step in ${steps[@]+"${steps[@]}"}; do printf '%s%s' "$separator" "$step"; separator=,; done
    printf '],"summary":%s}\n' "$(summary)"
  } > "$out.new" && mv "$out.new" "$out"
}

name=unknown
failed=0
result=
# Seconds from the beginning until which steps may run: whatever hangs, there is time left for the measurements, and all ends within 8 minutes.
until=310
if [[ -n $emulated ]]; then until=1800; fi
# step NAME SECONDS PROGRAM ARGUMENTS: runs it; its output is in $result, its exit code in $code.
step() {
  local title=$1 limit=$2 from=$(date +%s%N) left=$((began + until - $(date +%s)))
  shift 2
  if [[ $left -lt $limit ]]; then limit=$((left > 1 ? left : 1)); fi
  # A step that is running is on file: if the machine goes down, it is known under what.
  steps+=("{\"name\":\"$title\",\"running\":true}")
  write
  # What the shell itself says of a process that was killed is nobody's error.
  { timeout --kill-after=5 "$limit" "$@" > "$work/out" 2> "$work/err" < /dev/null; } 2>/dev/null
  code=$?
  local seconds
  seconds=$(awk -v n=$(($(date +%s%N) - from)) 'BEGIN { printf "%.2f", n / 1e9 }')
  result=$(cat "$work/out")
  local body
  if [[ $result == \{*\} && $result != *$'\n'* ]]; then body="\"json\":$result"; else body="\"tail\":\"$(tail -c 4000 "$work/out" | text)\""; fi
  local note=ok
  # 137 is also what a process gives that somebody else killed.
  if [[ $code -eq 124 || ( $code -eq 137 && ${seconds%.*} -ge $limit ) ]]; then note="timeout after $limit s"; elif [[ $code -ne 0 ]]; then note="exit $code"; fi
  if [[ $code -ne 0 ]]; then failed=$((failed + 1)); fi
  unset 'steps[-1]'
  steps+=("{\"name\":\"$title\",\"seconds\":$seconds,\"exit\":$code,$body,\"error\":\"$(tail -c 2000 "$work/err" | text)\"}")
  table+=("$(printf '%-34s %8s s  %s' "$title" "$seconds" "$note")")
  write
}

on=(--device "$device")
scale=default
limits=(10 25 12 90 45 150)
if [[ -n $emulated ]]; then scale=tiny; limits=(300 300 300 300 300 300); fi

# 1. What is there.
if command -v nvidia-smi >/dev/null; then step nvidia-smi 10 nvidia-smi -q; fi
step doctor "${limits[0]}" "$program" doctor --json "${on[@]}"
# 2. Every kernel through the driver's compiler.
step kernels "${limits[1]}" "$program" kernels --json "${on[@]}"
name=$(grep -o '"device":{"name":"[^"]*"' <<<"$result" | cut -d'"' -f6)
name=${name:-unknown}
if [[ $code -ne 0 && $result != \{* ]]; then
  # No device: nothing of what follows can be asked.
  why=$(tail -1 "$work/err")
  write
  echo "gpu-check: the device $device cannot be opened: ${why#kernelscope: }" >&2
  summary
  echo
  exit 1
fi
modules=$(count "$result" '"file":')
bad=$(number "$result" failed)
loaded=$((modules - ${bad:-0}))
write

# 3. A model, token by token: launches that are waited for, launches, graphs; exact and fast.
prompt="And the king said"
tokens_of() { grep -o '"tokens":\[[^]]*\]' <<<"$1" | head -1; }
new=40
if [[ -n $emulated ]]; then new=4; fi
step "generate cpu" 60 "$program" generate "$prompt" --max-new-tokens $new --temperature 0 --json --device cpu
expected=$(tokens_of "$result")
modes=(--sync --no-graphs "" KERNELSCOPE_CUDA_OVERLAP=0)
if [[ -n $emulated ]]; then modes=(""); fi
for mode in "${modes[@]}"; do
  setting= option=$mode
  if [[ $mode == *=* ]]; then setting=$mode option=; fi
  step "generate $device ${mode:-graphs}" "${limits[2]}" env ${setting:+"$setting"} "$program" generate "$prompt" --max-new-tokens $new --temperature 0 --json "${on[@]}" ${option:+"$option"}
  if [[ $code -eq 0 && $(tokens_of "$result") != "$expected" ]]; then
    failed=$((failed + 1))
    table+=("  its tokens are not those of the cpu")
  fi
done
if [[ -z $emulated ]]; then step "generate $device fast" "${limits[2]}" "$program" generate "$prompt" --max-new-tokens $new --temperature 0 --json "${on[@]}" --precision fast; fi

# 4. Ops against their equations, and bit by bit against the emulator's.
ops_ok=0
ops_failed=0
verified() { ops_ok=$((ops_ok + $(count "$result" '"name":"op [A-Za-z]*","ok":true'))); ops_failed=$((ops_failed + $(count "$result" '"name":"op [A-Za-z]*","ok":false'))); write; }
few=()
if [[ -n $emulated ]]; then few=(--op Copy --op Linear); fi
step "verify tiny, bits" "${limits[3]}" "$program" verify --json --scale tiny --hashes --jobs 4 "${on[@]}" ${few[@]+"${few[@]}"}
if [[ $result == \{* ]]; then if [[ $result == *'"hash_equal":false'* ]]; then hashes_equal=false; else hashes_equal=true; fi; fi
verified
if [[ -z $emulated ]]; then
  # From compute capability 9.0 on launches overlap. If only these bits are equal, that is to blame.
  step "verify tiny, bits, no overlap" "${limits[3]}" env KERNELSCOPE_CUDA_OVERLAP=0 "$program" verify --json --scale tiny --hashes --jobs 4 "${on[@]}"
  verified
  step "verify exact" "${limits[3]}" "$program" verify --json --scale $scale --jobs 4 "${on[@]}"
  verified
  step "verify fast" "${limits[3]}" "$program" verify --json --scale $scale --jobs 4 --precision fast "${on[@]}"
  verified
  step "verify without tensor cores" "${limits[3]}" "$program" verify --json --scale $scale --jobs 4 --no-tensor-cores "${on[@]}"
  verified
fi

# 5. Forms of a kernel against each other, at shapes of real models.
step "verify cross" "${limits[4]}" "$program" verify --json --cross "${on[@]}"
if [[ $result == \{* ]]; then if [[ $result == *'"ok":false'* ]]; then cross_ok=false; else cross_ok=true; fi; fi
write

# 6. NVIDIA's own checks, where they are.
if [[ -z $emulated ]] && command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    step "compute-sanitizer $tool" 30 compute-sanitizer --tool $tool --error-exitcode 9 "$program" verify --json --scale tiny --in-process --op Linear --op Attend --op SaeEncode --op TopK "${on[@]}"
  done
fi

# 7. How fast. Encoders as they were released have weights of float32.
if [[ -z $emulated ]]; then
  until=455
  step "bench gemma-2-2b" "${limits[5]}" "$program" bench --json --shape gemma-2-2b --dtype bf16 --rounds 2 "${on[@]}"
  decode=$(grep -o '"name":"decode".*' <<<"$result" | head -1)
  tokens=$(grep -o '"median":[0-9.eE+-]*' <<<"$decode" | head -1 | cut -d: -f2 | awk '{ if ($1 > 0) printf "%.2f", 1 / $1; else print "null" }')
  share=$(grep -o '"share":{"min":[0-9.eE+-]*,"median":[0-9.eE+-]*' <<<"$decode" | head -1 | sed 's/.*://')
  write
  step "bench SAEs in f32" 60 "$program" bench --json --shape gemma-2-2b --layers 1 --dtype f32 --rounds 1 "${on[@]}"
fi

# 8. Where the time goes, if there is a profiler.
if [[ -z $emulated ]] && command -v ncu >/dev/null; then
  step ncu 60 ncu --section SpeedOfLight --section Occupancy --section MemoryWorkloadAnalysis --launch-count 8 "$program" bench --shape gemma-2-2b --layers 1 --dtype bf16 --rounds 1 --json "${on[@]}"
fi

printf '%s\n' "${table[@]}"
echo "$name: $loaded of $modules modules, ops ${ops_ok} ok and ${ops_failed} failed, bits equal: ${hashes_equal:-not known}, forms agree: ${cross_ok:-not known}; decode ${tokens:-not measured} tokens/s, ${share:-?} of the copy rate; $failed steps failed; $out"
summary
echo
[[ $failed -eq 0 && ${ops_failed} -eq 0 ]]
