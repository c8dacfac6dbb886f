"""Runs a module as the program with the run's seed where the module asks for its own fixed one. Changes no file: it stands
between the module and torch.manual_seed, torch.cuda.manual_seed and torch.compile.

Arguments: the file for the evidence, the fixed seed, the run's seed, the module, then the program's own. The evidence is
JSON: how often the fixed seed was asked for, and the hash of the first compiled model's weights, which is the model before
its first step. Of several processes, the first one writes it.
"""

import functools
import hashlib
import json
import os
import runpy
import struct

import torch

# `sys` is imported by the line before this script, which names the place of the modules.
path, fixed, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.argv = sys.argv[4:]
evidence = {"seed_requests": 0, "initial_weights_sha256": None, "problem": None}


def write():
    if int(os.environ.get("RANK", "0")) == 0:
        with open(path + ".new", "w") as file:
            json.dump(evidence, file)
        os.replace(path + ".new", path)


def with_run_seed(original):
    @functools.wraps(original)
    def manual_seed(asked):
        if asked != fixed:
            return original(asked)
        evidence["seed_requests"] += 1
        write()
        return original(seed)

    return manual_seed


def sha256(model):
    """Names, types, shapes and elements in order of name, all elements as f32."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        elements = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(name.encode() + b"\0f32\0" + struct.pack(f"<{elements.dim() + 1}Q", elements.dim(), *elements.shape))
        digest.update(memoryview(elements.numpy()).cast("B") if elements.numel() else b"")
    return digest.hexdigest()


def with_hash(original):
    @functools.wraps(original)
    def compile(model=None, *arguments, **options):
        if evidence["initial_weights_sha256"] is None and isinstance(model, torch.nn.Module):
            try:
                evidence["initial_weights_sha256"] = sha256(model)
            except Exception as error:
                evidence["problem"] = f"{type(error).__name__}: {error}"
            write()
        return original(model, *arguments, **options)

    return compile


torch.manual_seed = with_run_seed(torch.manual_seed)
torch.cuda.manual_seed = with_run_seed(torch.cuda.manual_seed)
torch.compile = with_hash(torch.compile)
write()
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
