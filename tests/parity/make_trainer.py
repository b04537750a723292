"""Makes the committed references of the trainer beside this file. Everything follows from fixed seeds.

usage: make_trainer.py [OUT_DIR]       (default: the folder of this file)

    schedules.reference.json   every learning-rate schedule of transformers' get_scheduler, step by step, and what torch's
                               ReduceLROnPlateau makes of made-up measures
    trainer.reference.json     ten steps of transformers' Trainer on tests/fixtures/tiny-bert-cls and the batches of
                               tests/fixtures/adamw.reference.safetensors, for each optimizer and schedule: loss, grad_norm
                               (before clipping) and learning rate per step
    adamw8bit.reference.json   five steps of AdamW with bitsandbytes' tables of 8-bit numbers, on values that a formula gives

Last run with Python 3.11, transformers 5.23.0, accelerate 1.15.0, bitsandbytes 0.50.2 and torch 2.11.0 on one thread of an
x86-64 CPU.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import bitsandbytes
import torch
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments, get_scheduler

HERE = Path(__file__).parent
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
FIXTURES = HERE.parent / "fixtures"
PEAK = 1e-3


def write(name, value):
    """One line per case, so that a diff can be read."""
    lines = []
    for key, cases in value.items():
        lines.append(f"  {json.dumps(key)}: [\n" + ",\n".join("    " + json.dumps(case) for case in cases) + "\n  ]")
    (OUT / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


# ---- schedules ----------------------------------------------------------------------------------------------------

SCHEDULES = [
    ("linear", {}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {}),
    ("polynomial", {"power": 2.0, "lr_end": 1e-5}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 20}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_with_min_lr", {"min_lr": 2e-4, "num_cycles": 1.0}),
    ("warmup_stable_decay", {"num_decay_steps": 12}),
    ("warmup_stable_decay", {"num_decay_steps": 10, "num_stable_steps": 8, "warmup_type": "cosine", "decay_type": "linear", "min_lr_ratio": 0.05}),
    ("warmup_stable_decay", {"num_decay_steps": 15, "warmup_type": "1-sqrt", "decay_type": "1-sqrt"}),
]


def one_parameter():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)


def schedule_cases():
    for name, kwargs in SCHEDULES:
        for warmup in (0, 6):
            total = 40
            optimizer = one_parameter()
            scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total, scheduler_specific_kwargs=dict(kwargs))
            rates = []
            for _ in range(total):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            settings = {"lr_scheduler_type": name, "lr_scheduler_kwargs": kwargs, "warmup_steps": warmup, "learning_rate": PEAK}
            yield {"settings": settings, "total": total, "rates": rates}


def plateau_cases():
    falling = [1.0, 0.9, 0.89, 0.8899, 0.8899, 0.95, 0.88, 0.88, 0.88, 0.88, 0.87, 0.87, 0.87, 0.87, 0.87, 0.87, 0.87, 0.87]
    for greater, kwargs in [
        (False, {"patience": 1}),
        (False, {"patience": 2, "factor": 0.5, "threshold": 0.01, "threshold_mode": "abs"}),
        (False, {"patience": 0, "factor": 0.3, "cooldown": 2, "min_lr": 1e-4}),
        (True, {"patience": 1, "factor": 0.5, "threshold": 0.05}),
        (True, {"patience": 1, "factor": 0.5, "threshold": 0.02, "threshold_mode": "abs"}),
        (False, {"patience": 0, "eps": 5e-4}),
    ]:
        optimizer = one_parameter()
        scheduler = get_scheduler("reduce_lr_on_plateau", optimizer, scheduler_specific_kwargs={"mode": "max" if greater else "min"} | kwargs)
        values = [2 - value for value in falling] if greater else falling
        rates = []
        for value in values:
            scheduler.step(value)
            rates.append(optimizer.param_groups[0]["lr"])
        settings = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": kwargs, "learning_rate": PEAK, "greater_is_better": greater}
        yield {"settings": settings, "values": values, "rates": rates}


# ---- the Trainer --------------------------------------------------------------------------------------------------


class Recorder(TrainerCallback):
    """The learning rate that each step uses; the Trainer's own log rounds."""

    def __init__(self):
        self.rates = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        rates = {group["lr"] for group in optimizer.param_groups}
        assert len(rates) == 1
        self.rates.append(rates.pop())


