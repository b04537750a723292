"""Fine-tune a sequence classifier with the settings of pipelines/classify.yaml: transformers' Trainer as the peer of `train`.

The Trainer is on the best settings that it has for this: dynamic padding, batches grouped by length, no evaluation or
checkpoint while the clock runs. Afterwards the model is evaluated on the test split and saved for predict.py.

usage: trainer.py MODEL_DIR TRAIN_DIR TEST_DIR OUT_DIR
"""

import json
import os
import sys

model, train, test, out = sys.argv[1:]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

MAX_TRAIN_SAMPLES = 3200
SEED = 42

torch.set_num_threads(os.cpu_count())
tokenizer = AutoTokenizer.from_pretrained(model)
rows = pd.read_parquet(train, columns=["text", "label"])
labels = sorted(rows["label"].unique())


def tokenized(frame):
    encoded = tokenizer(frame["text"].tolist(), truncation=True, max_length=128)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict({**encoded, "labels": [labels.index(label) for label in frame["label"]], "length": lengths})


def accuracy(prediction):
    return {"accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}


trainer = Trainer(
    model=AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=len(labels), id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}
    ),
    args=TrainingArguments(
        output_dir=out,
        learning_rate=5e-5,
        num_train_epochs=1,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        per_device_eval_batch_size=64,
        train_sampling_strategy="group_by_length",
        eval_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        # As `device: auto` decides.
        use_cpu=not torch.cuda.is_available(),
        seed=SEED,
    ),
    train_dataset=tokenized(rows.sample(min(MAX_TRAIN_SAMPLES, len(rows)), random_state=SEED)),
    eval_dataset=tokenized(pd.read_parquet(test, columns=["text", "label"])),
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=accuracy,
)
seconds = trainer.train().metrics["train_runtime"]
evaluated = trainer.evaluate()
trainer.save_model(out)
tokenizer.save_pretrained(out)
result = {"peer": "transformers Trainer", "rows": len(trainer.train_dataset), "seconds": seconds, "accuracy": evaluated["eval_accuracy"]}
print(json.dumps(result))
