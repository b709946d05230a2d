#!/usr/bin/env bash
# GGUF files of Llama models: transformers drops scaled positions and biases, and reports nothing unexpected.
#
# Expected: llama.rope.scaling.type = linear with factor 4 becomes rope_parameters with that factor, and
# blk.0.attn_q.bias, which llama.cpp adds for this architecture, becomes q_proj.bias; or, at the least,
# output_loading_info names the tensors that the model has no place for, as it does for safetensors.
# Seen: positions are the default ones, the model has no bias, and every list of the loading info is
# empty.  The tensors are dropped before they are compared with the model, and of the keys that begin
# with llama.rope only the base and the size of a head are read.
# Why it matters: files of fine-tunes to longer texts carry exactly these keys.  The model that is
# measured is another one than llama.cpp runs from the same file, and the usual way to find out, the
# loading info, says that all is well.  Tensor names and keys have to be compared with the file itself.
#
# transformers 5.23.0, gguf 0.19.0, torch 2.13.0, accelerate 1.15.0; 2026-11-30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 gguf==0.19.0 \
  accelerate==1.15.0 numpy==2.4.6
cd "$work"
cat > drop.py <<'PYTHON'
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

HIDDEN, WIDE, HEADS, TOKENS = 64, 96, 4, 32
drawn = np.random.default_rng(0)


def matrix(rows: int, columns: int) -> np.ndarray:
    return (drawn.standard_normal((rows, columns)) / columns**0.5).astype(np.float32)


def write(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(TOKENS)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(64)
    writer.add_tensor("token_embd.weight", matrix(TOKENS, HIDDEN))
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    writer.add_tensor("output.weight", matrix(TOKENS, HIDDEN))
    for name, rows, columns in (
        ("attn_q", HIDDEN, HIDDEN),
        ("attn_k", HIDDEN, HIDDEN),
        ("attn_v", HIDDEN, HIDDEN),
        ("attn_output", HIDDEN, HIDDEN),
        ("ffn_gate", WIDE, HIDDEN),
        ("ffn_up", WIDE, HIDDEN),
        ("ffn_down", HIDDEN, WIDE),
    ):
        writer.add_tensor(f"blk.0.{name}.weight", matrix(rows, columns))
    for name in ("attn_q", "attn_k", "attn_v"):
        writer.add_tensor(f"blk.0.{name}.bias", np.ones(HIDDEN, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


write(Path("model.gguf"))
model, info = transformers.AutoModelForCausalLM.from_pretrained(
    ".", gguf_file="model.gguf", dtype=torch.float32, output_loading_info=True
)
rope = model.config.rope_parameters
biases = [name for name, _ in model.named_parameters() if name.endswith("bias")]
said = {name: found for name, found in info.items() if found}
print(f"transformers {version('transformers')}, gguf {version('gguf')}")
print("in the file: linear scaling of positions by 4, biases of q, k and v")
print(f"in the model: {rope}, biases {biases}; loading info: {said}")
assert (rope["rope_type"], biases, said) == ("default", [], {}), "this has changed"
PYTHON
"$work/venv/bin/python" drop.py
