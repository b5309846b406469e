"""Opens the folders that `kernelscope train` writes with SAELens' own loader, unmodified, and compares its codes and outputs with those of `kernelscope encode`.

Usage: check_saelens.py make DIR [--kernelscope PROGRAM]
       check_saelens.py check DIR --saelens SOURCE
  make             writes small activation files into DIR, trains an SAE of each kind on them, and encodes rows with it (standard library only)
  check            loads each folder of DIR with SAE.load_from_disk (needs torch, numpy, safetensors, einops; may run on another machine than make)
  --kernelscope    default: kernelscope
  --saelens        a copy of github.com/jbloomAus/SAELens (6.18.0 was used). What it only imports and this check does not call (transformer_lens' models, datasets, wandb, ...) is stood in for where it is not installed

Prints a line a folder; exit code 1 if SAELens refuses one, or finds other active features, or values farther off than the roundings of a float32 dot product.
"""
import argparse, dataclasses, importlib.abc, importlib.machinery, json, os, random, struct, subprocess, sys, types

ROWS, D, WIDTH, K = 400, 48, 32, 5
SHORT = ["--width", str(WIDTH), "--steps", "150", "--batch", "64", "--lr", "0.003", "--lr-warm-up", "20", "--validation", "0.1"]
WARM, JUMP, TRANSCODER = ["--sparsity-warm-up", "50"], ["--bandwidth", "0.05", "--theta", "0.05"], ["--key-out", "y", "--site-out", "mlp_out_post.1"]
SPARSE, TARGET = ["--sparsity", "0.02", *WARM], ["--target-l0", "6", *WARM]
# Name, array, arguments of train.
KINDS = [
    ("jumprelu", "x", ["--site", "resid_post.1", *SPARSE, *JUMP]),
    ("jumprelu-log", "x", ["--parameter", "log_theta", "--site", "resid_post.1", *SPARSE, *JUMP]),
    ("jumprelu-target", "x", ["--site", "resid_post.1", *TARGET, *JUMP]),
    ("jumprelu-heads", "z", ["--site", "z.1", *SPARSE, *JUMP]),
    ("jumprelu-no-site", "x", [*SPARSE, *JUMP]),
    ("topk", "x", ["--activation", "topk", "--k", str(K), "--site", "resid_post.1"]),
    ("topk-heads", "z", ["--activation", "topk", "--k", str(K), "--site", "z.1"]),
    ("batchtopk", "x", ["--activation", "batchtopk", "--k", str(K), "--site", "resid_post.1"]),
    ("relu", "x", ["--activation", "relu", "--site", "resid_post.1", *SPARSE]),
    ("relu-target", "x", ["--activation", "relu", "--site", "resid_post.1", *TARGET]),
    ("transcoder", "x", ["--site", "mlp_in_unit.1", *TRANSCODER, *SPARSE, *JUMP]),
    ("transcoder-relu", "x", ["--activation", "relu", "--site", "mlp_in_unit.1", *TRANSCODER, *SPARSE]),
    ("transcoder-relu-skip", "x", ["--activation", "relu", "--skip", "--site", "mlp_in_unit.1", *TRANSCODER, *SPARSE]),
    ("transcoder-skip", "x", ["--skip", "--site", "mlp_in_unit.1", *TRANSCODER, *SPARSE, *JUMP]),
    ("transcoder-batchtopk", "x", ["--activation", "batchtopk", "--k", str(K), "--site", "mlp_in_unit.1", *TRANSCODER]),
]

def write_rows(path):
    """Sums of a few directions, so that there is something to learn; z is x, y a linear map of it to another width."""
    rng = random.Random(1)
    directions = [[rng.gauss(0, 1) for _ in range(D)] for _ in range(WIDTH)]
    rows = []
    for _ in range(ROWS):
        row = [rng.gauss(0, 0.05) + 0.3 for _ in range(D)]
        for i in rng.sample(range(WIDTH), 4):
            size = rng.uniform(0.5, 1.5)
            row = [r + size * d for r, d in zip(row, directions[i])]
        rows.append(row)
    targets = [[sum(row[(j + 3 * i) % D] for i in range(3)) for j in range(D - 8)] for row in rows]
    header, data = {}, b""
    for name, shape, values in (("x", [ROWS, D], rows), ("z", [ROWS, D], rows), ("y", [ROWS, D - 8], targets)):
        bytes_ = b"".join(struct.pack(f"<{len(row)}f", *row) for row in values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + data)

