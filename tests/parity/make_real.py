"""What transformers computes with real models, for a test of `pipe-train` that is not part of the suite.

usage: make_real.py MINILM_DIR SMOLLM2.gguf OUT

    OUT/minilm/                 MiniLM with a head of random weights, as transformers saves it, and reference.safetensors
    OUT/smollm2/                reference.safetensors alone: transformers with the weights that the package gguf dequantises; the test
                                reads the GGUF file itself

reference.safetensors is as make_families.py has it: two batches of random tokens with logits and loss, and the gradients of the sum of
both losses. Then

    PIPE_REAL=OUT cargo test -p pipe-train --lib real_models -- --ignored --nocapture

Last run with Python 3.11, transformers 5.23.0, torch 2.11.0, gguf 0.19.0 and numpy 2.4.6.
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from make_families import LABELS, batch


def reference(model, language_model, seed):
    """Of rows with padding on the right, then on the left; a decoder's padding is a token that no row has.

    In f64, wherever transformers does not turn it back (norms, softmax, rotary angles): over thirty layers two computations in f32 that
    add up in another order differ by more than is asked for, transformers' own from this by 1.8e-5 of the largest logit of SmolLM2.
    """
    model = model.double()
    rng = np.random.default_rng(seed)
    tensors, total = {}, 0.0
    for at, (lengths, width, left) in enumerate([([31, 18, 9, 25], 31, False), ([20, 12], 20, True)]):
        inputs = batch(rng, model.config, lengths, width, left, language_model)
        takes_types = getattr(model.config, "type_vocab_size", 0) > 1
        taken = {key: value for key, value in inputs.items() if key != "token_type_ids" or takes_types}
        if language_model:
            # With the least number of f32 for what is not seen: that of f64 gives NaN where padding sees nothing.
            seen = torch.ones(width, width, dtype=torch.bool).tril() & inputs["attention_mask"].bool()[:, None, None, :]
            taken["attention_mask"] = (~seen).double() * torch.finfo(torch.float32).min
        output = model(**taken)
        total = total + output.loss
        tensors |= {f"batch{at}.{key}": tensor for key, tensor in inputs.items()}
        tensors |= {f"batch{at}.logits": output.logits.detach(), f"batch{at}.loss": output.loss.detach()}
    total.backward()
    tensors |= {f"grad.{key}": parameter.grad for key, parameter in model.named_parameters()}
    return {key: tensor.float() if tensor.is_floating_point() else tensor.clone() for key, tensor in tensors.items()}


def main(minilm, gguf, out):
    folder = out / "minilm"
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(minilm, num_labels=len(LABELS), id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)})
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model = AutoModelForSequenceClassification.from_pretrained(minilm, config=config, dtype=torch.float32, attn_implementation="eager")
    model.save_pretrained(folder)
    save_file(reference(model.eval(), False, 1), folder / "reference.safetensors")

    folder = out / "smollm2"
    folder.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager")
    save_file(reference(model.eval(), True, 2), folder / "reference.safetensors")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
