"""Writes tests/fixtures/sae/topk: two small SAEs as EleutherAI's sparsify stores them, and what they compute, in plain Python and double precision.

    python3 tools/reference/sae/make_topk.py tests/fixtures/sae/topk

What is computed is what sparsify/sparse_coder.py and fused_encoder.py define: x - b_dec unless it is a transcoder; a = relu(x W_enc^T + b_enc); the k largest of a (a zero among them is no code);
y = sum over codes of value * W_dec[feature] + b_dec, plus x W_skip^T where there is a skip connection. All parameters and rows are multiples of 1/64, so that a is exact in float32 too and ties are real:
among equals the lower index stays. Standard library only.
"""
import json, os, random, struct, sys


def grid(rng, low, high, count): return [rng.randint(low, high) / 64 for _ in range(count)]


def write(folder, config, tensors):
    os.makedirs(folder, exist_ok=True)
    json.dump(config, open(os.path.join(folder, "cfg.json"), "w"), indent=1)
    header, at = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(values)]}
        at += 4 * len(values)
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "sae.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, values in tensors.values(): f.write(struct.pack("<%df" % len(values), *values))


def codes(x, t, config, width):
    d = len(x)
    bias = t["b_dec"][1]
    centred = x if config["transcode"] else [v - b for v, b in zip(x, bias)]
    a = [max(0.0, sum(centred[i] * t["encoder.weight"][1][f * d + i] for i in range(d)) + t["encoder.bias"][1][f]) for f in range(width)]
    best = sorted(sorted(range(width), key=lambda f: (-a[f], f))[:config["k"]])
    return {f: a[f] for f in best if a[f] > 0}


def decode(x, active, t, d):
    y = list(t["b_dec"][1])
    for f, value in active.items():
        for j in range(d): y[j] += value * t["W_dec"][1][f * d + j]
    if "W_skip" in t:
        for j in range(d): y[j] += sum(x[i] * t["W_skip"][1][j * d + i] for i in range(d))
    return y


def make(root, name, seed, d, width, config, skip, bias):
    rng = random.Random(seed)
    t = {"encoder.weight": ([width, d], grid(rng, -40, 40, width * d)), "encoder.bias": ([width], grid(rng, bias - 20, bias + 20, width)),
         "W_dec": ([width, d], grid(rng, -64, 64, width * d)), "b_dec": ([d], grid(rng, -32, 32, d))}
    if skip: t["W_skip"] = ([d, d], grid(rng, -16, 16, d * d))
    write(os.path.join(root, name), config, t)
    rows = [grid(rng, -128, 128, d) for _ in range(9)] + [[0.0] * d]
    found = [codes(x, t, config, width) for x in rows]
    json.dump({"x": rows, "codes": [[[f, v] for f, v in sorted(c.items())] for c in found], "reconstruction": [decode(x, c, t, d) for x, c in zip(rows, found)]},
              open(os.path.join(root, name, "expected.json"), "w"))
    print(name, [len(c) for c in found])


if __name__ == "__main__":
    root = sys.argv[1]
    common = {"activation": "topk", "normalize_decoder": True, "multi_topk": False}
    make(root, "layers.2", 1, 24, 60, {**common, "expansion_factor": 32, "num_latents": 60, "k": 5, "skip_connection": False, "transcode": False, "d_in": 24}, False, 0)
    make(root, "layers.1.mlp", 2, 20, 80, {**common, "expansion_factor": 4, "num_latents": 0, "k": 32, "skip_connection": True, "transcode": True, "d_in": 20}, True, -160)
