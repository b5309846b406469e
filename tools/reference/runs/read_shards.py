#!/usr/bin/env python3
"""What the official safetensors package and NumPy read in files that `kernelscope` wrote, and a file that the official package wrote.

    read_shards.py FOLDER        reads FOLDER/*.safetensors and *.npz, writes FOLDER/official.json and FOLDER/official.safetensors

The files were made by `kernelscope harvest` and `run` (tests/fixtures/README.md has the commands). Debian 13 has both packages:
apt-get install python3-safetensors python3-numpy.
"""
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import sys

import numpy
import safetensors

WIDTHS = {"F32": numpy.float32, "F16": numpy.float16, "I32": numpy.int32, "I64": numpy.int64}


def values(dtype, data):
    """As float32 or integers; bfloat16 is the upper half of a float32 (NumPy has no such type)."""
    if dtype == "BF16":
        array = (numpy.frombuffer(data, numpy.uint16).astype(numpy.uint32) << 16).view(numpy.float32)
    else:
        array = numpy.frombuffer(data, WIDTHS[dtype])
    return [v.item() for v in array]


def read(path):
    data = path.read_bytes()
    tensors = {name: {"dtype": t["dtype"], "shape": list(t["shape"]), "sha256": hashlib.sha256(t["data"]).hexdigest(),
                      "values": values(t["dtype"], bytes(t["data"]))} for name, t in safetensors.deserialize(data)}
    with safetensors.safe_open(str(path), framework="numpy") as file:
        metadata, names = file.metadata(), sorted(file.keys())
        # The package's own way to NumPy gives the same; it knows no bfloat16.
        for name in names:
            if tensors[name]["dtype"] != "BF16":
                assert file.get_tensor(name).ravel().tolist() == tensors[name]["values"], name
    assert names == sorted(tensors)
    return {"sha256": hashlib.sha256(data).hexdigest(), "metadata": metadata, "tensors": tensors}


def read_npz(path):
    with numpy.load(path, allow_pickle=False) as arrays:
        return {name: {"dtype": arrays[name].dtype.str, "shape": list(arrays[name].shape), "values": arrays[name].ravel().tolist()}
                for name in arrays.files}


def main():
    folder = pathlib.Path(sys.argv[1])
    own = folder / "official.safetensors"
    rng = numpy.random.default_rng(1)
    x = rng.standard_normal((5, 12)).astype(numpy.float32)
    tensors = {
        "rows": ("float32", x), "half": ("float16", x.astype(numpy.float16)),
        "brain": ("bfloat16", (x.view(numpy.uint32) >> 16).astype(numpy.uint16)),
        "tokens": ("int32", numpy.arange(5, dtype=numpy.int32)), "zähler": ("int64", numpy.array([-1, 1 << 40], dtype=numpy.int64)),
    }
    own.write_bytes(safetensors.serialize({name: {"dtype": dtype, "shape": array.shape, "data": array.tobytes()}
                                           for name, (dtype, array) in tensors.items()}, {"format": "np", "von": "größe \"x\""}))
    result = {
        "python": platform.python_version(), "safetensors": importlib.metadata.version("safetensors"), "numpy": numpy.__version__,
        "files": {path.name: read(path) for path in sorted(folder.glob("*.safetensors"))},
        "npz": {path.name: read_npz(path) for path in sorted(folder.glob("*.npz"))},
    }
    (folder / "official.json").write_text(json.dumps(result, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
