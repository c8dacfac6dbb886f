"""The weights that the baseline would start from: its own model and initialisation, in the order of its script.

Run in the checkout with NANOCHAT_DTYPE set. Arguments: device type, seed, GPTConfig as JSON, the file to write.
Prints one line of JSON after the mark.
"""

import json
import sys

import torch

from nanochat.common import compute_init
from nanochat.gpt import GPT, GPTConfig

device_type, seed, config, path = sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5]
device = compute_init(device_type)[-1]
torch.manual_seed(seed)  # what compute_init does itself, with its own fixed seed
with torch.device("meta"):
    model = GPT(GPTConfig(**config))
model.to_empty(device=device)
model.init_weights()
weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
torch.save(weights, path)
print("\nnanochat-answer " + json.dumps({"tensors": len(weights)}), flush=True)
