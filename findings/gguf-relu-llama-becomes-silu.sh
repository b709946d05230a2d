#!/usr/bin/env bash
# A Llama that was trained with ReLU comes back from a GGUF file as a SiLU model.
#
# Expected: a model that is written to GGUF with all keys that the format has for its architecture
# and read again by transformers gives the same logits, or the reader says what it assumes.
# Seen: GGUF has no key for the activation of an MLP.  transformers computes SiLU for every file of
# the architecture "llama", without a word; hidden_act="relu" of the original is lost.
# Why it matters: ReLU Llamas (ReLULLaMA, ProSparse and their like) are made for their zeros.  Read
# so, none of their neurons is 0, and what is measured about sparsity is about another model.
#
# transformers 5.23.0, gguf 0.19.0, torch 2.13.0, accelerate 1.15.0, numpy 2.4.6; 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 gguf==0.19.0 \
    accelerate==1.15.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import gguf
import torch
import transformers

torch.manual_seed(0)
HEADS, WIDTH = 4, 64
config = transformers.LlamaConfig(
    vocab_size=96, hidden_size=WIDTH, intermediate_size=160, num_hidden_layers=2,
    num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=64,
    hidden_act="relu", tie_word_embeddings=False, initializer_range=0.2,
)
model = transformers.LlamaForCausalLM(config).eval()


def permuted(weight):
    """Rows of q and k as llama.cpp's converter orders them."""
    return weight.view(HEADS, 2, WIDTH // HEADS // 2, WIDTH).swapaxes(1, 2).reshape(WIDTH, WIDTH)


writer = gguf.GGUFWriter("model.gguf", "llama")
writer.add_context_length(64)
writer.add_embedding_length(WIDTH)
writer.add_block_count(2)
writer.add_feed_forward_length(160)
writer.add_head_count(HEADS)
writer.add_head_count_kv(HEADS)
writer.add_layer_norm_rms_eps(config.rms_norm_eps)
writer.add_rope_dimension_count(WIDTH // HEADS)
writer.add_vocab_size(96)
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
for name, tensor in model.state_dict().items():
    if "q_proj" in name or "k_proj" in name:
        tensor = permuted(tensor)
    writer.add_tensor(names.get_name(name, (".weight",)), tensor.contiguous().numpy())
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

read = transformers.AutoModelForCausalLM.from_pretrained(
    ".", gguf_file="model.gguf", dtype=torch.float32
).eval()
tokens = torch.arange(1, 33)[None]


def off(other):
    """The largest difference from the original's logits."""
    with torch.no_grad():
        return float((other(tokens).logits - model(tokens).logits).abs().max())


as_read = off(read)
for layer in read.model.layers:
    layer.mlp.act_fn = torch.nn.ReLU()
print(f"hidden_act: {config.hidden_act} before, {read.config.hidden_act} after")
print(f"logits differ by {as_read:.3f} as read, and by {off(read):.1e} with ReLU put back")
assert (read.config.hidden_act, as_read > 0.1, off(read) < 1e-3) == ("silu", True, True), (
    "this has changed"
)
PYTHON
