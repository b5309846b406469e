#!/usr/bin/env bash
# Every sample's page says a command and shows what it prints: runs the command and compares. KERNELSCOPE_NO_BUILD=1: the samples are built.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${KERNELSCOPE_NO_BUILD:-}" ]; then dotnet build src/Samples -c Release -v q --nologo; fi

# The text of the first fence that begins with a given line.
fence() { awk -v open="$2" 'inside && $0 == "```" { exit } inside { print } $0 == open { inside = 1 }' "$1"; }

differ=0
count=0
for page in src/Samples/*.md; do
    if [ "$page" = src/Samples/README.md ]; then continue; fi
    command=$(fence "$page" '```')
    case "$command" in
        "dotnet run --project src/Samples -c Release -- "*) ;;
        *) echo "$page: its first fence is not the command of a sample"; differ=$((differ + 1)); continue ;;
    esac
    count=$((count + 1))
    # What the reader types, without building again.
    if ! diff -u --label "$page" --label "what the command prints" \
        <(fence "$page" '```text') <(eval "${command/ -c Release/ -c Release --no-build}" 2>&1); then
        differ=$((differ + 1))
    fi
done

echo "$count samples ran, $differ differ from their pages."
[ "$count" -gt 0 ] && [ "$differ" -eq 0 ]
