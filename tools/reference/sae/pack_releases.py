"""Packs the Gemma Scope entries of SAELens' pretrained_saes.yaml into the catalogue that is compiled in.

    python pack_releases.py pretrained_saes.yaml > ../../../src/KernelScope/Sae/ReleaseCatalog.Data.cs
    python pack_releases.py pretrained_saes.yaml --tsv | gzip -9n > ../../../tests/fixtures/hub/saelens.tsv.gz

No package is needed: of YAML only the "key: value" lines of that one file are understood. What the packed lines mean is said in the C# file.
"""
import argparse
import collections
import re

HEADER = '''namespace KernelScope.Sae;

public static partial class ReleaseCatalog
{
    // Made by tools/reference/sae/pack_releases.py from SAELens' pretrained_saes.yaml; not edited by hand.
    // A line: release, width, then for each layer (E: the embedding) its L0s. "!" after the width: no canonical SAE there. "*": canonical although another L0 is as near to 100.
    // "'": Neuronpedia has a page under this L0 ("__l0-N") besides the canonical ones.
    private static ReadOnlySpan<byte> Packed =>
        """
'''
FOOTER = '''        """u8;
}
'''

ap = argparse.ArgumentParser()
ap.add_argument("yaml")
ap.add_argument("--tsv", action="store_true", help="one line an entry: release, id, path, model, Neuronpedia id")
a = ap.parse_args()
entries, release, model, block = [], None, {}, None
for line in open(a.yaml, encoding="utf-8"):
    if m := re.match(r"([A-Za-z0-9._-]+):\s*$", line):
        release = m[1]
    elif release and re.fullmatch(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)(-canonical)?", release):
        if m := re.match(r"  model:\s*(\S+)", line):
            model[release] = m[1]
        elif m := re.match(r"\s*-\s*id:\s*(\S+)", line):
            block = {"release": release, "id": m[1]}
            entries.append(block)
        elif m := re.match(r"    (\w+):\s*(\S+)", line):
            block[m[1]] = m[2]
if a.tsv:
    for e in entries:
        print(e["release"], e["id"], e["path"], model[e["release"]], e.get("neuronpedia", ""), sep="\t")
    raise SystemExit
width_order = ["4k", "16k", "32k", "65k", "131k", "262k", "524k", "1m"]
groups, canonical, pages = collections.defaultdict(set), {}, set()
for e in entries:
    where, width, l0 = re.fullmatch(r"(?:layer_(?=\d)|(?=embedding))(\w+)/width_(\w+)/average_l0_(\d+)", e["path"]).groups()
    plain = e["release"].removesuffix("-canonical")
    key = (plain, width, -1 if where == "embedding" else int(where))
    if plain != e["release"]:
        canonical[key] = int(l0)
        continue
    groups[key].add(int(l0))
    # Two entries of 9b-pt-res (layer 2, 16k, 8; layer 20, 131k, 114) name pages of other SAEs: slips, left out.
    if re.fullmatch(rf"[^/]+/{where}-gemmascope-\w+-{width}__l0-{l0}", e.get("neuronpedia", "")):
        pages.add((key, int(l0)))
print(HEADER, end="")
for plain, width in sorted({k[:2] for k in groups}, key=lambda k: (k[0], width_order.index(k[1]))):
    keys = sorted(k for k in groups if k[:2] == (plain, width))
    marked = [k for k in keys if k in canonical]
    assert marked in ([], keys)
    layers = []
    for k in keys:
        best = min(abs(n - 100) for n in groups[k])
        tie = sum(abs(n - 100) == best for n in groups[k]) > 1
        assert k not in canonical or abs(canonical[k] - 100) == best
        name = "E" if k[2] < 0 else str(k[2])
        layers.append(name + ":" + " ".join(f"{n}{'*' if tie and canonical.get(k) == n else ''}{chr(39) if (k, n) in pages else ''}" for n in sorted(groups[k])))
    print(f"        {plain.removeprefix('gemma-scope-')} {width}{'' if marked else '!'} {','.join(layers)}")
print(FOOTER, end="")