class RecordingTrainer(Trainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.losses = []

    def compute_loss(self, model, *args, **kwargs):
        loss = super().compute_loss(model, *args, **kwargs)
        if model.training:
            self.losses.append((loss[0] if isinstance(loss, tuple) else loss).item())
        return loss


def batches():
    reference = load_file(FIXTURES / "adamw.reference.safetensors")
    names = ("input_ids", "attention_mask", "token_type_ids", "labels")
    return [{name: reference[f"step{step}.{name}"] for name in names} for step in range(10)]


COMMON = {"learning_rate": PEAK, "weight_decay": 0.01, "max_steps": 10}
TRAININGS = [
    {"optim": "adamw_torch", "warmup_steps": 3},
    {"optim": "adamw_torch_fused", "warmup_steps": 0.2, "adam_beta1": 0.8, "adam_beta2": 0.99, "adam_epsilon": 1e-6},
    {"optim": "adamw_torch", "max_grad_norm": 0.5, "label_smoothing_factor": 0.1},
    {"optim": "adafactor", "warmup_steps": 3},
    {"optim": "adafactor", "max_grad_norm": 0.0},
    {"optim": "sgd", "learning_rate": 0.05},
    {"optim": "sgd", "learning_rate": 0.02, "optim_args": "momentum=0.9,nesterov=True"},
    {"optim": "sgd", "learning_rate": 0.02, "optim_args": "momentum=0.8,dampening=0.3", "weight_decay": 0.1},
    {"optim": "lion_32bit", "learning_rate": 1e-4, "warmup_steps": 2, "adam_beta2": 0.99},
] + [
    {"lr_scheduler_type": name, "warmup_steps": 2, "lr_scheduler_kwargs": kwargs}
    for name, kwargs in [
        ("constant", {}),
        ("constant_with_warmup", {}),
        ("cosine", {}),
        ("cosine_with_restarts", {"num_cycles": 2}),
        ("polynomial", {"power": 2.0}),
        ("inverse_sqrt", {}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 4}),
    ]
] + [{"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5, "threshold": 0.01}, "eval_strategy": "steps", "eval_steps": 1}]


def training(settings):
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(FIXTURES / "tiny-bert-cls", attn_implementation="eager")
    settings = COMMON | settings
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = RecordingTrainer(
            model=model,
            # One "row" of this data set is a whole batch, so that the batches are the same for everyone.
            train_dataset=batches(),
            eval_dataset=batches()[:1],
            data_collator=lambda rows: rows[0],
            args=TrainingArguments(
                output_dir=scratch,
                per_device_train_batch_size=1,
                per_device_eval_batch_size=1,
                train_sampling_strategy="sequential",
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
    return {"settings": settings, "steps": steps}


# ---- 8-bit AdamW --------------------------------------------------------------------------------------------------


def numbers(count, seed):
    """Between -1 and 1, exact in f32, some of them far smaller than others."""
    at = torch.arange(count, dtype=torch.int64)
    value = ((at * 7919 + seed * 104729) % 1024 - 512).to(torch.float32) / 512
    return value / torch.where(at % 5 == 0, 64.0, 1.0)


def through_8_bits(values, table, block=256):
    """What is left of values by bitsandbytes' default backend. The one for CPUs misses the nearest value of the table at times."""
    blocks = torch.nn.functional.pad(values, (0, -len(values) % block)).view(-1, block)
    largest = blocks.abs().amax(1, keepdim=True).clamp(min=1e-38)
    codes = torch.bucketize(blocks / largest, (table[:-1] + table[1:]) / 2)
    return (table[codes] * largest).view(-1)[: len(values)]


def eight_bits():
    """AdamW whose moments go through 8 bits after every step. The numbers are no multiple of the block of 256."""
    count, steps, rate, decay, beta1, beta2 = 4196, 5, 0.01, 0.01, 0.9, 0.999
    weights, first, second = numbers(count, 0), torch.zeros(count), torch.zeros(count)
    for step in range(1, steps + 1):
        gradient = numbers(count, step)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        scale = second.sqrt() / (1 - beta2**step) ** 0.5 + 1e-8
        weights = weights * (1 - rate * decay) - rate / (1 - beta1**step) * first / scale
        first = through_8_bits(first, bitsandbytes.functional.create_dynamic_map(signed=True))
        second = through_8_bits(second, bitsandbytes.functional.create_dynamic_map(signed=False))
    settings = {"learning_rate": rate, "weight_decay": decay}
    yield {"settings": settings, "count": count, "steps": steps, "every": 13, "weights": weights[::13].tolist()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("schedules.reference.json", {"schedules": list(schedule_cases()), "plateaus": list(plateau_cases())})
    write("trainer.reference.json", {"trainings": [training(settings) for settings in TRAININGS]})
    write("adamw8bit.reference.json", {"cases": list(eight_bits())})
