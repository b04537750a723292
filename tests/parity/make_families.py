"""Makes the committed fixtures of `tests/fixtures/families`: a tiny random model of each family, and what transformers computes
with it. Everything follows from fixed seeds; run again, it writes the same bytes.

usage: make_families.py [OUT_DIR]       (default: tests/fixtures/families)

    {case}/config.json, {case}/model.safetensors
        as transformers reads them; half of the configs are spelled as version 4 did
    {case}/reference.safetensors
        batch0.{input_ids,attention_mask,token_type_ids}  int64 [4, 9], padded on the right to mixed lengths
        batch1.{input_ids,attention_mask,token_type_ids}  int64 [3, 7], padded on the left
        batch{i}.labels    int64: [B] classes, or [B, L] next tokens with -100 for padding
        batch{i}.logits    f32 [B, 3] or [B, L, V], from eager attention in eval mode
        batch{i}.loss      f32 [], the mean cross-entropy; transformers shifts the labels of language models
        dropout.logits     f32, as batch0.logits, in training mode with every rate at 0.2 and the generator seeded with 7: the same
                           numbers are drawn only if the same things are dropped in the same order
        grad.<parameter>   f32, the gradient of batch0.loss + batch1.loss, for every parameter of the model

Last run with Python 3.11, transformers 5.23.0, torch 2.11.0, safetensors 0.8.0 and numpy 2.4.6 on one thread of an x86-64 CPU. All
weights come from numpy, so other versions make the same models; the references may then differ in the last bits.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "fixtures" / "families"
LABELS = ["negative", "neutral", "positive"]
# Large weights: logits of a size that makes a comparison mean something.
COMMON = {"vocab_size": 40, "initializer_range": 0.3}
BERT = COMMON | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
LLAMA = COMMON | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "pad_token_id": 3,
}
GPT2 = COMMON | {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
# The rates of dropout, by the beginning of model_type; of an encoder that classifies, the head's alone: its last layer computes the
# first position here and all of them in transformers, so that a generator of random numbers would not be in step after it.
RATES = {
    "bert": ["classifier_dropout"],
    "distilbert": ["seq_classif_dropout"],
    "gpt2": ["embd_pdrop", "resid_pdrop", "attn_pdrop"],
    "llama": ["attention_dropout"],
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}

# name → (a language model, config.json)
CASES = {
    "roberta": (False, BERT | {"model_type": "roberta", "type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": (False, BERT | {"model_type": "xlm-roberta", "type_vocab_size": 2, "pad_token_id": 2, "hidden_act": "gelu_new"}),
    "distilbert": (
        False,
        COMMON
        | {"model_type": "distilbert", "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 16}
        | {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
    ),
    "gpt2": (False, GPT2 | {"model_type": "gpt2", "pad_token_id": 5}),
    "gpt2-lm": (True, GPT2 | {"model_type": "gpt2", "n_inner": 24, "scale_attn_by_inverse_layer_idx": True}),
    "llama": (False, LLAMA | {"model_type": "llama", "rope_parameters": LLAMA3 | {"rope_theta": 500.0}}),
    "llama-lm": (True, LLAMA | {"model_type": "llama", "head_dim": 6, "tie_word_embeddings": True, "rope_theta": 100.0}),
    "llama-bias": (
        False,
        LLAMA
        | {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}
        | {"rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    ),
    "mistral": (False, LLAMA | {"model_type": "mistral", "sliding_window": 3, "rope_theta": 1000.0}),
    "qwen2-lm": (
        True,
        LLAMA
        | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "head_dim": 8, "hidden_size": 32}
        | {"rope_parameters": {"rope_type": "yarn", "rope_theta": 200.0, "factor": 4.0, "original_max_position_embeddings": 8}},
    ),
    "mistral-lm": (True, LLAMA | {"model_type": "mistral", "sliding_window": 3, "rope_theta": 1000.0}),
    "llama-bias-lm": (
        True,
        LLAMA
        | {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}
        | {"rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    ),
}


def randomise(model, seed):
    """Fills every parameter from numpy, biases and norms too, so that a forgotten one shows."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype(np.float32))
            if parameter.ndim == 2:
                parameter.copy_(model.config.initializer_range * noise)
            else:
                parameter.copy_((1.0 if name.endswith("weight") else 0.0) + 0.1 * noise)
    return model.eval()


def batch(rng, config, lengths, width, left, language_model):
    shape = (len(lengths), width)
    padding = config.pad_token_id or 0
    ids, mask, types = np.full(shape, padding, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, length in enumerate(lengths):
        part = slice(width - length, width) if left else slice(length)
        tokens = rng.integers(0, config.vocab_size - 1, length)
        ids[row, part] = tokens + (tokens >= padding)
        mask[row, part] = 1
        if getattr(config, "type_vocab_size", 0) > 1:
            types[row, part] = np.arange(length) >= length // 2
    labels = np.where(mask == 1, ids, -100) if language_model else rng.integers(0, len(LABELS), len(lengths))
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def with_dropout(auto, folder, model, inputs):
    family = {"roberta": "bert", "xlm-roberta": "bert", "mistral": "llama", "qwen2": "llama"}.get(model.config.model_type, model.config.model_type)
    config = AutoConfig.from_pretrained(folder, **{rate: 0.2 for rate in RATES[family]})
    dropping = auto.from_config(config, attn_implementation="eager").train()
    dropping.load_state_dict(model.state_dict())
    torch.manual_seed(7)
    with torch.no_grad():
        return dropping(**inputs).logits


def make(name, language_model, raw, seed):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    if not language_model:
        raw = raw | {"id2label": {str(i): label for i, label in enumerate(LABELS)}, "label2id": {label: i for i, label in enumerate(LABELS)}}
        raw["problem_type"] = "single_label_classification"
    config_file = folder / "config.json"
    config_file.write_text(json.dumps(raw, indent=2) + "\n")
    config = AutoConfig.from_pretrained(folder)
    auto = AutoModelForCausalLM if language_model else AutoModelForSequenceClassification
    model = randomise(auto.from_config(config, attn_implementation="eager"), seed)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # With the architecture's name, in the spelling above.
    raw["architectures"] = [type(model).__name__]
    config_file.write_text(json.dumps(raw, indent=2) + "\n")

    rng = np.random.default_rng(100 + seed)
    tensors, total = {}, 0.0
    for at, (lengths, width, left) in enumerate([([9, 6, 2, 7], 9, False), ([7, 4, 1], 7, True)]):
        inputs = batch(rng, config, lengths, width, left, language_model)
        accepted = {key: value for key, value in inputs.items() if key != "token_type_ids" or getattr(config, "type_vocab_size", 0) > 1}
        output = model(**accepted)
        total = total + output.loss
        tensors |= {f"batch{at}.{key}": tensor for key, tensor in inputs.items()}
        tensors |= {f"batch{at}.logits": output.logits.detach(), f"batch{at}.loss": output.loss.detach()}
        if at == 0:
            tensors["dropout.logits"] = with_dropout(auto, folder, model, accepted)
    total.backward()
    tensors |= {f"grad.{key}": parameter.grad for key, parameter in model.named_parameters()}
    save_file({key: tensors[key].clone() for key in sorted(tensors)}, folder / "reference.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    torch.set_num_threads(1)
    for seed, (name, (language_model, raw)) in enumerate(CASES.items()):
        make(name, language_model, raw, seed)
