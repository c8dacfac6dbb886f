"""What a Python environment has: versions of the modules named on the command line, and the devices PyTorch sees.

Arguments: `module=distribution` pairs. Prints one line of JSON after the mark.
"""

import importlib
import json
import platform
import sys
from importlib import metadata

packages, missing = {}, {}
for pair in sys.argv[2:]:
    module, distribution = pair.split("=")
    try:
        importlib.import_module(module)
    except BaseException as error:
        missing[distribution] = f"{type(error).__name__}: {error}"
        continue
    try:
        packages[distribution] = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        packages[distribution] = "unknown"

devices, accelerators, compiled_for = ["cpu"], [], None
if "torch" in packages:
    import torch

    packages["torch"] = torch.__version__
    compiled_for = torch.version.cuda
    if torch.cuda.is_available():
        devices.append("cuda")
        accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")

answer = {
    "python": platform.python_version(),
    "packages": packages,
    "missing": missing,
    "cuda": compiled_for,
    "devices": devices,
    "accelerators": accelerators,
}
print("\nnanochat-answer " + json.dumps(answer), flush=True)
