"""Goldens for tokenizer.json, by Hugging Face's tokenizers library (Rust 0.22.2, through NuGet Tokenizers.DotNet 1.4.1).

make_tokenizer_json.py convert MODEL OUT.json       a sentencepiece model as transformers saves it for Gemma
make_tokenizer_json.py goldens FIXTURES             tokenizer.json.gz, tokenizer-variants.json and tokenizer-cases.jsonl.gz, from FIXTURES/demo.model and the texts of FIXTURES/demo-cases.jsonl.gz

The library is asked by tools/TokenizerGoldens (dotnet). Plain Python, standard library only.
"""
import copy, gzip, json, os, random, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from spec_tokenizer import Tokenizer, BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED  # noqa: E402

REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
DECODER = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]}
FLAGS = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)


def token(id, content, **flags):
    return {"id": id, "content": content, **{**FLAGS, **flags}}


def merges_of(t):
    """Every way to make a piece of two others. The piece with the highest score comes first; where one can be made in several ways, the way with the longer left part."""
    vocab, found = {p: i for i, p in enumerate(t.pieces)}, []
    for i, piece in enumerate(t.pieces):
        if t.types[i] in (NORMAL, USER_DEFINED):
            ways = [(piece[:n], piece[n:]) for n in range(1, len(piece)) if piece[:n] in vocab and piece[n:] in vocab]
            found += [(t.scores[i], len(a), len(b), a, b) for a, b in sorted(ways, key=lambda w: (vocab[w[0]], vocab[w[1]]))]
    found.sort(key=lambda m: m[:3], reverse=True)
    return [(a, b) for _, _, _, a, b in found]


def convert(path):
    t = Tokenizer(path)
    added = [token(i, p, special=t.types[i] in (CONTROL, UNKNOWN)) for i, p in enumerate(t.pieces) if t.types[i] in (CONTROL, UNKNOWN, USER_DEFINED)]
    model = dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=True, byte_fallback=True, ignore_merges=False,
                 vocab={p: i for i, p in enumerate(t.pieces)}, merges=[a + " " + b for a, b in merges_of(t)])
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}}
    return dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=REPLACE, pre_tokenizer={"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
                post_processor=template, decoder=DECODER, model=model)


def variants(base):
    """Changes to the base file, each by the path of a field; None in a vocabulary removes the piece."""
    n = len(base["model"]["vocab"])
    some = [token(n, "<|im_start|>", special=True), token(n + 1, "<|im_end|>", special=True), token(n + 2, "<|im"), token(n + 3, "<tool>", lstrip=True), token(n + 4, "</tool>", rstrip=True), token(n + 5, "both", lstrip=True, rstrip=True, single_word=True),
            token(n + 6, "word", single_word=True), token(n + 7, "a norm", normalized=True), token(n + 8, "norm", normalized=True, single_word=True, lstrip=True), token(n + 9, " lead", rstrip=True), token(n + 10, "\u00e9t\u00e9", single_word=True), token(n + 11, "\u6771\u4eac"),
            token(n + 12, "\t\n", rstrip=True), token(n + 13, "x\u2581y", normalized=True), token(base["model"]["vocab"]["the"], "the", normalized=True), token(n + 14, "\t", rstrip=True, lstrip=True), token(n + 15, "\U0001f600", lstrip=True, rstrip=True)]
    split = lambda pattern, behavior, invert=False: {"type": "Split", "pattern": {"String": pattern}, "behavior": behavior, "invert": invert}
    out = {"gemma": {}, "added": {"added_tokens": base["added_tokens"] + some}, "added-only": {"added_tokens": some}, "no-added": {"added_tokens": []},
           "pairs": {"model.merges": "pairs", "model.ignore_merges": True}, "tab": {"model.vocab.<0x09>": None, "model.vocab.\t": base["model"]["vocab"]["<0x09>"]},
           "unknown": {"model.byte_fallback": False, "model.fuse_unk": False}, "unknown-fused": {"model.byte_fallback": False}, "unknown-dropped": {"model.byte_fallback": False, "model.unk_token": None},
           "some-bytes": {"model.vocab.<0xF0>": None, "model.vocab.<0xC3>": None, "model.fuse_unk": False}, "prepend": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, REPLACE]}, "added_tokens": base["added_tokens"] + some[:8]},
           "rewrite": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "--"}, "content": "\u2014"}, {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}, REPLACE]}, "added_tokens": base["added_tokens"] + some},
           "plain": {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": {"type": "Fuse"}},
           "nested": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split("\u2581", "MergedWithNext"), split("e", "Isolated")]}}}
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        out["split-" + behavior] = {"pre_tokenizer": split("\u2581", behavior)}
        out["split-inverted-" + behavior] = {"pre_tokenizer": split("\u2581", behavior, True)}
    return out


def patched(base, changes):
    file = copy.deepcopy(base)
    for path, value in changes.items():
        at, names = file, path.split(".", 2)
        for name in names[:-1]:
            at = at[name]
        if value == "pairs":
            value = [m.split(" ") for m in at["merges"]]
        if names[:-1] == ["model", "vocab"] and value is None:
            del at[names[-1]]
        else:
            at[names[-1]] = value
    if "model.vocab.<0xF0>" in changes:
        file["model"]["merges"] = [m for m in file["model"]["merges"] if "<0x" not in m]
    return file


