"""Compares what `predict` wrote with transformers on the same texts.

usage: check_predictions.py MODEL_DIR PREDICTIONS.parquet INPUT.parquet [--max-length N] [--margin 1e-3]

MODEL_DIR is the trained model's folder. PREDICTIONS has id, label, score and a prob_<label> per class; INPUT (a file, or
a folder that is searched for *.parquet) has id and text, scrubbed as the model saw it, and perhaps text_pair. Texts are
cut as `tokenize` in MODEL_DIR/pipe.json says, else at 128 tokens. Exits with 1 where a label differs on a row whose two
best classes are further apart than the margin, or where PREDICTIONS does not agree with itself or with INPUT's rows.
Names rows by their id; no text is printed.
"""

import argparse
import json
import os
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("model_dir", type=Path)
parser.add_argument("predictions", type=Path)
parser.add_argument("input", type=Path)
parser.add_argument("--max-length", type=int)
parser.add_argument("--margin", type=float, default=1e-3)
args = parser.parse_args()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

torch.set_num_threads(1)
BATCH = 32


def read(path):
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        sys.exit(f"{path} holds no *.parquet")
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def theirs(rows, settings):
    """Class names, and probabilities [rows, classes]."""
    tokenizer = AutoTokenizer.from_pretrained(args.model_dir)
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        args.model_dir, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    if loading["missing_keys"]:
        sys.exit(f"{args.model_dir} lacks {sorted(loading['missing_keys'])}")
    model.eval()
    columns = [rows[name].tolist() for name in ("text", "text_pair") if name in rows]
    truncation = settings.get("truncation", "longest_first")
    encoded = tokenizer(*columns, truncation=truncation, max_length=args.max_length or settings.get("max_length") or 128)
    order = np.argsort([len(ids) for ids in encoded["input_ids"]], kind="stable")
    probabilities = np.zeros((len(rows), model.config.num_labels))
    for first in range(0, len(order), BATCH):
        picked = order[first : first + BATCH]
        inputs = tokenizer.pad({name: [values[row] for row in picked] for name, values in encoded.items()}, return_tensors="pt")
        with torch.no_grad():
            probabilities[picked] = torch.softmax(model(**inputs).logits.double(), -1).numpy()
    return [model.config.id2label[i] for i in range(model.config.num_labels)], probabilities


failures = []
settings_file = args.model_dir / "pipe.json"
settings = json.loads(settings_file.read_text())["tokenize"] if settings_file.is_file() else {}
predictions, rows = read(args.predictions), read(args.input)
if not rows["id"].is_unique:
    sys.exit(f"{args.input}: {int(rows['id'].duplicated().sum())} ids occur more than once")
if len(predictions) != len(rows) or set(predictions["id"]) != set(rows["id"]):
    sys.exit(f"{len(predictions)} predictions for {len(rows)} rows, {len(set(predictions['id']) & set(rows['id']))} ids in both")
if predictions["id"].tolist() != rows["id"].tolist():
    failures.append("the predictions are not in the order of the input")
    predictions = predictions.set_index("id").loc[rows["id"]].reset_index()

labels, expected = theirs(rows, settings)
columns = [name for name in predictions if name.startswith("prob_")]
if columns != [f"prob_{label}" for label in labels]:
    sys.exit(f"the columns are {columns}, the model's classes {labels}")
ours = predictions[columns].to_numpy(dtype=np.float64)
found = np.array([labels.index(label) if label in labels else -1 for label in predictions["label"]])
for ok, what in [
    (np.isfinite(ours).all(), "a probability is not finite"),
    (np.abs(ours.sum(1) - 1).max() < 1e-5, "the probabilities of a row do not add up to 1"),
    (np.array_equal(found, ours.argmax(1)), "a label is not the one with the highest probability"),
    (np.abs(predictions["score"].to_numpy() - ours.max(1)).max() < 1e-6, "a score is not the label's probability"),
]:
    if not ok:
        failures.append(what)

best = np.sort(expected, 1)
margin = best[:, -1] - best[:, -2]
differs = found != expected.argmax(1)
clear = differs & (margin > args.margin)
difference = np.abs(ours - expected).max()
print(f"{len(rows)} rows: {1 - differs.mean():.4%} equal labels, largest difference of a probability {difference:.2e}")
if clear.any():
    ids = rows["id"][clear].tolist()
    failures.append(f"{len(ids)} rows with a clear class have another label: {', '.join(map(str, ids[:5]))}{', …' if len(ids) > 5 else ''}")
for failure in failures:
    print("FAIL", failure)
print("ok" if not failures else f"{len(failures)} failures")
sys.exit(1 if failures else 0)
