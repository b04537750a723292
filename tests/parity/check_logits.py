"""Compares logits that pipe's worker wrote with those of transformers, and optionally of ONNX Runtime, on the same batches.

usage: check_logits.py MODEL_DIR REFERENCE.safetensors [--onnx model.onnx] [--tolerance 1e-5] [--onnx-tolerance 1e-4]

REFERENCE holds, for i = 0, 1, …: batch{i}.input_ids, batch{i}.attention_mask and batch{i}.token_type_ids (int64 [B, L])
and batch{i}.logits (f32 [B, C]). transformers must agree within the tolerance relative to the batch's largest |logit|,
ONNX Runtime within an absolute one and on every row's class. Exits with 1 where something does not.
"""

import argparse
import os
import sys

parser = argparse.ArgumentParser()
parser.add_argument("model_dir")
parser.add_argument("reference")
parser.add_argument("--onnx", metavar="MODEL.onnx")
parser.add_argument("--tolerance", type=float, default=1e-5)
parser.add_argument("--onnx-tolerance", type=float, default=1e-4)
args = parser.parse_args()
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification

torch.set_num_threads(1)
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)


def read_batches():
    tensors = load_file(args.reference)
    batches = []
    while f"batch{len(batches)}.input_ids" in tensors:
        prefix = f"batch{len(batches)}."
        batch = {name: tensors[prefix + name] for name in [*INPUTS, "logits"]}
        ids, logits = batch["input_ids"], batch["logits"]
        for name in INPUTS:
            check(batch[name].dtype == np.int64 and batch[name].shape == ids.shape, f"{prefix}{name} is {batch[name].dtype} {batch[name].shape}")
        check(logits.dtype == np.float32 and logits.shape[0] == ids.shape[0], f"{prefix}logits is {logits.dtype} {logits.shape}")
        check(bool(np.isfinite(logits).all()), f"{prefix}logits has values that are not finite")
        batches.append(batch)
    if not batches:
        sys.exit(f"{args.reference} holds no batch0.input_ids")
    return batches


def check_transformers(batches):
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        args.model_dir, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    model.eval()
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        check(not loading.get(kind), f"loading {args.model_dir}: {kind} {sorted(map(str, loading.get(kind) or []))}")
    worst = 0.0
    for at, batch in enumerate(batches):
        # What the model has no use for would be taken as something else: GPT-2 looks types up as tokens.
        names = [name for name in INPUTS if name != "token_type_ids" or getattr(model.config, "type_vocab_size", 0) > 1]
        with torch.no_grad():
            theirs = model(**{name: torch.from_numpy(batch[name]) for name in names}).logits.numpy()
        if theirs.shape != batch["logits"].shape:
            check(False, f"batch {at}: logits {batch['logits'].shape}, transformers has {theirs.shape}")
            continue
        difference, size = np.abs(batch["logits"] - theirs).max(), np.abs(theirs).max()
        worst = max(worst, difference / size)
        print(f"batch {at} {list(batch['input_ids'].shape)}: max |diff| {difference:.2e}, max |logit| {size:.4f}, relative {difference / size:.2e}")
        # Written so that a NaN fails.
        check(difference / size <= args.tolerance, f"batch {at}: {difference / size:.2e} from transformers")
    print(f"transformers, {len(batches)} batches: largest relative difference {worst:.2e} (tolerance {args.tolerance:.0e})")


def check_onnx(batches):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    print("inputs", [(i.name, i.type, i.shape) for i in inputs], "outputs", [(o.name, o.type, o.shape) for o in outputs])
    names = [i.name for i in inputs]
    check(names in (INPUTS, INPUTS[:2]), f"the inputs are {names}, not {INPUTS}, the last of which may be absent")
    check(all(i.type == "tensor(int64)" for i in inputs), "an input is not int64")
    check(all(i.shape == ["batch_size", "sequence_length"] for i in inputs), "the inputs' axes are not batch_size, sequence_length")
    check([o.name for o in outputs] == ["logits"], f"the outputs are {[o.name for o in outputs]}, not ['logits']")
    worst, flipped, rows = 0.0, 0, 0
    for at, batch in enumerate(batches):
        theirs = session.run(None, {i.name: batch[i.name] for i in inputs})[0]
        difference = np.abs(batch["logits"] - theirs).max()
        worst = max(worst, difference)
        flips = int((theirs.argmax(1) != batch["logits"].argmax(1)).sum())
        flipped, rows = flipped + flips, rows + len(theirs)
        check(difference <= args.onnx_tolerance, f"batch {at}: ONNX Runtime is {difference:.2e} away")
        check(flips == 0, f"batch {at}: ONNX Runtime gives {flips} rows another class")
    print(f"ONNX Runtime, {rows} rows: largest difference {worst:.2e} (tolerance {args.onnx_tolerance:.0e}), {flipped} other classes")


batches = read_batches()
# Nothing below can run on batches of the wrong form.
if not failures:
    check_transformers(batches)
    if args.onnx:
        check_onnx(batches)
for failure in failures:
    print("FAIL", failure)
print("ok" if not failures else f"{len(failures)} failures")
sys.exit(1 if failures else 0)
