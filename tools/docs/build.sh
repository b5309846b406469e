#!/usr/bin/env bash
# Makes the API pages (artifacts/docs/site) from the XML comments of the built assemblies, with docfx. A warning is an error.
# Where docfx cannot be had there are no pages, and that is not an error. KERNELSCOPE_NO_BUILD=1: the assemblies are there.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -z "${KERNELSCOPE_NO_BUILD:-}" ]; then dotnet build tools/docs/Docs.csproj -c Release -v q --nologo; fi

if ! dotnet tool restore; then
    echo "Skipped: docfx (.config/dotnet-tools.json) could not be restored from the package feeds of this machine." >&2
    exit 0
fi

rm -rf artifacts/docs
dotnet docfx tools/docs/docfx.json --warningsAsErrors --logLevel Warning
echo "$(find artifacts/docs/site/api -name '*.html' | wc -l) pages: artifacts/docs/site/index.html"
