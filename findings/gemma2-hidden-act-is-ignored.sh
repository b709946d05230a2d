#!/usr/bin/env bash
# A Gemma 2 or Gemma 3 with hidden_act="relu" computes GELU.
#
# Expected: the configuration of a model takes hidden_act, keeps it and writes it to config.json, so
# the model computes with it, as Gemma 1 with the same argument does; or the argument is refused.
# Seen: Gemma 1 computes ReLU.  Gemma 2 and Gemma 3 keep hidden_act="relu", save it, load it again, and
# compute GELU: only hidden_activation is read, whose default stays beside it in the file.
# Why it matters: who turns Gemma into a ReLU model, for its zeros, sets hidden_act as for Llama,
# OPT or Mistral.  Training and every measurement of sparsity then go on with GELU, without a word.
#
# transformers 5.23.0, torch 2.13.0, numpy 2.4.6; 2026-11-29.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import json
import tempfile

import torch
import transformers

SIZES = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, head_dim=16, hidden_act="relu",
)
seen = {}
for family, config, model in (
    ("Gemma 1", transformers.GemmaConfig, transformers.GemmaForCausalLM),
    ("Gemma 2", transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    ("Gemma 3", transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
):
    with tempfile.TemporaryDirectory() as folder:
        model(config(**SIZES)).save_pretrained(folder)
        with open(f"{folder}/config.json") as stream:
            saved = {k: v for k, v in json.load(stream).items() if "act" in k}
        loaded = model.from_pretrained(folder)
    down = []
    mlp = loaded.model.layers[0].mlp
    mlp.down_proj.register_forward_pre_hook(lambda _, args: down.append(args[0]))
    with torch.no_grad():
        mlp(torch.randn(64, 32, generator=torch.Generator().manual_seed(0)))
    zeros = float((down[0] == 0).float().mean())
    print(f"{family}: config.json says {saved}; {zeros:.0%} of its neurons are exactly 0")
    seen[family] = saved["hidden_act"], zeros > 0.3
assert seen == {
    "Gemma 1": ("relu", True), "Gemma 2": ("relu", False), "Gemma 3": ("relu", False)
}, f"this has changed: {seen}"
PYTHON
