#!/usr/bin/env bash
# transformers, rope_type "dynamic": what a model says of a text depends on the texts that it read before.
#
# Expected: without a cache, two passes over the same tokens give the same logits.
# Seen: past the length that a model was trained for, dynamic scaling makes the angles from the length of
# the sequence, but only ever for a longer one than before: a text of 100 tokens is given the angles of
# the text of 2,000 that was read in between, until a text within the trained length comes by and resets
# them.  Nothing in the call or in its result tells.
# Why it matters: perplexity, multiple choice and greedy text of such a model depend on the order of the
# documents, on how many workers share them, and on what was measured before in the same process; a change
# of the order alone looks like a change of the model.  Who compares a sparse model with the dense one
# has to bring both to the same state before every pass.
#
# transformers 5.23.0, torch 2.13.0; 2026-11-30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.5 transformers==5.23.0
cat > "$work/order.py" <<'PYTHON'
import torch
import transformers

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=257,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
)
model = transformers.LlamaForCausalLM(config).eval()
for parameter in model.parameters():
    if parameter.ndim == 2:  # large enough that attention chooses
        parameter.data = torch.randn_like(parameter) / parameter.shape[1] ** 0.5
texts = {length: torch.randint(0, 257, (1, length)) for length in (40, 100, 2000)}


@torch.inference_mode()
def read(length: int) -> torch.Tensor:
    return model(input_ids=texts[length], use_cache=False).logits.log_softmax(-1)


first, again = read(100), read(100)
read(2000)
after_longer = read(100)
read(40)
after_shorter = read(100)
print(f"transformers {transformers.__version__}, largest difference in a log-probability of 100 tokens")
for name, other in (
    ("read again", again),
    ("after a text of 2,000 tokens", after_longer),
    ("after one of 40 besides", after_shorter),
):
    print(f"{name}: {(first - other).abs().max().item():.3g}")
assert torch.equal(first, again) and torch.equal(first, after_shorter), "this has changed"
assert (first - after_longer).abs().max() > 0.01, "this has changed"
PYTHON
"$work/venv/bin/python" "$work/order.py"
