"""Loads model folders that pipe saved into transformers, and compares what they give with what pipe wrote down.

usage: roundtrip.py DIR

Every DIR/NAME with a config.json is loaded by transformers' class for its task, which must be the one that its `architectures` names,
strictly, and compared with DIR/NAME.reference.safetensors: batch{i}.{input_ids,attention_mask,token_type_ids} (int64 [B, L]) and
batch{i}.logits (f32, [B, C] or [B, L, C], of which padding counts nothing; of answers both ends, [B, L, 2]). Exits with 1 where a logit
is further off than 1e-5 of the largest.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
import transformers
from safetensors.torch import load_file

AUTO = {
    "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
    "ForTokenClassification": transformers.AutoModelForTokenClassification,
    "ForQuestionAnswering": transformers.AutoModelForQuestionAnswering,
    "ForCausalLM": transformers.AutoModelForCausalLM,
    "LMHeadModel": transformers.AutoModelForCausalLM,
}
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
folder, misses, seen = Path(sys.argv[1]), 0, 0
for config in sorted(folder.glob("*/config.json")):
    name = config.parent.name
    architecture = json.loads(config.read_text())["architectures"][0]
    auto = next(auto for suffix, auto in AUTO.items() if architecture.endswith(suffix))
    model, loading = auto.from_pretrained(
        config.parent, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert type(model).__name__ == architecture, f"{name}: {type(model).__name__} for {architecture}"
    faults = [kind for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs") if loading.get(kind)]
    tensors = load_file(folder / f"{name}.reference.safetensors")
    worst, at = 0.0, 0
    while f"batch{at}.input_ids" in tensors:
        # GPT-2 would look types up as tokens.
        takes_types = getattr(model.config, "type_vocab_size", 0) > 1
        names = ["input_ids", "attention_mask"] + ["token_type_ids"] * takes_types
        with torch.no_grad():
            output = model.eval()(**{name: tensors[f"batch{at}.{name}"] for name in names})
        theirs = output.logits if "logits" in output else torch.stack([output.start_logits, output.end_logits], -1)
        ours = tensors[f"batch{at}.logits"]
        kept = tensors[f"batch{at}.attention_mask"].unsqueeze(-1) if ours.ndim == 3 else 1
        worst = max(worst, float(((ours - theirs) * kept).abs().max() / (theirs * kept).abs().max()))
        at += 1
    # Written so that a NaN fails.
    ok = not faults and at > 0 and worst <= 1e-5
    print(f"{'ok  ' if ok else 'FAIL'} {name}: {architecture}, {at} batches, relative difference {worst:.1e} {faults or ''}")
    misses, seen = misses + (not ok), seen + 1
print(f"{seen} folders, {misses} misses")
sys.exit(1 if misses or not seen else 0)
