"""What of a sequence may be run apart from the rest of it, found out by running the model.

Packed, several sequences are one row with positions and a mask, and what they begin with is run
once.  That is right where a token reaches others through masked attention with positions that are
given, and nothing else: not with ALiBi, which counts places in the row, nor with recurrent layers
or convolutions, which see the token before whatever it belongs to.  Likewise a beginning may be run
by itself, or a text token by token, where the model's cache carries all there is to carry.

What is known to be so for a type of transformers, and held by tests, is not tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pytest_sparsity.models.cached import first_cache, repeated, run_decoder, tokens_behind
from pytest_sparsity.models.language_model import LanguageModel
from pytest_sparsity.models.passes import Packing
from pytest_sparsity.models.rope import ScaledRope, reach, scaled_ropes

#: Types of transformers that pack; tests/models/test_packing.py tries each.
KNOWN = frozenset(
    {
        *("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "arcee", "opt"),
        *("gpt_neox", "gpt2", "falcon"),
    }
)

_SHARED, _OWN, _NODES = 6, 10, 512  # tokens that all sequences tried begin with, their own, a row
_SEED = 20
#: What configurations call the tokens that attention is limited to, or that it chooses.
_WINDOWS = (
    *("sliding_window", "sliding_window_size", "window_size", "attention_window_size"),
    *("keep_window_size", "local_attention", "local_attention_window_len"),
    *("attention_chunk_size", "index_topk", "index_block_size"),
)
#: Units of a dtype's precision that rounding alone may move a hidden state by, of its norm.
_UNITS = {torch.float32: 64, torch.float16: 16, torch.bfloat16: 4}
#: Errors that models give for arguments or shapes that they have no use for.
_UNABLE = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError)


def packing(model: LanguageModel) -> Packing:
    """How sequences of ``model`` may be run; tried when it is first asked, for all its twins."""
    passes = model._passes
    if passes.packing is None:
        with passes.turn:
            if passes.packing is None:
                passes.packing = _known(model) or find_packing(model)
    return passes.packing


def find_packing(model: LanguageModel) -> Packing:
    """Find out by a few forward passes, of 650 tokens together, whatever its type."""
    ropes, window = scaled_ropes(model.decoder), _window(model)
    with torch.random.fork_rng([]), _without_hooks(model.model):
        trial = _Trial(model)
        reason = _fact(model) or trial.packed()
        # Of tokens that an index finds equally good, rounding chooses: a cache shows nothing there.
        chosen = getattr(model.model.config.get_text_config(), "index_topk", None)
        tried = window is not None and window <= _NODES and not chosen
        seen = window is None or (tried and trial.beyond(window))
        return Packing(
            packs=not reason,
            beginnings=trial.beginning(),
            steps=trial.steps(),
            one_at_a_time=bool(ropes) or bool(trial.kept),
            kept=trial.kept if trial.forgets() else (),
            ropes=ropes,
            limit=_limit(model, ropes),
            cached=None if seen else window,
            reason=reason,
        )


def _known(model: LanguageModel) -> Packing | None:
    kind: Any = model.model.config
    ours = type(model.model).__module__.startswith("transformers.models.")
    if not ours or kind.model_type not in KNOWN or _fact(model):
        return None
    ropes = scaled_ropes(model.decoder)
    return Packing(True, True, True, bool(ropes), (), ropes, _limit(model, ropes), None, "")


def _window(model: LanguageModel) -> int | None:
    """Tokens from which on a token does not see all before it; None if it always does."""
    config: Any = model.model.config.get_text_config()
    found = (getattr(config, name, None) for name in _WINDOWS)
    return min((n for n in found if isinstance(n, int) and n > 0), default=None)


def _limit(model: LanguageModel, ropes: tuple[ScaledRope, ...]) -> int | None:
    """A row's mask lets a token see all before it, so no window of attention may end among them."""
    return min((n for n in (reach(ropes), _window(model)) if n), default=None)


def _fact(model: LanguageModel) -> str:
    """Why a model does not pack, where that can be seen without running it; or empty."""
    config: Any = model.model.config.get_text_config()
    if config.model_type == "bloom" or getattr(config, "alibi", False):
        return "its positions are those of ALiBi, which counts places in the row"
    if any(isinstance(module, nn.Conv1d) for module in model.decoder.modules()):
        return "its convolutions see the token before in the row"
    return ""


