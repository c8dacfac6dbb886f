"""Hashes of the first micro-batches that the baseline's own loader builds, and what its tokenizer says of itself.

Run in the checkout with NANOCHAT_BASE_DIR set. Arguments: rows, tokens a row. Prints one line of JSON after the mark.
"""

import hashlib
import json
import sys

from nanochat.dataloader import tokenizing_distributed_data_loader_bos_bestfit as batches
from nanochat.tokenizer import get_token_bytes, get_tokenizer

rows, tokens = int(sys.argv[2]), int(sys.argv[3])
tokenizer = get_tokenizer()


def first(split):
    digest = hashlib.sha256()
    for part in next(batches(tokenizer, rows, tokens, split=split, device="cpu")):
        digest.update(part.numpy().astype("<i4").tobytes())
    return digest.hexdigest()


answer = {
    "train": first("train"),
    "validation": first("val"),
    "vocab_size": tokenizer.get_vocab_size(),
    "token_bytes": hashlib.sha256(get_token_bytes().numpy().astype("<i4").tobytes()).hexdigest(),
}
print("\nnanochat-answer " + json.dumps(answer), flush=True)
