#!/usr/bin/env bash
# transformers 4.56.0, Llama 4: what it says of a text depends on tokens that come later.
#
# Expected: a decoder is causal. With the last token of a text exchanged, all logits before it stay as they are.
# Seen: they move. Every expert is given all tokens, one expert after the other (hidden.repeat(experts, 1)),
# but the router's scores lie token after token, and are laid over them without a transpose: an expert
# weighs one token with the score of another, which may come later. So no score of a text is right, be it
# causal or not; 4.57.1 and 5.23.0 are causal.
# Why it matters: perplexity and multiple choice of these models are of another function than the one that was
# trained, and greedy decoding, which never sees later tokens, is of a third one. A sparse model that is
# compared with the dense one in the same version inherits the leak, so that no comparison shows it: a
# check that exchanges one token does. Here the model is small and random; the code is that of any size.
#
# transformers 4.56.0 and 4.57.1, torch 2.13.0; 2026-11-30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/causal.py" <<'PYTHON'
import sys

import torch
import transformers

torch.manual_seed(0)
config = transformers.Llama4TextConfig(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=64,
    intermediate_size_mlp=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    num_local_experts=4,
    num_experts_per_tok=1,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
model = transformers.Llama4ForCausalLM(config).eval()
text = torch.randint(3, 256, (1, 16))
other = text.clone()
other[0, -1] = 3 + (int(text[0, -1]) + 7) % 250
with torch.inference_mode():
    one, two = (model(input_ids=ids).logits.log_softmax(-1)[0, :-1] for ids in (text, other))
moved = (one - two).abs().max().item()
print(f"transformers {transformers.__version__}: the last of 16 tokens moves log-probabilities before it by {moved:.2g}")
assert (moved > 1e-3) == (sys.argv[1] == "leaks"), "this has changed"
PYTHON
for of in "4.56.0 leaks" "4.57.1 causal"; do
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.5 "transformers==${of% *}"
    "$work/venv/bin/python" "$work/causal.py" "${of#* }"
    rm -rf "$work/venv"
done
