"""Makes the committed fixtures of `tests/fixtures/generation`: what transformers generates with the language models of
`tests/fixtures/families`. Everything follows from fixed seeds; run again, it writes the same bytes.

usage: make_generation.py [OUT_DIR]       (default: tests/fixtures/generation)

    {model}.safetensors
        input_ids, attention_mask   int64 [4, 6], prompts of uneven lengths, padded on the left
        greedy.tokens               int64 [4, 9], what follows, without a token that ends
        greedy.logits               f32 [4, 9, V], the model's scores before each
        penalty.tokens              int64 [4, 9], with repetition_penalty 1.3 and no_repeat_ngram_size 2
        penalty.scores              f32 [4, 9, V], as the processors leave them; -inf where a token is banned
        eos.tokens                  int64 [4, <= 9], greedy with `eos` as the tokens that end, filled up with -1
        eos                         int64 [2], two tokens that some rows generate
    processors.reference.json
        scores and ids, and for several settings which tokens stay and what they score

Last run with Python 3.11, transformers 5.23.0, torch 2.11.0 and numpy 2.4.6 on one thread of an x86-64 CPU.
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
from transformers import AutoModelForCausalLM, GenerationConfig

FIXTURES = Path(__file__).parent.parent / "fixtures"
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURES / "generation"
MODELS = ["gpt2-lm", "llama-lm", "qwen2-lm", "mistral-lm", "llama-bias-lm"]
LENGTHS, NEW_TOKENS, PADDING = [6, 3, 1, 5], 9, 3
NO_EOS = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": PADDING, "eos_token_id": None}


def prompts(rng, vocab_size):
    width = max(LENGTHS)
    ids, mask = np.full((len(LENGTHS), width), PADDING, np.int64), np.zeros((len(LENGTHS), width), np.int64)
    for row, length in enumerate(LENGTHS):
        tokens = rng.integers(0, vocab_size - 1, length)
        ids[row, width - length :] = tokens + (tokens >= PADDING)
        mask[row, width - length :] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def generate(model, inputs, **config):
    model.generation_config = GenerationConfig(**(NO_EOS | config))
    result = model.generate(**inputs, return_dict_in_generate=True, output_logits=True, output_scores=True)
    tokens = result.sequences[:, inputs["input_ids"].shape[1] :]
    return tokens, torch.stack(result.logits, 1), torch.stack(result.scores, 1)


def make(name, seed):
    model = AutoModelForCausalLM.from_pretrained(FIXTURES / "families" / name, attn_implementation="eager").eval()
    inputs = prompts(np.random.default_rng(300 + seed), model.config.vocab_size)
    tokens, logits, _ = generate(model, inputs)
    penalised, _, scores = generate(model, inputs, repetition_penalty=1.3, no_repeat_ngram_size=2)
    # Where the padding token is generated, transformers bans what follows padding.
    assert PADDING not in penalised
    # The token that the first row has fifth, and the second row's third.
    eos = torch.tensor([tokens[0, 4], tokens[1, 2]])
    ended, _, _ = generate(model, inputs, eos_token_id=eos.tolist())
    for row in ended:
        first = next((at for at, token in enumerate(row.tolist()) if token in eos.tolist()), len(row))
        row[first + 1 :] = -1
    tensors = {"greedy.tokens": tokens, "greedy.logits": logits, "penalty.tokens": penalised, "penalty.scores": scores}
    tensors |= inputs | {"eos": eos, "eos.tokens": ended}
    tensors = {key: tensors[key].contiguous() for key in sorted(tensors)}
    save_file(tensors, OUT / f"{name}.safetensors", metadata={"format": "pt"})
    gaps = logits.sort(-1).values
    print(name, "the closest best and second best are", float((gaps[..., -1] - gaps[..., -2]).min()), "apart;", len(tokens.unique()), "tokens")


def make_processors():
    rng = np.random.default_rng(7)
    scores = (3 * rng.standard_normal(60)).astype(np.float32)
    ids = [4, 17, 9, 17, 9, 22, 4, 17, 30, 17]
    model = AutoModelForCausalLM.from_pretrained(FIXTURES / "families" / "llama-lm")
    sampled = {"do_sample": True, "top_k": 0}
    configs = [
        {"repetition_penalty": 1.5},
        {"repetition_penalty": 0.7},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3, "repetition_penalty": 1.2},
        sampled | {"temperature": 0.6},
        sampled | {"top_k": 7},
        sampled | {"top_p": 0.8},
        sampled | {"min_p": 0.1},
        sampled | {"temperature": 1.7, "top_k": 20, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
        # The likeliest alone stays.
        sampled | {"top_p": 0.0},
    ]
    cases = []
    for config in configs:
        generation = GenerationConfig(**config)
        generation._eos_token_tensor = None
        processors = model._get_logits_processor(generation, input_ids_seq_length=len(ids), device="cpu")
        left = processors(torch.tensor([ids]), torch.from_numpy(scores)[None].clone())[0]
        kept = torch.isfinite(left).nonzero()[:, 0].tolist()
        cases.append({"config": config, "kept": kept, "scores": left[kept].tolist()})
    lines = ",\n".join("    " + json.dumps(case) for case in cases)
    head = json.dumps({"ids": ids, "scores": scores.tolist()})[:-1]
    (OUT / "processors.reference.json").write_text(f'{head},\n  "cases": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(MODELS):
        make(name, seed)
    make_processors()