def make(folder, program):
    os.makedirs(folder)
    rows = os.path.join(folder, "rows.safetensors")
    write_rows(rows)
    for name, key, arguments in KINDS:
        place = os.path.join(folder, name)
        subprocess.run([program, "train", "--from", rows, "--key", key, "--out", place, *SHORT, *arguments], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([program, "encode", rows, "--key", key, "--sae", os.path.join(place, "saelens"), "--out", os.path.join(place, "codes.npz")],
            check=True, stdout=subprocess.DEVNULL)
        print(f"made  {name}")

class Placeholder(type):
    """A class that can be subclassed, called, subscripted and joined with others in an annotation."""
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder(name, (), {})
    def __getitem__(cls, _):
        return cls
    def __or__(cls, _):
        return cls
    __ror__ = __or__

# What SAELens imports at its top and this check does not call.
OPTIONAL = {"transformer_lens", "transformers", "datasets", "huggingface_hub", "wandb", "babe", "nltk", "plotly", "plotly_express", "pandas", "simple_parsing",
    "tqdm", "dotenv", "jaxtyping", "requests", "yaml"}

class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Last in line: modules that are not installed."""
    def __init__(self):
        self.names = set()
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in OPTIONAL or (top not in self.names and top in sys.modules):
            return None
        self.names.add(top)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: Placeholder.__getattr__(Placeholder, name)
        return module
    def exec_module(self, module):
        if module.__name__ == "transformer_lens.hook_points":
            from torch import nn
            module.HookPoint = type("HookPoint", (nn.Identity,), {})
            module.HookedRootModule = type("HookedRootModule", (nn.Module,), {"setup": lambda self: None})
        if module.__name__ == "simple_parsing":
            module.helpers = types.SimpleNamespace(field=lambda type=None, **rest: dataclasses.field(**rest),
                dict_field=lambda default, **_: dataclasses.field(default_factory=lambda: dict(default)))

def check(folder, source):
    import einops, numpy, torch
    from safetensors.torch import load_file
    sys.path.insert(0, source)
    stand_ins = StandIns()
    sys.meta_path.append(stand_ins)
    import sae_lens
    print(f"SAELens {sae_lens.__version__}, stand-ins for: {', '.join(sorted(stand_ins.names)) or 'nothing'}")
    rows, failures = load_file(os.path.join(folder, "rows.safetensors")), 0
    for name, key, _ in KINDS:
        with open(os.path.join(folder, name, "saelens", "cfg.json"), encoding="utf-8") as file:
            architecture = json.load(file)["architecture"]
        if architecture == "jumprelu_skip_transcoder" and architecture not in sae_lens.registry.SAE_CLASS_REGISTRY:
            print(f"skip  {name}: this SAELens has no {architecture}, later ones have")
            continue
        try:
            sae = sae_lens.SAE.load_from_disk(os.path.join(folder, name, "saelens"))
            with torch.no_grad():
                given = rows[key].reshape(ROWS, 4, -1) if key == "z" else rows[key]
                codes, output = sae.encode(given), sae(given)
            ours = numpy.load(os.path.join(folder, name, "codes.npz"))
            row = numpy.repeat(numpy.arange(ROWS), numpy.diff(ours["row_ptr"]))
            dense = numpy.zeros((ROWS, WIDTH), numpy.float32)
            dense[row, ours["feature"]] = ours["value"]
            codes, output = codes.numpy(), output.numpy().reshape(ROWS, -1)
            if not numpy.array_equal(codes > 0, dense > 0):
                raise AssertionError(f"{int((codes > 0).sum())} active features, ours are {int((dense > 0).sum())}, "
                    f"{int(((codes > 0) != (dense > 0)).sum())} differ")
            # A sum of n terms is off by at most n roundings of the sum of their sizes, on either side; an output by that and by its codes' errors.
            w = {part: abs(values.detach().numpy()) for part, values in sae.named_parameters()}
            x, skip = abs(rows[key].numpy()), w.get("W_skip", numpy.zeros((output.shape[1], D)))
            bound = 2 * (D + 1) * 2.0 ** -24 * (x @ w["W_enc"] + w["b_enc"])
            bound_out = (dense > 0) * bound @ w["W_dec"] + 2 * (WIDTH + D + 2) * 2.0 ** -24 * (dense @ w["W_dec"] + w["b_dec"] + x @ skip.T)
            apart, wrong = abs(codes - dense), abs(output - ours["reconstruction"])
            if not (apart <= bound).all() or not (wrong <= bound_out).all():
                raise AssertionError(f"codes differ by {apart.max():.1e} (bound {bound.max():.1e}), outputs by {wrong.max():.1e} (bound {bound_out.max():.1e})")
            print(f"ok    {name}: {type(sae).__name__}, L0 {(codes > 0).sum() / ROWS:.2f}, codes within {apart.max():.1e}, outputs within {wrong.max():.1e}")
        except Exception as error:
            failures += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}")
    return 1 if failures else 0

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    made = verbs.add_parser("make")
    made.add_argument("folder")
    made.add_argument("--kernelscope", default="kernelscope")
    checked = verbs.add_parser("check")
    checked.add_argument("folder")
    checked.add_argument("--saelens", required=True)
    arguments = parser.parse_args()
    if arguments.verb == "make":
        make(arguments.folder, arguments.kernelscope)
        return 0
    return check(arguments.folder, arguments.saelens)

sys.exit(main())
