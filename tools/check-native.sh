#!/usr/bin/env bash
# What published native files print as JSON against the ordinary build with the same vectors, and their size, start-up time and memory against what bench/README.md promises. Linux.
# The server too: each call once, pages, OpenAPI, streams, refusals; status, headers and body, plain and packed.
# Usage: tools/check-native.sh [FOLDER]      default: artifacts/native; the ordinary build must be there (dotnet build src/KernelScope.Cli -c Release). Needs curl.
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

# Without what changes from start to start: dates, ids of completions, memory, measured values.
lasting() {
  sed -E -e 's/^[Dd]ate: .*/Date/; s/("createdAt":")[^"]*/\1/g; s/("created":)[0-9]+/\1/g; s/((chatcmpl|cmpl)-)[0-9a-f]+/\1/g' \
    -e 's/"(memory_bytes|free_bytes)":[0-9]+/"\1":/g; s/[0-9]+ MiB in use/MiB/; s/^(kernelscope_[^ ]*) .*/\1/'
}
record() { # FOLDER COMMAND…: what its server answers to each request
  local out=$1 pid url method path body packed log requests=0
  mkdir "$out"
  : > "$out.json"
  "${@:2}" serve --urls http://127.0.0.1:0 --json > "$out.json" 2> "$out.log" &
  pid=$!
  for _ in {1..300}; do if grep -q urls "$out.json"; then break; fi; sleep 0.2; done
  url=$(grep -o 'http://127.0.0.1:[0-9]*' "$out.json" | head -n 1)
  while IFS=' ' read -r method path body; do
    for packed in identity gzip; do
      log="$out/$((++requests)).txt"
      local ask=(curl -sS --max-time 60 -D "$work/head" -o "$work/body" -H "Accept-Encoding: $packed" -X "$method")
      if [[ $method == HEAD ]]; then ask+=(-I); fi
      if [[ -n $body ]]; then ask+=(-H 'Content-Type: application/json' --data-binary "$body"); fi
      : > "$work/body"
      "${ask[@]}" "$url$path" || echo "curl: $?" > "$work/head"
      if [[ $method != HEAD ]] && grep -qi '^content-encoding: gzip' "$work/head"; then gzip -dc < "$work/body" > "$work/plain"; mv "$work/plain" "$work/body"; fi
      { echo "$method $path $body ($packed)"; grep -vi '^content-length:' "$work/head"; cat "$work/body"; } | lasting | sed "s#${url#http://}#HOST#g" > "$log"
    done
  done <<'A'
GET /
HEAD /
GET /?embed=true
GET /api.js
GET /app.css
GET /demo.js
GET /exercises.js
GET /feature.js
GET /icon.svg
GET /demo/3-demo-res-2k__l0-19/1738
GET /demo/3-demo-res-2k__l0-19/1738?embed=true&embedplots=false
HEAD /demo/3-demo-res-2k__l0-19/1738
GET /demo/3-demo-res-2k__l0-19/99999
GET /none
HEAD /none
GET /api/none
GET /v1/none
POST /health
DELETE /v1/tokenize {}
OPTIONS /v1/tokenize
GET /health
HEAD /health
GET /metrics
GET /openapi/v1.json
GET /openapi/api.json
GET /v1/capabilities
GET /v1/steer/health
GET /v1/models
POST /initialize {}
POST /api/graph/generate {}
POST /v1/tokenize {"model":"demo","text":"Hello \"there\" <b>é😀\u0001"}
POST /v1/tokenize {"model":"demo","text":1}
POST /v1/tokenize {"model":"demo"
POST /v1/apply-chat-template {"messages":[{"role":"user","content":1}]}
POST /v1/chat/completions {"messages":1}
POST /v1/chat/completions {"messages":[{"role":"user","content":"a"}],"tools":[1]}
POST /api/tokenize/ {"modelId":"demo","prompt":"She loved the river.","prependBos":true}
POST /api/tokenize {"modelId":"other","prompt":"a"}
POST /v1/apply-chat-template {"messages":[{"role":"user","content":"What is a harbour?"},{"role":"model","content":"A place."},{"role":"user","content":"Why?"}]}
POST /v1/activation/single {"model":"demo","prompt":"More than anything she wished.","source":"3-demo-res-2k__l0-19","index":"1738"}
POST /v1/activation/single {"model":"demo","prompt":"More than anything she wished.","source":"3-demo-att-1k__l0-42","index":7}
POST /v1/activation/single {"model":"demo","prompt":"a","source":"3-demo-res-2k__l0-19"}
POST /v1/activation/single {"model":"demo","prompt":"a","source":"none","index":1}
POST /v1/activation/single-batch {"model":"demo","prompts":["She wished","Thou art"],"source":"3-demo-res-2k__l0-19","index":1738}
POST /v1/activation/all {"model":"demo","prompt":"She wished for a ring.","sourceSet":"demo-res-2k","selectedSources":["3-demo-res-2k__l0-19"],"sortByTokenIndexes":[],"ignoreBos":true}
POST /v1/activation/all {"model":"demo","prompt":"She wished for a ring.","sourceSet":"demo-att-1k","selectedSources":[],"sortByTokenIndexes":[],"ignoreBos":true,"numResults":3}
POST /v1/activation/all-batch {"model":"demo","prompts":["She wished"],"sourceSet":"demo-res-2k","selectedSources":[],"sortByTokenIndexes":[1,2],"ignoreBos":false,"numResults":3}
POST /v1/activation/topk-by-token {"model":"demo","prompt":"She wished","source":"3-demo-res-2k__l0-19","ignoreBos":true,"topK":3}
POST /v1/activation/topk-by-token-batch {"model":"demo","prompts":["She wished","Thou art"],"source":"3-demo-res-2k__l0-19","ignoreBos":false}
POST /v1/activation/source {"model":"demo","prompts":["She wished","Thou art"],"source":"3-demo-res-2k__l0-19"}
POST /v1/activation/raw {"model":"demo","prompts":["She wished"],"layers":[0,5]}
POST /v1/steer/completion {"model":"demo","prompt":"There was once a","types":["STEERED","DEFAULT"],"features":[{"model":"demo","source":"3-demo-res-2k__l0-19","index":1652,"strength":10}],"strengthMultiplier":1,"nCompletionTokens":6,"temperature":0,"freqPenalty":0,"seed":16,"steerMethod":"SIMPLE_ADDITIVE","normalizeSteering":false,"nLogprobs":3}
POST /v1/steer/completion {"model":"demo","prompt":"There was once a","types":["DEFAULT"],"strengthMultiplier":1,"nCompletionTokens":6,"temperature":0,"freqPenalty":0,"seed":16,"steerMethod":"SIMPLE_ADDITIVE","normalizeSteering":false,"stream":true}
POST /v1/steer/completion-chat {"model":"demo","prompt":[{"role":"user","content":"What is a harbour?"}],"types":["STEERED","DEFAULT"],"features":[{"model":"demo","source":"3-demo-res-2k__l0-19","index":1652,"strength":10}],"strengthMultiplier":1,"nCompletionTokens":6,"temperature":0,"freqPenalty":0,"seed":16,"steerMethod":"ORTHOGONAL_DECOMP","normalizeSteering":false,"steerSpecialTokens":false,"nLogprobs":2}
POST /v1/util/sae-vector {"model":"demo","source":"3-demo-res-2k__l0-19","index":69}
POST /v1/util/sae-topk-by-decoder-cossim {"model":"demo","source":"3-demo-res-2k__l0-19","numResults":5,"feature":{"model":"demo","source":"3-demo-res-2k__l0-19","index":69}}
POST /v1/util/sae-topk-by-decoder-cossim {"model":"demo","source":"3-demo-res-2k__l0-19","numResults":129,"feature":{"model":"demo","source":"3-demo-res-2k__l0-19","index":69}}
GET /api/feature/demo/3-demo-res-2k__l0-19/1738
GET /api/feature/demo/3-demo-att-1k__l0-42/7
GET /api/feature/demo/3-demo-res-2k__l0-19/99999
POST /api/features/ [{"modelId":"demo","layer":"3-demo-res-2k__l0-19","index":"1738","maxActsToReturn":2},{"modelId":"demo","layer":"3-demo-transcoder-1k__l0-20","index":3}]
POST /api/activation/new {"feature":{"modelId":"demo","layer":"3-demo-res-2k__l0-19","index":"1738"},"customText":"She loved the river."}
POST /api/activation/new {"feature":{"modelId":"demo","layer":"3-demo-att-1k__l0-42","index":"7"},"customText":["She loved the river.","Thou art"]}
POST /api/activation/source {"customText":"She loved the river.","modelId":"demo","source":"3-demo-res-2k__l0-19"}
POST /api/activation/get {"modelId":"demo","source":"3-demo-res-2k__l0-19","index":"1738"}
POST /api/search-all/ {"modelId":"demo","sourceSet":"demo-res-2k","text":"She loved the river.","selectedLayers":["3-demo-res-2k__l0-19"],"sortIndexes":[],"ignoreBos":false,"densityThreshold":-1,"numResults":50}
POST /api/search-all/ {"modelId":"demo","sourceSet":"demo-res-2k","text":["She loved","the river."],"selectedLayers":[],"sortIndexes":[1],"ignoreBos":false,"densityThreshold":-1,"numResults":5}
POST /api/search-topk-by-token/ {"modelId":"demo","source":"3-demo-res-2k__l0-19","text":"She loved the river.","numResults":10,"ignoreBos":true,"densityThreshold":0.01}
POST /api/search-topk-by-token/ {"modelId":"demo","source":"3-demo-res-2k__l0-19","text":["She loved","the river."],"numResults":10,"ignoreBos":true,"densityThreshold":0.01}
POST /api/steer/ {"modelId":"demo","features":[{"modelId":"demo","layer":"3-demo-res-2k__l0-19","index":"1652","strength":10}],"prompt":"There was once a","temperature":0.5,"n_tokens":8,"freq_penalty":2,"seed":16,"strength_multiplier":4,"steer_special_tokens":true,"steer_method":"SIMPLE_ADDITIVE","stream":true}
POST /api/steer/ {"modelId":"demo","features":[{"modelId":"demo","layer":"3-demo-res-2k__l0-19","index":"1652","strength":10}],"prompt":"There was once a","temperature":0.5,"n_tokens":8,"freq_penalty":2,"seed":16,"strength_multiplier":4,"steer_special_tokens":true,"steer_method":"PROJECTION_CAP"}
POST /api/steer-chat/ {"modelId":"demo","features":[{"modelId":"demo","layer":"3-demo-res-2k__l0-19","index":"1652","strength":10}],"defaultChatMessages":[{"role":"user","content":"What is a harbour?"}],"steeredChatMessages":[{"role":"user","content":"What is a harbour?"}],"temperature":0.5,"n_tokens":8,"freq_penalty":2,"seed":16,"strength_multiplier":4,"steer_special_tokens":true}
GET /api/source-set/demo/demo-res-2k
POST /api/vector/get {"modelId":"demo","source":"3-demo-res-2k__l0-19","index":"69"}
POST /api/explanation/search {"modelId":"demo","query":"girl"}
POST /api/model/list {}
POST /api/model/get {"id":"demo"}
POST /api/steer/presets {"modelId":"demo"}
POST /v1/chat/completions {"model":"demo","messages":[{"role":"user","content":"What is a harbour?"}],"max_tokens":6,"temperature":0,"logprobs":true,"top_logprobs":2,"kernelscope":{"features":{"sae":"3-demo-res-2k__l0-19","top":3},"edits":[{"sae":"3-demo-res-2k__l0-19","feature":69,"value":10,"at":"all"}]}}
POST /v1/chat/completions {"model":"demo","messages":[{"role":"user","content":"What is a harbour?"}],"max_tokens":6,"temperature":0,"logprobs":true,"top_logprobs":2,"stream":true,"kernelscope":{"features":{"sae":"3-demo-res-2k__l0-19","top":3}}}
POST /v1/completions {"prompt":"Once upon","max_tokens":4,"temperature":0,"logprobs":2}
POST /v1/completions {"prompt":"Once upon","max_tokens":4,"temperature":0,"stream":true}
A
  kill "$pid" && wait "$pid" || complain "the server did not end well: ${*:2}"
}

# Alone, the ordinary file does not hand over.
cp "$folder/kernelscope" "$work/kernelscope"
compare "AVX2" "DOTNET_EnableAVX512=0" "$work/kernelscope"
if [[ -e "$folder/kernelscope-avx512" ]] && grep -qw avx512vl /proc/cpuinfo; then
  compare "AVX-512" "" "$folder/kernelscope"
  "$folder/kernelscope" doctor --json | grep -q avx512f || complain "kernelscope does not hand over to kernelscope-avx512"
fi

record "$work/serve-jit" env DOTNET_EnableAVX512=0 "${jit[@]}"
record "$work/serve-native" "$work/kernelscope"
env DOTNET_EnableAVX512=0 "${jit[@]}" serve --export "$work/export-jit" && "$work/kernelscope" serve --export "$work/export-native" || complain "serve --export"
for copy in jit native; do
  sed -n 's/.*load("\(.*\)").*/\1/p' "$work/export-$copy/data/answers.js" | base64 -d | gzip -dc | lasting > "$work/answers"
  mv "$work/answers" "$work/export-$copy/data/answers.js"
done
for what in serve export; do
  if diff -rq "$work/$what-jit" "$work/$what-native"; then echo "ok   $what: $(find "$work/$what-native" -type f | wc -l) files"; else complain "$what answers something else"; fi
done

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
  # A ceiling against growth, with the server, training, the queue's client and 9.0 MB of PTX in it (bench/README.md has the parts): 37.96 MB
  # were measured for AVX2 with 2.47 MB of PTX less. Before those came in, 20 MB were the bar, and it is not met.
  at_most "$(basename "$file"), KiB without the demo" $((($(stat -c %s "$file") - demo) / 1024)) $((40610000 / 1024))
done
if [[ -e "$folder/without-server/kernelscope" ]]; then
  at_most "bytes of the server and dash" $(($(stat -c %s "$folder/kernelscope") - $(stat -c %s "$folder/without-server/kernelscope"))) 8000000
fi
at_most "ms of --help" "$(least_ms "$folder/kernelscope" --help)" 15
at_most "ms of features" "$(least_ms "$folder/kernelscope" features "And the king said, Let there be light.")" 60
exit $failed
