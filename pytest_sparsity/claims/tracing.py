"""What a model computes in one step of decoding: its operations, counted in the traced graph."""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.packing import packing

#: Under which name all products of matrices are counted, and all additions.
PRODUCT, ADDITION = "matrix product", "add"

_PRODUCTS = frozenset({"mm", "bmm", "mv", "dot", "matmul"})
#: Products that add something to their result; attention's mask is no bias.
_WITH_ADDITION = frozenset({"addmm", "addmv", "baddbmm", "addbmm"})
#: Give another look at the same numbers although they are not marked as views.
_VIEWS = frozenset({"_unsafe_view", "_reshape_alias", "detach", "lift_fresh"})


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.counts.update(_counted(func, args))
        return func(*args, **(kwargs or {}))


def _counted(func: Any, args: tuple[Any, ...]) -> list[str]:
    name = func.overloadpacket.__name__.rstrip("_")
    if func.is_view or torch.Tag.inplace_view in func.tags or name in _VIEWS:
        return []
    if name in _WITH_ADDITION or (name == "linear" and len(args) > 2 and args[2] is not None):
        return [PRODUCT, ADDITION]
    if name in _PRODUCTS or name == "linear" or name.startswith("_scaled_dot_product"):
        return [PRODUCT]
    return [name]


def step_of(model: LanguageModel, prompt: Tensor) -> Callable[[], Tensor]:
    """A step of decoding after ``prompt`` [1, T], the same one however often it is called.

    The cache is cut back behind a step where it can be.  One of recurrent layers or of sliding
    windows cannot, and is copied before it: those copies are small beside the weights that a step
    reads, and the same with and without what is compared.

    Returns:
        computes the logits [1, 1, vocabulary] of the token after the last one.

    Raises:
        SparsityError: the model has no cache, or gives something else with it.
    """
    if not packing(model).steps:
        raise SparsityError(
            f"{type(model.model).__name__} has no cache that gives the same as all tokens, so that "
            "it has no step of decoding; choose another model"
        )
    known = inspect.signature(model.model.forward).parameters
    given: dict[str, Any] = {"use_cache": True}
    if "logits_to_keep" in known or "kwargs" in known:
        given["logits_to_keep"] = 1
    with torch.no_grad():
        before = model.model(input_ids=prompt, **given)
    cache, token = getattr(before, model.cache_name), before.logits[:, -1:].argmax(-1)

    def run(behind: Any) -> Tensor:
        own = {**given, model.cache_name: behind}
        with torch.no_grad():
            logits: Tensor = model.model(input_ids=token, **own).logits
        return logits

    def cutting() -> Tensor:
        logits = run(cache)
        cache.crop(-1)  # as it was before
        return logits

    tried = copy.deepcopy(cache)
    run(tried)
    return cutting if _cuts(tried) else lambda: run(copy.deepcopy(cache))


def _cuts(cache: Any) -> bool:
    """Whether a cache can be cut back by a token; it is cut, or spoilt."""
    try:
        cache.crop(-1)
    except (AttributeError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True


def operations(function: Callable[[], object]) -> Counter[str]:
    """How often each operation on tensors is called, views left out.

    A product with a bias counts as a product and an addition.
    """
    counting = _Counting()
    with counting:
        function()
    return counting.counts
