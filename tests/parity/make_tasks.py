"""Makes the committed fixtures of `tests/fixtures/tasks`: tiny random models with the head of each task, what transformers computes
with them, and ten steps of its Trainer. Everything follows from fixed seeds; run again, it writes the same bytes.

usage: make_tasks.py [OUT_DIR]       (default: tests/fixtures/tasks)

    {family}/base.safetensors
        the weights that the family's models share, by the names of its token classifier
    {family}/{task}.json
        config.json
    {family}/{task}.safetensors
        weight.<parameter>  f32, what the model has beside the base: its head. Llama and Qwen2 call the base `transformer.` where
                            they answer questions, and `model.` elsewhere
        batch0.{input_ids,attention_mask,token_type_ids}  int64 [4, 9], padded on the right to mixed lengths
        batch1.{input_ids,attention_mask,token_type_ids}  int64 [3, 7], padded on the left, but for answers on the right
        batch{i}.labels     int64 [B, L] classes of tokens, or tokens of texts whose first half is a prompt, -100 for none; [B, 2] ends
                            of answers; f32 [B, 3] flags; [B] numbers
        batch{i}.logits     f32 [B, C] or [B, L, C], from eager attention in eval mode; of answers both ends: [B, L, 2]
        batch{i}.loss       f32 [], as the model gives it; of answers the mean over its rows, each alone: transformers counts padding among
                            the places where an answer could end
        dropout.logits      f32, as batch0.logits, in training mode with every rate at 0.2 and the generator seeded with 7
        grad.<parameter>    f32, the gradient of batch0.loss + batch1.loss, for every parameter of the model
    trainings.json
        ten steps of the Trainer from some of these models, on batch0 and batch1 in turn, or for answers on their seven rows: loss,
        grad_norm (before clipping) and lr

Last run with Python 3.11, transformers 5.23.0, accelerate 1.15.0, torch 2.11.0, safetensors 0.8.0 and numpy 2.4.6 on one thread of an
x86-64 CPU. All weights come from numpy, so other versions make the same models; the references may then differ in the last bits.
"""

import json
import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, Trainer, TrainerCallback, TrainingArguments

OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "fixtures" / "tasks"
TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
FLAGS = ["late", "rude", "lost"]
# Large weights: logits of a size that makes a comparison mean something.
COMMON = {"vocab_size": 30, "initializer_range": 0.4}
SHAPE = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
BERT = COMMON | SHAPE | {"max_position_embeddings": 16, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LLAMA = COMMON | SHAPE | {"num_key_value_heads": 1, "max_position_embeddings": 32, "pad_token_id": 3, "classifier_dropout": 0.0}
FAMILIES = {
    "bert": BERT | {"model_type": "bert", "type_vocab_size": 2, "pad_token_id": 0},
    "roberta": BERT | {"model_type": "roberta", "type_vocab_size": 1, "pad_token_id": 1},
    "distilbert": COMMON
    | {"model_type": "distilbert", "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 16}
    | {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0},
    "gpt2": COMMON
    | {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 12, "n_positions": 16, "pad_token_id": 5}
    | {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0, "classifier_dropout": 0.0},
    "llama": LLAMA | {"model_type": "llama", "rope_theta": 100.0},
    "mistral": LLAMA | {"model_type": "mistral", "sliding_window": 3, "rope_theta": 1000.0},
    "qwen2": LLAMA | {"model_type": "qwen2", "rope_theta": 200.0},
}
# The rates of dropout, by the family whose code has them; see make_families.py for encoders that classify rows.
RATES = {
    "bert": ["hidden_dropout_prob", "attention_probs_dropout_prob"],
    "distilbert": ["dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout"],
    "gpt2": ["embd_pdrop", "resid_pdrop", "attn_pdrop", "classifier_dropout"],
    "llama": ["attention_dropout", "classifier_dropout"],
}
CODE = {"roberta": "bert", "mistral": "llama", "qwen2": "llama"}
NAMES = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert", "gpt2": "GPT2", "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}
PREFIXES = {"bert": "bert.", "roberta": "roberta.", "distilbert": "distilbert.", "gpt2": "transformer."}
# What transformers' classes end in, and the families that are compared.
TASKS = {
    "token-classification": ("ForTokenClassification", list(FAMILIES)),
    "question-answering": ("ForQuestionAnswering", list(FAMILIES)),
    "multi-label-classification": ("ForSequenceClassification", ["bert", "llama"]),
    "regression": ("ForSequenceClassification", ["bert", "gpt2"]),
    "causal-lm": ("ForCausalLM", ["gpt2", "llama", "qwen2"]),
}
TRAININGS = [
    ("bert", "token-classification"),
    ("bert", "question-answering"),
    ("bert", "multi-label-classification"),
    ("bert", "regression"),
    ("gpt2", "causal-lm"),
    ("llama", "causal-lm"),
    ("llama", "token-classification"),
]


def labels_of(names):
    return {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {name: i for i, name in enumerate(names)}}


def config_of(family, task):
    raw = dict(FAMILIES[family])
    if task == "token-classification":
        raw |= labels_of(TAGS)
    if task == "multi-label-classification":
        raw |= labels_of(FLAGS) | {"problem_type": "multi_label_classification"}
    if task == "regression":
        raw |= labels_of(["LABEL_0"]) | {"problem_type": "regression"}
    if task == "causal-lm":
        # GPT-2's are tied where nothing is said.
        raw |= {} if family == "gpt2" else {"tie_word_embeddings": family == "llama"}
    suffix = TASKS[task][0]
    raw["architectures"] = ["GPT2LMHeadModel" if (family, task) == ("gpt2", "causal-lm") else NAMES[family] + suffix]
    return raw


def shared_name(family, name):
    """By which a parameter is known in every task."""
    return name.replace("transformer.", "model.", 1) if CODE.get(family, family) == "llama" else name


def model_of(family, task, raw):
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "config.json").write_text(json.dumps(raw))
        config = AutoConfig.from_pretrained(scratch)
    model = getattr(transformers, raw["architectures"][0])._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            known = shared_name(family, name)
            is_base = known.startswith(PREFIXES.get(family, "model."))
            # Each from its own name, so that models of a family share their base.
            seed = zlib.crc32(f"{family} {known}{'' if is_base else ' ' + task}".encode())
            noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(parameter.shape)).astype(np.float32))
            if parameter.ndim == 2:
                parameter.copy_(model.config.initializer_range * noise)
            else:
                parameter.copy_((1.0 if name.endswith("weight") and is_base else 0.0) + 0.1 * noise)
    return model.eval()