class _Trial:
    """Sequences run together and in parts, against each alone.

    Attributes:
        kept: what the model holds anew after another pass, as (module, attribute).
    """

    kept: tuple[tuple[str, str], ...]

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        draw = torch.Generator().manual_seed(_SEED)
        embeddings: Any = model.model.get_input_embeddings()
        vocabulary = int(embeddings.weight.shape[0])
        rows = torch.randint(0, vocabulary, (_NODES // _OWN, _SHARED + _OWN), generator=draw)
        rows[:, :_SHARED] = rows[0, :_SHARED]
        self._rows, length = rows, rows.shape[1]
        self._alone = [self._run(rows[index, None])[0] for index in (0, -1)]
        before = _state(model.model)
        longer = self._run(rows[:2].reshape(1, -1))[0][:length]
        after = _state(model.model)
        self.kept = tuple(place for place, own in after.items() if before.get(place) is not own)
        #: How far results differ where nothing but the number of rows of products does.
        self._noise = _apart(longer, self._alone[0])
        narrow = model.dtype != torch.float32
        self._floor = _UNITS.get(model.dtype, 4) * torch.finfo(model.dtype).eps
        self._causal = self._noise <= (5e-2 if narrow else 1e-4)

    def forgets(self) -> bool:
        """Whether the model gives the same without what it holds, which it then has no more."""
        modules = dict(self._model.model.named_modules())
        before = [getattr(modules[path], name) for path, name in self.kept]
        for path, name in self.kept:
            setattr(modules[path], name, None)
        if _works(lambda: self._same(self._run(self._rows[:1])[0], self._alone[0])):
            return True
        for (path, name), own in zip(self.kept, before, strict=True):
            setattr(modules[path], name, own)
        return False

    def packed(self) -> str:
        """Why rows do not give the same in one; empty if they do."""
        if not self._causal:
            return "what a token gives depends on how many follow"
        rows, own = self._rows, _OWN
        nodes = torch.cat([rows[0, :_SHARED], rows[:, _SHARED:].flatten()])
        places = torch.arange(_SHARED, _SHARED + own).repeat(len(rows))
        positions = torch.cat([torch.arange(_SHARED), places])
        branch = torch.cat(
            [torch.zeros(_SHARED), torch.arange(1, len(rows) + 1).repeat_interleave(own)]
        )
        seen = (branch[:, None] == branch) | (branch == 0)
        seen &= torch.ones_like(seen).tril()
        mask = torch.where(seen, 0.0, torch.finfo(self._model.dtype).min).to(self._model.dtype)

        def run() -> bool:
            found = self._run(nodes[None], positions=positions, mask=mask)[0]
            first, last = found[: _SHARED + own], torch.cat([found[:_SHARED], found[-own:]])
            return self._same(first, self._alone[0]) and self._same(last, self._alone[1])

        return "" if _works(run) else "sequences in one row give something else than alone"

    def beginning(self) -> bool:
        """Whether two sequences after copies of their beginning's cache are what they are alone."""
        rows = self._rows[[0, -1]]

        def run() -> bool:
            cache = first_cache(self._model, rows[:1, :_SHARED])
            first_cache(self._model, rows[1:, _SHARED:])  # what a module keeps is gone by then
            for cached in (repeated(cache, 2), repeated(cache, 2)):
                found = self._run(rows[:, _SHARED:], cache=cached)
                if not all(
                    self._same(own, alone[_SHARED:])
                    for own, alone in zip(found, self._alone, strict=True)
                ):
                    return False
            return True

        return _works(run)

    def steps(self) -> bool:
        """Whether a token at a time gives what all of them do."""
        rows = self._rows[[0, -1]]

        def run() -> bool:
            cache = first_cache(self._model, rows[:, :_SHARED])
            for place in range(_SHARED, _SHARED + 3):
                if tokens_behind(cache) is None:
                    return False
                output = run_decoder(self._model, rows[:, place, None], cache=cache)
                cache = getattr(output, self._model.cache_name)
                for own, alone in zip(output.last_hidden_state, self._alone, strict=True):
                    if not self._same(own, alone[place, None]):
                        return False
            return True

        return _works(run)

    def beyond(self, window: int) -> bool:
        """Whether caches stay right where attention does not reach back to the beginning."""
        draw = torch.Generator().manual_seed(_SEED)
        vocabulary = int(self._rows.max()) + 1
        ids = torch.randint(0, vocabulary, (1, window + 8), generator=draw)

        def run() -> bool:
            alone = self._run(ids)[0]
            for place in (window // 2, window + 4):
                begun = first_cache(self._model, ids[:, :place])
                found = self._run(ids[:, place:], cache=repeated(begun, 1))[0]
                if not self._same(found, alone[place:]):
                    return False
            for place in range(window + 4, window + 8):
                output = run_decoder(self._model, ids[:, place, None], cache=begun)
                begun = getattr(output, self._model.cache_name)
                if not self._same(output.last_hidden_state[0], alone[place, None]):
                    return False
            return True

        return _works(run)

    def _run(self, ids: torch.Tensor, **given: Any) -> torch.Tensor:
        found: torch.Tensor = run_decoder(self._model, ids, **given).last_hidden_state
        return found

    def _same(self, found: torch.Tensor, alone: torch.Tensor) -> bool:
        return self._causal and _apart(found, alone) <= max(4 * self._noise, self._floor)


def _apart(found: torch.Tensor, alone: torch.Tensor) -> float:
    """The largest distance of any row from the one that it should be, relative to that."""
    lost = (found.float() - alone.float()).norm(dim=-1) / alone.float().norm(dim=-1)
    return float(lost.nan_to_num(torch.inf).max())


def _works(run: Callable[[], bool]) -> bool:
    try:
        return run()
    except _UNABLE:
        return False


def _state(model: nn.Module) -> dict[tuple[str, str], torch.Tensor]:
    """Which tensors modules hold outside their parameters and buffers."""
    return {
        (path, name): value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    }


@contextmanager
def _without_hooks(model: nn.Module) -> Iterator[None]:
    """Whoever watches or changes what the model computes sees none of this."""
    kept = [
        (hooks, dict(hooks))
        for module in model.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks)
        if hooks
    ]
    for hooks, _ in kept:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, own in kept:
            hooks.update(own)
