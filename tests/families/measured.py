"""What works on an architecture: a shrunk twin of it, held against plain transformers.

``measure`` builds the twin twice, once as transformers does and once ready to be measured, and
takes it through everything that is promised of a mapped model.  What does not hold is a fault.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from plain import Masked, Products, signature
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibration import magnitude_quantiles
from pytest_sparsity.methods.neurons.activity import down_sites
from pytest_sparsity.methods.neurons.selectors import FixedNeurons
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.families import LEFT_OUT, MAPPED, REFUSED, Family
from pytest_sparsity.models.forward import check_head
from pytest_sparsity.models.loading import finished
from pytest_sparsity.models.tiny import tiny_tokenizer
from pytest_sparsity.models.twin_loading import causal_config, check_reads_forward
from pytest_sparsity.models.twins import (
    causal_class,
    in_dtype,
    plain_config,
    random_model,
    shortened_config,
    shrunk_config,
)
from pytest_sparsity.sweep.load_checks import check_loaded
from pytest_sparsity.targets import resolve_target

#: All architectures of transformers' table of causal language models.
ARCHITECTURES = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
#: Of a block's weights, what a mapped model may multiply where no site is.
LARGEST_EXEMPT = 0.02

_SEED = 7
_TEXT = torch.randint(0, 256, (40,), generator=torch.Generator().manual_seed(3))
_DENSE_PREFILL = PrefillPolicy("none")
#: Nats by which TEAL and the plain masking may differ at a token.
_NATS = 1e-5
_NEW_TOKENS = 10


@cache
def measure(kind: str) -> Family:
    """Take the architecture of this ``model_type`` through everything; once per process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])
        try:
            full = causal_config(plain_config(CONFIG_MAPPING[kind]), "twin")
            config = shrunk_config(full)
            model = random_model(config, _SEED)
            check_reads_forward(model, "twin")
        except Exception as error:  # of whatever transformers says of an architecture
            return Family(kind, name, LEFT_OUT, _sentence(error))
        name = type(model).__name__
        try:
            mapped = _mapped(model)
        except SparsityError as error:
            fault: tuple[str, ...] = (
                () if "\n" not in str(error) else (f"refused in lines: {error}",)
            )
            return Family(kind, name, REFUSED, _sentence(error), faults=fault)
        except Exception as error:  # whatever it is: a user would see a traceback
            fault = (f"a traceback and no sentence: {_sentence(error)}",)
            return Family(kind, name, REFUSED, _sentence(error), faults=fault)
        return _Measurement(kind, name, mapped, _plain(config), _sizes(full)).family()


def faults_in(kind: str, dtype: torch.dtype) -> tuple[str, ...]:
    """What of a mapped architecture does not hold in another dtype than float32.

    Level 0 and masks are asked for: both models round alike.  What sums in another order (folded
    vectors, steps from a cache, kernels) rounds otherwise, and is told apart in float32 only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = shrunk_config(causal_config(plain_config(CONFIG_MAPPING[kind]), "twin"))
        model = in_dtype(random_model(config, _SEED), dtype)
        plain = in_dtype(_plain(config), dtype).requires_grad_(False)
        if hasattr(plain, "set_experts_implementation"):
            plain.set_experts_implementation("eager")
        mapped = _mapped(model, dtype)
        check_loaded(mapped)
        return _Measurement(kind, type(model).__name__, mapped, plain, {}).of_masks()


def _sentence(error: Exception) -> str:
    """One line of a message, without what the caller put in front of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2]) if lines and lines[0].endswith(":") else (lines or [""])[0]
    for front in ("--sparsity-model twin: ", "--sparsity-model twin "):
        said = said.removeprefix(front)
    if isinstance(error, SparsityError):  # what to do about it is for whoever named a model
        return said.partition("; ")[0]
    return f"{type(error).__name__}: {said.partition('. ')[0][:200]}"


def _mapped(model: Any, dtype: torch.dtype = torch.float32) -> LanguageModel:
    target = resolve_target("cpu")
    about: dict[str, Any] = {"weights_hash": "", "dtype": dtype}
    found = finished("twin", "twin", model, tiny_tokenizer(), target, **about)
    check_head(found)
    return found


def _plain(config: Any) -> Any:
    model: Any = random_model(config, _SEED).requires_grad_(False)
    if hasattr(model, "set_experts_implementation"):  # one product per expert, as it is hooked
        model.set_experts_implementation("eager")
    return model


def _sizes(full: Any) -> dict[str, int]:
    """How many weights the parameters have in full size, of the layers that the twin has."""
    config = shortened_config(full)
    try:
        with torch.device("meta"):
            model = causal_class(config)(config)
    except Exception:  # some classes of transformers 4 compute with numbers while they are made
        return {}
    return {name: parameter.numel() for name, parameter in model.named_parameters()}


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=_TEXT[None]).logits[0]
    return found


