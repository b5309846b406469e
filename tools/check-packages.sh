#!/usr/bin/env bash
# Packs everything into a folder feed and uses it as strangers do: three programs that know only the packages (tests/Consumers), and the command line as a .NET tool. Linux.
# Usage: tools/check-packages.sh [--no-native]      --no-native leaves out the NativeAOT program, which takes two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
native=1
if [[ ${1:-} == --no-native ]]; then native=; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
feed=$work/feed
failed=0
complain() { echo "FAIL $*"; failed=1; }
ok() { echo "ok   $*"; }

dotnet pack KernelScope.sln -c Release -o "$feed" --nologo -v q
version=$(basename "$feed"/KernelScope.Demo.*.nupkg .nupkg)
version=${version#KernelScope.Demo.}
ls -l "$feed"

# What every package must carry, and what the core must not.
for package in "$feed"/*.nupkg; do
  name=$(basename "$package" ".$version.nupkg")
  nuspec=$(unzip -p "$package" "*.nuspec")
  for part in "<readme>PACKAGE.md" "<icon>icon.png" "<license type=\"expression\">MIT" "<tags>" "<description>"; do
    grep -q "$part" <<< "$nuspec" || complain "$name: the package has no $part"
  done
  listing=$(unzip -l "$package")
  grep -q THIRD-PARTY-NOTICES.md <<< "$listing" || complain "$name: no third-party notices"
done
core=$(unzip -p "$feed/KernelScope.$version.nupkg" KernelScope.nuspec)
if grep -q '<dependency ' <<< "$core"; then complain "the core depends on something"; else ok "the core depends on nothing"; fi

# Packages of ours come from the feed into a folder of their own; all others may come from where they are already.
copy() { # NAME: to a folder outside the repository, where no file of it is found
  cp -r "tests/Consumers/$1" "$work/$1"
}
settings=(-c Release --nologo -v q -p:KernelScopeVersion="$version" -p:RestoreAdditionalProjectSources="$feed" -p:RestorePackagesPath="$work/packages"
  -p:RestoreFallbackFolders="${NUGET_PACKAGES:-$HOME/.nuget/packages}")

copy Program
awk '/^```csharp$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md > "$work/Program/Program.cs"
dotnet build "$work/Program" "${settings[@]}" || complain "the README's program does not build from the packages"
dotnet run --project "$work/Program" -c Release --no-build > "$work/program.txt" || complain "the README's program fails"
lines=$(wc -l < "$work/program.txt")
((lines > 5)) && ok "the README's program by package: $lines tokens" || complain "the README's program prints $lines lines"

if [[ -n $native ]]; then
  copy Native
  dotnet publish "$work/Native" "${settings[@]}" -v m -o "$work/native" > "$work/native.log" 2>&1 || { cat "$work/native.log"; complain "the NativeAOT program does not build"; }
  grep -q "compiling for x86-64-v3" "$work/native.log" && ok "NativeAOT: the instruction set is chosen and said" || complain "NativeAOT: no word about the instruction set"
  "$work/native/Native" > "$work/native.txt" || complain "the NativeAOT program fails"
  grep -q "^instructions: AVX2" "$work/native.txt" && ok "NativeAOT: AVX2 code" || complain "NativeAOT: $(head -1 "$work/native.txt")"
  if command -v qemu-x86_64 > /dev/null; then
    status=0
    qemu-x86_64 -cpu Nehalem "$work/native/Native" > "$work/nehalem.txt" 2>&1 || status=$?
    ((status > 0 && status < 128)) && grep -q "CPU ISA level is lower than required" "$work/nehalem.txt" && (($(wc -l < "$work/nehalem.txt") == 1)) \
      && ok "NativeAOT without AVX2: one sentence, exit code $status" || complain "NativeAOT without AVX2: exit code $status, $(head -c 300 "$work/nehalem.txt")"
  else
    echo "skip NativeAOT without AVX2: there is no qemu-x86_64 (Debian: qemu-user)"
  fi
  dotnet build "$work/Native" "${settings[@]}" -p:PublishAot=false > /dev/null
  DOTNET_EnableAVX512=0 dotnet run --project "$work/Native" -c Release --no-build > "$work/jit.txt"
  cmp -s <(grep greedy "$work/native.txt") <(grep greedy "$work/jit.txt") && ok "NativeAOT and JIT give the same tokens" || complain "NativeAOT and JIT differ"
fi

dotnet tool install KernelScope.Cli --tool-path "$work/tool" --add-source "$feed" --version "$version" --no-cache > /dev/null || complain "the tool does not install"
"$work/tool/kernelscope" features "And the king said, Let there be light." --json > "$work/tool.json" || complain "the tool fails"
grep -q '"features"' "$work/tool.json" && ok "the tool runs" || complain "the tool prints no features"

if [[ -e $feed/KernelScope.Extensions.$version.nupkg ]]; then
  copy Web
  dotnet build "$work/Web" "${settings[@]}" || complain "the web program does not build from the packages"
  (cd "$work/Web" && exec dotnet bin/Release/net10.0/Web.dll --urls http://127.0.0.1:0) > "$work/web.log" 2>&1 &
  server=$!
  for _ in {1..100}; do grep -q "Now listening on" "$work/web.log" && break; sleep 0.2; done
  url=$(grep -o 'http://127.0.0.1:[0-9]*' "$work/web.log" | head -1)
  curl -sN --max-time 60 "$url/generate?prompt=Once%20upon%20a%20time&tokens=16" > "$work/one.txt" &
  one=$!
  curl -sN --max-time 60 "$url/generate?prompt=And%20the%20king%20said&tokens=16" > "$work/two.txt" || complain "the web program: no answer"
  wait $one || complain "the web program: no answer to the first of two"
  (($(grep -c '^data:' "$work/one.txt") >= 16 && $(grep -c '^data:' "$work/two.txt") >= 16)) && ok "two streams at once" || complain "the web program: $(head -c 300 "$work/one.txt")"
  kill -TERM $server
  start=$(date +%s%N)
  wait $server || true
  ms=$((($(date +%s%N) - start) / 1000000))
  ((ms < 5000)) && ok "SIGTERM: $ms ms" || complain "SIGTERM took $ms ms"
fi
exit $failed