def texts(fixtures, rng):
    rows = [json.loads(line) for line in gzip.open(os.path.join(fixtures, "demo-cases.jsonl.gz"), "rt", encoding="utf-8", newline="\n")]
    old = [r["text"] for r in rows if r["op"] == "encode" and len(r["text"]) < 400]
    runs = [" " * n for n in range(1, 101)] + ["a" + " " * n + "b" for n in range(1, 101, 3)] + ["\n" * n for n in range(1, 70)] + [" " * n + "\n" * (40 - n) for n in range(1, 40, 3)]
    return old, runs


def probes(rng):
    """Texts around added tokens."""
    words = ["<|im_start|>", "<|im_end|>", "<|im", "<|im_", "<tool>", "</tool>", "both", "word", "sword", "words", "a norm", "norm", "normal", " lead", "leader", "\u00e9t\u00e9", "\u6771\u4eac", "\n\n", "\n", " ", "  ", "\t", "\t\n", "\t\t\n", "\u3000", "\u00a0", "\u2028", "x y", "x\u2581y", "the", "other", "\U0001f600", "_", "-",
             "1", "\u0301", "\u200d", "\u2460", "\u24b6", "\u00b2", "a", "b", "\u4eac", "<bos>", "<start_of_turn>", "<end_of_turn>", "<h1>", "user", "--", "<unk>"]
    out = ["<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "a  <tool>  b  </tool>  c", "<tool><tool></tool>  </tool>", "  both  both  ", "wordword word_word word-word", "\u00e9t\u00e9\u0301 \u00e9t\u00e9", "</tool> \n\n x", "\t\n\t\n\n a", "</tool>\t\n x", "a normal norm"]
    return out + ["".join(rng.choice(words) for _ in range(rng.randint(1, 9))) for _ in range(500)]


def goldens(fixtures):
    rng = random.Random(4114)
    base = convert(os.path.join(fixtures, "demo.model"))
    changes = variants(base)
    old, runs = texts(fixtures, rng)
    about, rows = probes(rng), []
    for name in changes:
        if name in ("gemma", "pairs"):
            chosen = old if name == "gemma" else rng.sample(old, 300)
            chosen = chosen + runs + about[:60]
        elif "added" in name:
            chosen = about + rng.sample(old, 100) + rng.sample(runs, 20)
        else:
            chosen = rng.sample(old, 120) + rng.sample(runs, 30) + rng.sample(about, 60)
        rows += [{"variant": name, "op": "encode", "text": text} for text in chosen + [""]]
    vocab, byte = len(base["model"]["vocab"]), base["model"]["vocab"]["<0x00>"]
    for name in ("gemma", "added", "tab", "plain", "unknown"):
        ids = list(range(4, 220)) + rng.sample(range(vocab), 100)
        some = [[i] for i in ids] + [[rng.randrange(4, vocab) for _ in range(rng.randint(1, 12))] for _ in range(80)]
        some += [[rng.choice([byte + rng.randrange(256), byte + rng.choice([0xC3, 0xA9, 0xE4, 0xBD, 0xA0]), rng.randrange(473, vocab)]) for _ in range(rng.randint(1, 10))] for _ in range(80)]
        some += [[byte + b for b in text.encode()] for text in ("\u4f60\u597d", "\U0001f600", "\u00e9\u00e8", "a\u00e9")]
        if name == "added":
            # The first two are special, and the library is asked to leave those out of decoded text.
            some += [[rng.choice([rng.randrange(vocab + 2, vocab + 16), rng.randrange(4, vocab)]) for _ in range(rng.randint(1, 9))] for _ in range(80)]
        rows += [{"variant": name, "op": "decode", "ids": ids} for ids in some]
    with tempfile.TemporaryDirectory() as folder:
        for name, change in changes.items():
            # Without the post-processor, which adds BOS: that is the program's business here.
            json.dump({**patched(base, change), "post_processor": None}, open(os.path.join(folder, name + ".json"), "w", encoding="utf-8"))
        asked = "".join(json.dumps(r) + "\n" for r in rows).encode()
        done = subprocess.run(["dotnet", "run", "--project", os.path.join(HERE, "..", "..", "TokenizerGoldens"), "-c", "Release", "--", folder], input=asked, stdout=subprocess.PIPE, check=True)
        answers = done.stdout.decode().split("\n")[:-1]
        assert len(answers) == len(rows), (len(answers), len(rows))
        if os.environ.get("KEEP"):
            import shutil
            shutil.copytree(folder, os.environ["KEEP"], dirs_exist_ok=True)
    for name, data in (("tokenizer.json.gz", json.dumps(base, separators=(",", ":"))), ("tokenizer-cases.jsonl.gz", "\n".join(answers) + "\n")):
        with open(os.path.join(fixtures, name), "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as out:
            out.write(data.encode())
    for change in changes.values():
        if "added_tokens" in change and change["added_tokens"][:len(base["added_tokens"])] == base["added_tokens"] and base["added_tokens"]:
            change["more_added_tokens"] = change.pop("added_tokens")[len(base["added_tokens"]):]
    json.dump(changes, open(os.path.join(fixtures, "tokenizer-variants.json"), "w"), indent=1)
    print(len(answers), "rows")


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        json.dump(convert(sys.argv[2]), open(sys.argv[3], "w", encoding="utf-8"))
    else:
        goldens(sys.argv[2])
