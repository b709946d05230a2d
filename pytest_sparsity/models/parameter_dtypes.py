"""Parameters that stay in float32, whatever dtype a model is loaded in."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def dtype_of(model: Any, name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a parameter or buffer of a model of transformers that is loaded in ``dtype``.

    Some classes keep the biases and gates of routers, convolutions or scales in float32, and cast
    what they multiply with them; they fail or give something else if all is cast.

    Args:
        model: the model, or its class.
        name: of the parameter, as in ``state_dict``.
        dtype: what the model is loaded in.
    """
    import torch

    patterns: set[str] = set()
    if dtype in (torch.float16, torch.bfloat16):
        patterns.update(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        patterns.update(getattr(model, "_keep_in_fp32_modules", None) or ())
    return torch.float32 if any(_matches(each, name) for each in patterns) else dtype


def _matches(pattern: str, name: str) -> bool:
    """Whether transformers reads ``name`` as one of these: whole parts of it before version 5."""
    if version("transformers") < "5":
        return re.search(rf"(^|\.){pattern}($|\.)", name) is not None
    return re.search(pattern.replace("*", ".*"), name) is not None
