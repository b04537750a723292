"""Classify every row of a folder of Parquet files into Parquet: transformers' pipeline, or ONNX Runtime from Python when
an exported model is given, as peers of `predict`.

Both get the rows sorted by length, which is worth more than any other setting: batches have little padding then.

usage: predict.py MODEL_DIR ROWS_DIR OUT.parquet [MODEL.onnx]
"""

import json
import os
import sys
import time

model, rows, out, *onnx = sys.argv[1:]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"

import numpy as np
import pandas as pd
import pyarrow  # noqa: F401 (what pandas reads and writes Parquet with, imported here so that the clock does not see it)
from transformers import AutoTokenizer

MAX_LENGTH = 128
BATCH = 32

if onnx:
    import onnxruntime
else:
    import torch
    from transformers import AutoModelForSequenceClassification, TextClassificationPipeline

    torch.set_num_threads(os.cpu_count())


def with_onnx_runtime(texts):
    """Labels as numbers, and scores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(onnx[0], options, providers=["CPUExecutionProvider"])
    inputs = [i.name for i in session.get_inputs()]
    tokenizer = AutoTokenizer.from_pretrained(model)
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)
    order = np.argsort([len(ids) for ids in encoded["input_ids"]], kind="stable")
    logits = [None] * len(texts)
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        padded = tokenizer.pad({name: [encoded[name][row] for row in batch] for name in inputs}, return_tensors="np")
        for row, result in zip(batch, session.run(None, {name: padded[name].astype(np.int64) for name in inputs})[0]):
            logits[row] = result
    exp = np.exp(np.stack(logits) - np.max(logits, axis=1, keepdims=True))
    probabilities = exp / exp.sum(axis=1, keepdims=True)
    return probabilities.argmax(axis=1), probabilities.max(axis=1)


def with_transformers(texts):
    """Labels and scores."""
    classify = TextClassificationPipeline(
        model=AutoModelForSequenceClassification.from_pretrained(model), tokenizer=AutoTokenizer.from_pretrained(model), device="cpu"
    )
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    found = classify([texts[row] for row in order], batch_size=BATCH, truncation=True, max_length=MAX_LENGTH)
    results = [None] * len(texts)
    for row, result in zip(order, found):
        results[row] = result
    return [result["label"] for result in results], [result["score"] for result in results]


start = time.perf_counter()
texts = pd.read_parquet(rows, columns=["text"])["text"].tolist()
labels, scores = (with_onnx_runtime if onnx else with_transformers)(texts)
pd.DataFrame({"label": labels, "score": scores}).to_parquet(out, index=False)
seconds = time.perf_counter() - start
peer = "onnxruntime in Python" if onnx else "transformers pipeline"
print(json.dumps({"peer": peer, "rows": len(texts), "seconds": seconds}))
