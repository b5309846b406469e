"""Packs documents as train_model.py does: each <bos> ... <eos>, laid end to end, cut into rows of 256 ids whose first is <bos>. For `kernelscope harvest --tokens-file`; needs no packages.

Usage: kernelscope tokenize --jsonl train.jsonl > ids.jsonl; pack_ids.py ids.jsonl train.tokens.json [ROWS]
"""
import json, sys

BOS, EOS, LENGTH = 2, 1, 256

def main(source, target, rows=None):
    stream = []
    with open(source) as lines:
        for line in lines:
            stream += [BOS] + json.loads(line)["ids"] + [EOS]
    body = LENGTH - 1
    packed = [[BOS] + stream[n * body:(n + 1) * body] for n in range(len(stream) // body)][:rows and int(rows)]
    with open(target, "w") as out:
        json.dump(packed, out, separators=(",", ":"))
    print(f"{len(stream):,} ids, {len(packed):,} rows")

if __name__ == "__main__":
    main(*sys.argv[1:])
