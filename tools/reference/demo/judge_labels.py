"""Judges labels of the demo SAE's features on text that nobody looked at when they were written.

A label names the tokens on which its feature fires. Its rule says the same so that a program can judge it: the feature fires where the
token (`token`), the token before (`previous`), both (`previous+token`), or one of them in a kind of document (`kind+token`,
`kind+previous`) is in a list. For each feature 20 places are drawn where the rule says that it fires, and 20 where it fires with at least its median
activation; all 40 are written down, with what the rule says and what the feature does. Precision is the share of the first 20 on which it
fires, recall the share of the second 20 which the rule names.

Usage: judge_labels.py VALID.jsonl RUN PIECES.jsonl RULES.jsonl OUT.jsonl
  VALID.jsonl   make_corpus.py's validation documents, {"kind", "text"} a line
  RUN           kernelscope harvest --out RUN --jsonl VALID.jsonl --sae res.3.2k.l0_19 --codes-only --documents separate --context 256
  PIECES.jsonl  kernelscope tokenize --jsonl IDS.jsonl, where line i of IDS.jsonl is {"ids": [i]}
  RULES.jsonl   {"feature", "label", "rule": {"by", "values"}} a line; values are ids, or pairs of an id or kind and an id
"""
import array, collections, glob, json, random, struct, sys

TYPES = {"I32": "i", "I64": "q", "F32": "f"}

def tensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    read = {}
    for name, entry in header.items():
        first, last = (8 + size + x for x in entry["data_offsets"])
        read[name] = (array.array(TYPES[entry["dtype"]], data[first:last]), entry["shape"])
    return read

def load(run, kinds):
    """Tokens and kind of each sequence, and the activation of each feature by place (sequence, position)."""
    sequences, of, active, rows = [], [], collections.defaultdict(dict), 0
    for tokens, codes in zip(sorted(glob.glob(f"{run}/tokens/*.safetensors")), sorted(glob.glob(f"{run}/codes/*/??????.safetensors"))):
        t = tensors(tokens)
        ids, (count, context) = t["tokens"]
        for s in range(count):
            sequences.append(list(ids[s * context:s * context + t["length"][0][s]]))
            of.append(kinds[t["document"][0][s]])
        c = {name: values for name, (values, _) in tensors(codes).items()}
        rows += len(c["sequence"])
        for row, place in enumerate(zip(c["sequence"], c["position"])):
            for i in range(c["row_ptr"][row], c["row_ptr"][row + 1]):
                active[c["feature"][i]][place] = c["value"][i]
    return sequences, of, active, rows

def views(sequence, position, kind):
    token, previous = sequence[position], sequence[position - 1]
    return {"token": token, "previous": previous, "previous+token": (previous, token), "kind+token": (kind, token), "kind+previous": (kind, previous)}

def main():
    valid, run, pieces, rules, out = sys.argv[1:]
    kinds = [json.loads(line)["kind"] for line in open(valid)]
    piece = [json.loads(line)["text"] for line in open(pieces)]
    sequences, of, active, rows = load(run, kinds)
    rules = [json.loads(line) for line in open(rules)]
    wanted = collections.defaultdict(list)
    for index, rule in enumerate(rules):
        for value in rule["rule"]["values"]:
            wanted[rule["rule"]["by"], tuple(value) if isinstance(value, list) else value].append(index)
    named = [set() for _ in rules]
    for s, sequence in enumerate(sequences):
        for p in range(1, len(sequence)):
            for by, value in views(sequence, p, of[s]).items():
                for index in wanted.get((by, value), ()):
                    named[index].add((s, p))

    def shown(place):
        s, p = place
        text = lambda ids: "".join(piece[i] for i in ids)
        return f"{text(sequences[s][max(1, p - 5):p])}⟦{piece[sequences[s][p]]}⟧{text(sequences[s][p + 1:p + 3])}"

    with open(out, "w") as file:
        for index, rule in enumerate(rules):
            fires = active[rule["feature"]]
            median = sorted(fires.values())[len(fires) // 2] if fires else 0
            strong = sorted(place for place, value in fires.items() if value >= median)
            draw = random.Random(rule["feature"])
            if len(named[index]) < 20 or len(strong) < 20:
                print("too few places:", rule["feature"], len(named[index]), len(strong), file=sys.stderr)
                continue
            judged = {"named": draw.sample(sorted(named[index]), 20), "firing": draw.sample(strong, 20)}
            say = lambda value: piece[value] if isinstance(value, int) else [x if isinstance(x, str) else piece[x] for x in value]
            file.write(json.dumps({
                "feature": rule["feature"], "label": rule["label"], "density": round(len(fires) / rows, 5),
                "rule": {"by": rule["rule"]["by"], "values": [say(v) for v in rule["rule"]["values"]]},
                **{group: [[shown(x), round(fires.get(x, 0), 2), x in named[index]] for x in places] for group, places in judged.items()},
            }, ensure_ascii=False, separators=(",", ":")) + "\n")

main()