def _nats(logits: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of every token but the first [T - 1]."""
    return torch.nn.functional.cross_entropy(logits[:-1].double(), _TEXT[1:], reduction="none")


class _Measurement:
    """One architecture, mapped, beside its plain model."""

    def __init__(
        self, kind: str, name: str, model: LanguageModel, plain: Any, full: Mapping[str, int]
    ) -> None:
        self._full = full
        self._kind, self._name = kind, name
        self._model, self._plain = model, plain
        self._dense = _logits(model.model)
        self._faults: list[str] = []
        found = magnitude_quantiles(model, [_TEXT], [0.5], _DENSE_PREFILL)[0.5]
        # Experts of a layer share a threshold; one that the text does not come to has none.
        pools = {site.name: getattr(site, "pool", site.name) for site in model.sites}
        # A quantile is a value of the text: beside it, so that no rounding decides what is kept.
        beside = {place: 1.00001 * value for place, value in found.items()}
        self._teal = self._plan({n: Threshold(beside[p]) for n, p in pools.items() if p in beside})

    def _plan(self, selectors: Any, **more: Any) -> Plan:
        return Plan("teal", 0.5, selectors, _DENSE_PREFILL, **more)

    def family(self) -> Family:
        """Everything there is to find out, in turn; what fails is a fault, and the rest goes on."""
        exempt = self._try("every product is a site's", self._exempt, 1.0)
        self._try("level 0 is dense to the bit", self._level_0, None)
        self._try("teal is the plain masking", self._masking, None)
        spon = self._try("a folded vector is an added one", self._folded, 0.0)
        cached, kernels = self._try("a cached text is the uncached one", self._greedy, (True, 0.0))
        self._try("the model is as it was", self._undone, None)
        sites = self._model.sites
        return Family(
            self._kind,
            self._name,
            MAPPED,
            kinds=tuple(dict.fromkeys(site.kind for site in sites)),
            experts=any(getattr(site, "routed", False) for site in sites),
            exempt=round(exempt, 3),
            spon=round(spon, 3),
            neurons=self._neurons(),
            kernels=round(kernels, 3),
            cached=cached,
            faults=tuple(self._faults),
        )

    def of_masks(self) -> tuple[str, ...]:
        """The faults of what does not depend on the order of sums."""
        self._try("level 0 is dense to the bit", self._level_0, None)
        self._try("teal is the plain masking", self._masking, None)
        self._try("the model is as it was", self._undone, None)
        return tuple(self._faults)

    def _try(self, promise: str, measured: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return measured()
        except Exception as error:  # a traceback is a fault as well, and the next promise is asked
            self._faults.append(f"not so: {promise}: {type(error).__name__}: {error}")
            return otherwise

    def _hold(self, holds: bool, said: str) -> None:
        if not holds:
            self._faults.append(said)

    def _exempt(self) -> float:
        """Of the weights that are multiplied in the blocks of the full size, those at no site.

        What takes part in a product is seen on the plain twin.  There a convolution of four
        weights a channel is a large part, so it is counted at the sizes of the model.
        """
        products = Products(self._plain)
        with torch.no_grad(), products:
            _logits(self._plain)
        sites = {signature(site.module.weight): site for site in self._model.sites}
        sizes = {name: p.numel() for name, p in self._plain.named_parameters()}
        total: Counter[str] = Counter()
        outside: Counter[str] = Counter()
        for product in products.seen.values():
            if product.in_a_block:
                here = sizes[product.name]
                weights = product.weights * self._full.get(product.name, here) / here
                total[product.name] += weights
                outside[product.name] += 0 if product.of(sites) else weights
        share = sum(outside.values()) / sum(total.values())
        worst = ", ".join(name for name, _ in outside.most_common(3))
        self._hold(share <= LARGEST_EXEMPT, f"{share:.1%} of the weights are no site's: {worst}")
        seen = {key for p in products.seen.values() for key in (p.signature, *p.slices)}
        idle = [s.name for key, s in sites.items() if key not in seen and ".experts." not in s.name]
        self._hold(not idle, f"sites whose weights are not multiplied: {', '.join(idle[:3])}")
        return share

    def _level_0(self) -> None:
        plain = _logits(self._plain)
        self._hold(
            torch.equal(plain, self._dense),
            f"dense logits differ from transformers' by {_largest(plain, self._dense):.1e}",
        )
        with sparsify(self._model, self._plan({s.name: Threshold(0.0) for s in self._model.sites})):
            sparse = _logits(self._model.model)
        self._hold(
            torch.equal(sparse, self._dense),
            f"logits at level 0 differ from dense ones by {_largest(sparse, self._dense):.1e}",
        )

    def _masking(self) -> None:
        keys: dict[str, tuple[str, int]] = {}
        thresholds: dict[str, list[float]] = {}
        for site in self._model.sites:
            if (selector := self._teal.selectors.get(site.name)) is not None:
                assert isinstance(selector, Threshold)
                same = thresholds.setdefault(signature(site.module.weight), [])
                keys[site.name] = signature(site.module.weight), len(same)
                same.append(selector.value)
        masked = Masked(self._plain, thresholds)
        with masked:
            expected = _logits(self._plain)
        with sparsify(self._model, self._teal) as attached:
            attached.counting = True
            found = _logits(self._model.model)
            counts = attached.achieved.counts
        off = float((_nats(found) - _nats(expected)).abs().max())
        self._hold(off <= _NATS, f"teal at 0.5 differs from plain masking by {off:.1e} nats")
        self._hold(not torch.equal(found, self._dense), "teal at 0.5 changes nothing")
        for name, key in keys.items():
            if counts[name] != masked.counts.get(key, (0, 0)):
                self._faults.append(
                    f"{name} counts {counts[name]} zeroed and seen, there are "
                    f"{masked.counts.get(key, (0, 0))}"
                )
                break

    def _folded(self) -> float:
        generator = torch.Generator().manual_seed(5)
        vectors: dict[str, torch.Tensor] = {}
        bias: dict[str, torch.Tensor] = {}
        sites = []
        for site in self._model.sites:
            if getattr(site, "places", 1) > 1:
                continue
            a = 0.1 * torch.randn(site.module.in_features, generator=generator)
            with contextlib.suppress(SparsityError):  # one sentence, where its weight is not plain
                bias |= SpontaneousVectors({site.name: a}, {}).fold(self._model)
                vectors[site.name] = a
                sites.append(site)
        if not sites:
            return 0.0
        keep = {site.name: Threshold(0.0) for site in self._model.sites}
        with sparsify(self._model, self._plan(keep, bias=bias)):
            folded = _logits(self._model.model)
        handles = [
            site.module.register_forward_pre_hook(
                lambda _, args, a=vectors[site.name]: (args[0] + a, *args[1:])
            )
            for site in sites
        ]
        try:
            added = _logits(self._model.model)
        finally:
            for handle in handles:
                handle.remove()
        off = _largest(folded, added)
        self._hold(off <= 1e-3, f"folded vectors differ from added ones by {off:.1e}")
        self._hold(_largest(folded, self._dense) > 1e-3, "folded vectors change nothing")
        return len(sites) / len(self._model.sites)

    def _greedy(self) -> tuple[bool, float]:
        cached, uncached = self._text(True), self._text(False)
        # Doge chooses keys otherwise with a cache, and its text may be the same by luck.
        same = cached[0] == uncached[0] and _largest(cached[1], uncached[1]) < 1e-3
        with sparsify(self._model, self._teal):
            cached, uncached = self._text(True), self._text(False)
        self._hold(cached[0] == uncached[0] or not same, "teal's greedy text depends on the cache")
        try:
            attached = sparsify(self._model, self._teal, kernels="torch")
        except SparsityError:  # one sentence, where a layer is not plain
            return same, 0.0
        with attached:
            kernels = len(attached.kernels) / len(self._model.sites)
            text, _ = self._text(True)
        self._hold(text == cached[0], "the text of kernels is another than that of masks")
        return same, kernels

    def _text(self, cached: bool) -> tuple[list[int], torch.Tensor]:
        """Greedy tokens, and the logits that they were chosen by [T, V]."""
        with torch.no_grad():
            given: Any = self._model.model
            out = given.generate(
                input_ids=_TEXT[None, :24],
                attention_mask=torch.ones(1, 24, dtype=torch.long),
                max_new_tokens=_NEW_TOKENS,
                min_new_tokens=_NEW_TOKENS,
                do_sample=False,
                use_cache=cached,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        return [int(token) for token in out.sequences[0, 24:]], torch.cat(out.logits)

    def _undone(self) -> None:
        self._hold(torch.equal(_logits(self._model.model), self._dense), "a plan left traces")

    def _neurons(self) -> bool:
        try:
            downs = down_sites(self._model)
            half = {
                name: FixedNeurons(
                    torch.arange(site.module.in_features) % 2 == 0,
                    tuple(s.kind for s in self._model.sites if s.name == name),
                )
                for name, site in downs.items()
            }
            with sparsify(self._model, self._plan({}, neurons=half)):
                return not torch.equal(_logits(self._model.model), self._dense)
        except SparsityError:
            return False


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
