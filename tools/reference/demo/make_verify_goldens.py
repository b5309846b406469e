"""Packs the reference numbers that `kernelscope verify` carries: a selection of what make_goldens_demo.py made.

  python3 make_verify_goldens.py GOLDENS OUT.npz

GOLDENS is tests/fixtures/demo/goldens, OUT.npz is src/KernelScope.Demo/content/verify/goldens.npz. Arrays are copied byte for byte; nothing is computed.
Needs the standard library only.
"""
import json
import struct
import sys
import zipfile
from pathlib import Path

TEXTS = ["tale", "scripture", "question", "csharp", "numbers", "languages"]
SAES = ["res.3.2k.l0_19", "transcoder.3.1k.l0_20"]
TEXT_OF_CODES = "tale"
EVALUATED = "res.3.2k.l0_19"
METRICS = [["L0"], ["fvu"], ["ce_clean", "default"], ["splices", "sae/keep_bos", "ce", "default"], ["splices", "sae/keep_bos", "kl"]]


def npy(descr, shape, data):
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def main(goldens, out):
    arrays = {}
    for text in TEXTS:
        with zipfile.ZipFile(goldens / f"text-{text}.npz") as file:
            for name in ["tokens", "logits_last", "next_token_loss", "greedy_tokens"]:
                arrays[f"{name}_{text}"] = file.read(f"{name}.npy")
            if text == TEXT_OF_CODES:
                arrays[f"resid_post.3_{text}"] = file.read("resid_post.3.npy")
    for sae in SAES:
        with zipfile.ZipFile(goldens / f"sae-{sae}.npz") as file:
            for name in ["row_ptr", "feature", "value", "near"]:
                arrays[f"{sae}_{name}"] = file.read(f"{name}_{TEXT_OF_CODES}.npy")
    sequences = json.loads((goldens / "tokens.json").read_text())["sequences"]
    flat = [token for sequence in sequences for token in sequence]
    arrays["eval_tokens"] = npy("<i4", (len(sequences), len(sequences[0])), struct.pack(f"<{len(flat)}i", *flat))
    metrics = json.loads((goldens / f"sae-{EVALUATED}.json").read_text())["metrics"]
    values = []
    for path in METRICS:
        value = metrics
        for key in path:
            value = value[key]
        values.append(value)
    arrays["eval_metrics"] = npy("<f8", (len(values),), struct.pack(f"<{len(values)}d", *values))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for name, data in arrays.items():
            file.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), data)


main(Path(sys.argv[1]), Path(sys.argv[2]))
