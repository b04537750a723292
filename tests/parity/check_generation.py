"""Generates with an exported language model as optimum does (its names, an empty past first) in ONNX Runtime from Python, and with
transformers from the model folder: the same tokens, and scores that differ by no more than 1e-4.

usage: check_generation.py MODEL_DIR EXPORT_DIR
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

LENGTHS, NEW_TOKENS = [5, 1, 3], 8


def prompts(vocab_size):
    rng, width = np.random.default_rng(5), max(LENGTHS)
    ids, mask = np.zeros((len(LENGTHS), width), np.int64), np.zeros((len(LENGTHS), width), np.int64)
    for row, length in enumerate(LENGTHS):
        ids[row, width - length :] = rng.integers(1, vocab_size, length)
        mask[row, width - length :] = 1
    return ids, mask


def with_onnxruntime(path, ids, mask):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    empty = {i.name: [len(ids), i.shape[1], 0, i.shape[3]] for i in session.get_inputs() if i.name.startswith("past_key_values.")}
    past = {name: np.zeros(shape, np.float32) for name, shape in empty.items()}
    names = [output.name for output in session.get_outputs()]
    tokens, scores = [], []
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    for _ in range(NEW_TOKENS):
        outputs = dict(zip(names, session.run(None, {"input_ids": ids, "attention_mask": mask, "position_ids": positions} | past)))
        scores.append(outputs["logits"][:, -1])
        tokens.append(scores[-1].argmax(-1))
        past = {name: outputs[name.replace("past_key_values", "present")] for name in past}
        ids, positions = tokens[-1][:, None], positions[:, -1:] + 1
        mask = np.concatenate([mask, np.ones_like(ids)], 1)
    return np.stack(tokens, 1), np.stack(scores, 1)


def with_transformers(folder, ids, mask):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    result = model.generate(**inputs, return_dict_in_generate=True, output_logits=True)
    return result.sequences[:, ids.shape[1] :].numpy(), torch.stack(result.logits, 1).numpy()


if __name__ == "__main__":
    model, export = Path(sys.argv[1]), Path(sys.argv[2]) / "model.onnx"
    vocab_size = AutoModelForCausalLM.from_pretrained(model).config.vocab_size
    ids, mask = prompts(vocab_size)
    (ours, our_scores), (theirs, their_scores) = with_onnxruntime(export, ids, mask), with_transformers(model, ids, mask)
    worst = np.abs(our_scores - their_scores).max()
    print(f"{ours.size} tokens, {(ours != theirs).sum()} differ; scores differ by up to {worst:.1e}")
    sys.exit(bool((ours != theirs).any() or worst > 1e-4))