def labels(rng, task, ids, lengths, parts):
    if task == "multi-label-classification":
        return rng.integers(0, 2, (len(lengths), len(FLAGS))).astype(np.float32)
    if task == "regression":
        return rng.standard_normal(len(lengths)).astype(np.float32)
    if task == "question-answering":
        ends = [sorted(rng.integers(0, length, 2)) for length in lengths]
        return np.array(ends, np.int64)
    wanted = np.full(ids.shape, -100, np.int64)
    for row, (length, part) in enumerate(zip(lengths, parts)):
        if task == "causal-lm":
            answer = slice(part.start + length // 2, part.stop)
            wanted[row, answer] = ids[row, answer]
        else:
            # Some are the further tokens of a word, or special.
            wanted[row, part] = np.where(rng.random(length) < 0.7, rng.integers(0, len(TAGS), length), -100)
    return wanted


def batch(rng, task, config, lengths, width, left):
    shape = (len(lengths), width)
    padding = config.pad_token_id or 0
    ids, mask, types = np.full(shape, padding, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    parts = [slice(width - length, width) if left else slice(0, length) for length in lengths]
    for row, (length, part) in enumerate(zip(lengths, parts)):
        tokens = rng.integers(0, config.vocab_size - 1, length)
        ids[row, part] = tokens + (tokens >= padding)
        mask[row, part] = 1
        if getattr(config, "type_vocab_size", 0) > 1:
            types[row, part] = np.arange(length) >= length // 2
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "labels": labels(rng, task, ids, lengths, parts)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def accepted(inputs, task, config):
    """As the model's forward wants it."""
    given = {key: value for key, value in inputs.items() if key != "token_type_ids" or getattr(config, "type_vocab_size", 0) > 1}
    if task == "question-answering":
        ends = given.pop("labels")
        given |= {"start_positions": ends[:, 0], "end_positions": ends[:, 1]}
    return given


def logits_of(output, task):
    return torch.stack([output.start_logits, output.end_logits], -1) if task == "question-answering" else output.logits


HEAD_RATES = {"bert": ["classifier_dropout"], "distilbert": ["seq_classif_dropout"]}


def with_dropout(family, task, raw, model, inputs):
    code = CODE.get(family, family)
    classifies_rows = code in HEAD_RATES and task in ("multi-label-classification", "regression")
    rates = (HEAD_RATES if classifies_rows else RATES)[code]
    dropping = model_of(family, task, raw | {rate: 0.2 for rate in rates}).train()
    dropping.load_state_dict(model.state_dict())
    torch.manual_seed(7)
    with torch.no_grad():
        return logits_of(dropping(**inputs), task)


def make(family, task):
    raw = config_of(family, task)
    model = model_of(family, task, raw)
    rng = np.random.default_rng(zlib.crc32(f"{family} {task} rows".encode()))
    tensors, total, batches = {}, 0.0, []
    for at, (lengths, width, left) in enumerate([([9, 6, 2, 7], 9, False), ([7, 4, 1], 7, task != "question-answering")]):
        inputs = batch(rng, task, model.config, lengths, width, left)
        whole = accepted(inputs, task, model.config)
        output = model(**whole)
        if task == "question-answering":
            rows = [{key: value[row : row + 1] if value.ndim == 1 else value[row : row + 1, :length] for key, value in whole.items()} for row, length in enumerate(lengths)]
            loss = torch.stack([model(**row).loss for row in rows]).mean()
            batches += rows
        else:
            loss = output.loss
            batches.append(whole)
        total = total + loss
        tensors |= {f"batch{at}.{key}": tensor for key, tensor in inputs.items()}
        tensors |= {f"batch{at}.logits": logits_of(output, task).detach(), f"batch{at}.loss": loss.detach()}
        if at == 0:
            tensors["dropout.logits"] = with_dropout(family, task, raw, model, whole)
    total.backward()
    tensors |= {f"grad.{key}": parameter.grad for key, parameter in model.named_parameters()}
    prefix = PREFIXES.get(family, "model.")
    base = {}
    for name, parameter in model.named_parameters():
        known = shared_name(family, name)
        if known.startswith(prefix) and ".pooler." not in known:
            base[known] = parameter.detach()
        else:
            tensors[f"weight.{name}"] = parameter.detach()
    folder = OUT / family
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{task}.json").write_text(json.dumps(raw, indent=2) + "\n")
    save(folder / f"{task}.safetensors", tensors)
    if task == "token-classification":
        save(folder / "base.safetensors", base)
    model.zero_grad()
    return model, batches


def save(path, tensors):
    save_file({key: tensors[key].clone().contiguous() for key in sorted(tensors)}, path, metadata={"format": "pt"})


class Recorder(TrainerCallback):
    """The learning rate that each step uses; the Trainer's own log rounds."""

    def __init__(self):
        self.rates = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append(optimizer.param_groups[0]["lr"])


class RecordingTrainer(Trainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.losses = []

    def compute_loss(self, model, *args, **kwargs):
        loss = super().compute_loss(model, *args, **kwargs)
        self.losses.append(loss.item())
        return loss


def training(family, task, model, batches):
    settings = {"learning_rate": 1e-2, "weight_decay": 0.01, "max_steps": 10, "warmup_steps": 2}
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = RecordingTrainer(
            model=model,
            # One "row" of this data set is a whole batch.
            train_dataset=(batches * 5)[:10],
            data_collator=lambda rows: rows[0],
            args=TrainingArguments(
                output_dir=scratch,
                per_device_train_batch_size=1,
                train_sampling_strategy="sequential",
                optim="adamw_torch",
                logging_steps=1,
                logging_nan_inf_filter=False,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                dataloader_pin_memory=False,
                **settings,
            ),
            callbacks=[recorder],
        )
        trainer.train()
    norms = [float(row["grad_norm"]) for row in trainer.state.log_history if "grad_norm" in row]
    assert len(norms) == len(recorder.rates) == len(trainer.losses) == 10
    steps = [{"loss": loss, "grad_norm": norm, "lr": rate} for loss, norm, rate in zip(trainer.losses, norms, recorder.rates)]
    return {"family": family, "task": task, "settings": settings, "steps": steps}


if __name__ == "__main__":
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    made = {(family, task): make(family, task) for task, (_, families) in TASKS.items() for family in families}
    lines = ",\n".join("    " + json.dumps(training(family, task, *made[family, task])) for family, task in TRAININGS)
    (OUT / "trainings.json").write_text('{\n  "trainings": [\n' + lines + "\n  ]\n}\n")
