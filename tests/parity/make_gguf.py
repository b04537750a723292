"""Makes the committed GGUF fixtures of `tests/fixtures/families`. Everything follows from fixed seeds; run again, it writes the same bytes.

usage: make_gguf.py [OUT_DIR]       (default: tests/fixtures/families)

    gguf-kinds/kinds.gguf           a tensor of random blocks of every kind that pipe reads
    gguf-kinds/kinds.f32            what the package gguf makes of them: f32, little-endian, in the order of the tensors' names
    llama-gguf/model.gguf           a tiny quantised Llama with a byte-level tokenizer, as llama.cpp's converter writes one
    llama-gguf/reference.safetensors
        batch0.{input_ids,attention_mask,token_type_ids,labels}, batch0.logits, batch0.loss, as make_families.py has them, of transformers
        with the weights that the package gguf dequantises
    llama3-gguf/                    the same in half precision with what Llama 3.1 has of its own: `rope_freqs`, its way to split, a first token
    llama-gguf/tokens.json          texts, and their ids by the tokenizer of SmolLM2: transformers' own conversion of GGUF forgets that it
                                    takes digits one by one

Last run with Python 3.11, transformers 5.23.0, torch 2.11.0, gguf 0.19.0, safetensors 0.8.0 and numpy 2.4.6.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "fixtures" / "families"
KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K]
# Where half-precision scales are in a block.
SCALES = {Kind.Q4_0: [0], Kind.Q4_1: [0, 2], Kind.Q5_0: [0], Kind.Q5_1: [0, 2], Kind.Q8_0: [0], Kind.Q4_K: [0, 2], Kind.Q5_K: [0, 2], Kind.Q6_K: [208]}
MERGES = "Ġ t|h e|Ġt he|i n|in g|Ġ a|Ġ s|e r|o n|Ġa n|Ġan d|r e|l l|Ġ h|Ġh e|Ġhe ll|Ġ 1|1 2|Ã ©|e n|Ġs ing|' s|! !|Ġ Ġ|Ċ Ċ".split("|")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
TEXTS = [
    "hello, singing the hell and 1234 12",
    "  two  spaces\n\n\nand\tlines\r\n it's THE thing!!",
    "café naïve 今天天气很好 ☕",
    "<|im_start|>user\nhell<|im_end|>the<|endoftext|>",
    "",
    "3.14 + 2,000 = ²½ ١٢",
]
# As in the tokenizer.json of Llama 3.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
HEADS, KV_HEADS, HIDDEN, WIDE, LAYERS, CONTEXT = 4, 2, 32, 64, 2, 64


def make_kinds(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(folder / "kinds.gguf", "none")
    expected = {}
    for kind in KINDS:
        values, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (4, size), np.uint8)
        scales = rng.standard_normal((4, 2)).astype(np.float16)
        for at, place in enumerate(SCALES.get(kind, [])):
            blocks[:, place : place + 2] = scales[:, at : at + 1].view(np.uint8)
        if kind in (Kind.F32, Kind.F16, Kind.BF16):
            # Random bits would be infinite now and then.
            numbers = rng.standard_normal((4, 8)).astype(np.float32)
            blocks = quants.quantize(numbers, kind) if kind != Kind.F32 else numbers
            blocks = blocks.view(np.uint8)
        expected[kind.name] = quants.dequantize(blocks.view({Kind.F32: np.float32, Kind.F16: np.float16}.get(kind, np.uint8)), kind)
        writer.add_tensor(kind.name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "kinds.f32").write_bytes(b"".join(expected[name].astype("<f4").tobytes() for name in sorted(expected)))


def permuted(weight, heads):
    """As llama.cpp's converter does to queries and keys."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def vocabulary():
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters, more = [chr(code) for code in plain], 256
    letters += [chr(more + at) for at in range(256 - len(plain))]
    return SPECIAL + letters + ["".join(merge.split()) for merge in MERGES]


def llama3_factors(theta, dim, factor):
    """What llama.cpp's converter writes as `rope_freqs`."""
    frequencies = 1.0 / theta ** (np.arange(0, dim, 2, dtype=np.float32) / dim)
    lengths = 2 * np.pi / frequencies
    smooth = (8192 / lengths - 1.0) / (4.0 - 1.0)
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(lengths < 8192 / 4, 1, np.where(lengths > 8192, factor, between)).astype(np.float32)


def make_llama(folder, llama3):
    folder.mkdir(parents=True, exist_ok=True)
    theta = 500000.0 if llama3 else 300.0
    scaling = {"rope_type": "linear", "factor": 2.0}
    if llama3:
        scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    tokens = vocabulary()
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=HIDDEN,
        intermediate_size=WIDE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_parameters=scaling | {"rope_theta": theta},
        tie_word_embeddings=True,
        pad_token_id=2,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).eval()
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(theta)
    if llama3:
        writer.add_tensor("rope_freqs.weight", llama3_factors(theta, HIDDEN // HEADS, 32.0))
    else:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(2.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe" if llama3 else "smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(llama3)
    writer.add_chat_template(TEMPLATE)

    rng = np.random.default_rng(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = rng.standard_normal(tuple(parameter.shape)).astype(np.float32)
            weight = 1 + 0.1 * noise if parameter.ndim == 1 else 0.3 * noise
            kind = Kind.F32 if parameter.ndim == 1 else Kind.Q8_0 if "embed" in name else Kind.F16 if "down" in name else Kind.Q4_1
            if llama3 and kind != Kind.F32:
                kind = Kind.BF16
            heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else None
            stored = quants.quantize(permuted(weight, heads) if heads else weight, kind)
            # Rows are whole blocks, so quantising and changing their order can change places.
            parameter.copy_(torch.from_numpy(quants.dequantize(quants.quantize(weight, kind), kind)))
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    ids = torch.from_numpy(rng.integers(3, len(tokens), (3, 8)))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    ids[1, 5:] = 2
    labels = torch.where(mask == 1, ids, -100)
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask, labels=labels)
    tensors = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids), "labels": labels}
    tensors |= {"logits": output.logits, "loss": output.loss}
    save_file({f"batch0.{name}": tensor for name, tensor in sorted(tensors.items())}, folder / "reference.safetensors", metadata={"format": "pt"})

    merges = [tuple(merge.split(" ")) for merge in MERGES]
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges))
    splits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if llama3:
        tokenizer = Tokenizer(models.BPE(tokenizer.get_vocab(False), merges, ignore_merges=True))
        splits = [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        tokenizer.post_processor = processors.TemplateProcessing("<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    cases = [{"text": text, "ids": tokenizer.encode(text).ids} for text in TEXTS]
    (folder / "tokens.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_kinds(OUT / "gguf-kinds")
    make_llama(OUT / "llama-gguf", False)
    make_llama(OUT / "llama3-gguf", True)
