"""Tokenize every row of a folder of Parquet files into Parquet: Hugging Face datasets as the peer of `tokenize`.

usage: tokenize_rows.py MODEL_DIR ROWS_DIR OUT.parquet

(Not `tokenize.py`: a module of that name would hide that of the standard library from every script beside it.)
"""

import glob
import json
import os
import sys
import time

model, rows, out = sys.argv[1:]
processes = os.cpu_count()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
# Every process is on a core of its own already.
os.environ["TOKENIZERS_PARALLELISM"] = "true" if processes == 1 else "false"

import datasets
from transformers import AutoTokenizer

# A result of the round before would be reused otherwise.
datasets.disable_caching()
start = time.perf_counter()
files = sorted(glob.glob(os.path.join(rows, "*", "*.parquet")))
data = datasets.load_dataset("parquet", data_files=files, columns=["text"], split="train", cache_dir=out + ".cache")
tokenizer = AutoTokenizer.from_pretrained(model)
data = data.map(
    lambda batch: tokenizer(batch["text"], truncation=True, max_length=128),
    batched=True,
    num_proc=processes if processes > 1 else None,
    remove_columns=["text"],
)
data.to_parquet(out)
seconds = time.perf_counter() - start
print(json.dumps({"peer": "datasets", "rows": len(data), "seconds": seconds}))
