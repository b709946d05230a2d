"""CATS' thresholds: a list in the ``config.json`` of its sparse models.

|act(gate x)| <= t is dropped.  Source: ``create_models.py``, and ``MistralSparseSiluMLP`` and
``SparseMistralforCausalLM`` in ``experiments/models/sparse_mistral/sparse_silu.py``, of
ScalingIntelligence/CATS.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_sparsity.methods.given.reading import is_finite, read_json, wrong

#: The key that counts.
THRESHOLDS = "thresholds"

#: Settings with which CATS computes something else than its thresholds say, and what they must be
#: where they are set: no thresholds, ReLU instead of them, a router instead, more than the MLP.
_OTHERWISE: Mapping[str, bool] = {
    "use_sparse_model": True,
    "use_relu": False,
    "use_resilu": False,
    "use_sparse_predictor": False,
    "cut_pre_mlp": False,
    "cut_pre_attn": False,
}


def read_thresholds(path: Path) -> tuple[float, ...] | None:
    """One threshold per layer, finite and >= 0; None if the file has none.

    Raises:
        SparsityError: they are something else, or the file has the model computed otherwise.
    """
    content = read_json(path)
    found = content.get(THRESHOLDS)
    if found is None:
        return None
    if not isinstance(found, list) or not found:
        raise wrong(
            path,
            f"has {THRESHOLDS} {found!r}, and a list with one number per layer is needed",
            "write one, or take the key out",
        )
    for layer, value in enumerate(found):
        if not is_finite(value) or value < 0:
            raise wrong(
                path,
                f"has the threshold {value!r} for layer {layer}, and a finite number >= 0 is "
                "needed",
                "mend it: |act(gate x)| up to it is dropped",
            )
    for key, needed in _OTHERWISE.items():
        if key in content and content[key] is not needed:
            raise wrong(
                path,
                f"has {key} {content[key]!r}, with which CATS computes something else than its "
                "thresholds alone say",
                f"give a model's file with {key} {needed!r}",
            )
    return tuple(map(float, found))
