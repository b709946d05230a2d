"""Where trained vectors come from: shipped with the package, cached, or trained now."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.core.files import locked, sha256_text
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.spon.training import Recipe, train
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.compression.names import LOADED, in_file_name

SHIPPED = Path(__file__).parent / "shipped"


class MissingVectors(SparsityError):
    """No trained vectors fit, and training was not asked for."""


@dataclass(frozen=True)
class VectorLibrary:
    """Finds or trains the vectors of a plan.

    Attributes:
        cache: vectors trained here are kept in its folder ``vectors``.
        recipe: how to train; its sites and layers also choose among trained vectors.
        when: ``never`` (use shipped and cached vectors), ``missing`` (train where there
            are none) or ``all`` (leave out shipped vectors: use those trained here, and
            train where there are none).
        progress: shows training.
    """

    cache: Path
    recipe: Recipe
    when: str = "never"
    progress: Progress = silent

    def get(
        self,
        model: LanguageModel,
        plan: Plan,
        streams: Mapping[str, torch.Tensor],
        teacher: LanguageModel | None = None,
        weights: str = LOADED,
    ) -> SpontaneousVectors:
        """The trained vectors for ``plan`` on ``model``.

        Args:
            model: dense.
            plan: without vectors.
            streams: training text by source, int64 [T] each.
            teacher: the model as it was loaded, if the weights of ``model`` were compressed.
            weights: what that compression is called, for names; hashes tell what fits.

        Raises:
            MissingVectors: none fit and ``when`` is ``never``.
            SparsityError: training failed, or vectors cannot be written.
        """
        name = file_name(model.name, plan.method, plan.level, weights)
        learnt = (teacher or model).weights_hash
        if self.when != "all" and (found := self._fitting(SHIPPED / name, model, plan, learnt)):
            return found
        path = self.path(model, plan, streams, teacher, weights)
        if self.when == "never":
            if found := self._fitting(path, model, plan, learnt):
                return found
            compressed = "" if weights == LOADED else f" with weights {weights}"
            foreign = f" ({path} is damaged or of something else)" if path.exists() else ""
            raise MissingVectors(
                f"no trained spontaneous vectors fit {model.name}{compressed} at {plan.method} "
                f"{plan.level:.2f} (prefill {plan.prefill.name}){foreign}; train them with "
                "--sparsity-train missing"
            )
        with locked(path.with_suffix(".lock")):
            if found := self._fitting(path, model, plan, learnt):
                return found
            trained = train(
                model, plan, list(streams.values()), self.recipe, self.progress, teacher
            )
            source = {"text": list(streams), "text_hash": text_hash(streams)[:16]}
            vectors = replace(trained, provenance={**trained.provenance, **source})
            vectors.save(path)
            # What is used is what is stored: float16, as the next run will read it.
            return SpontaneousVectors.load(path)

    def path(
        self,
        model: LanguageModel,
        plan: Plan,
        streams: Mapping[str, torch.Tensor],
        teacher: LanguageModel | None = None,
        weights: str = LOADED,
    ) -> Path:
        """Where vectors that are trained here are kept; arguments as for :meth:`get`."""
        of = [each.weights_hash for each in (model, teacher) if each is not None]
        recipe = plan.prefill.name, plan.variant, repr(self.recipe), text_hash(streams)
        kept = sha256_text(*dict.fromkeys(of), model.network_hash, *recipe)[:8]
        name = file_name(model.name, plan.method, plan.level, weights)
        return self.cache / "vectors" / kept / name

    def _fitting(
        self, path: Path, model: LanguageModel, plan: Plan, teacher: str
    ) -> SpontaneousVectors | None:
        if not path.exists():
            return None
        try:
            found = SpontaneousVectors.load(path)
        except SparsityError as error:
            warnings.warn(SparsityWarning(str(error)), stacklevel=2)
            return None
        # Vectors of before weights were compressed do not name their teacher: the model itself.
        own = {"teacher": found.provenance.get("weights"), **found.provenance}
        recipe = asdict(self.recipe)
        wanted = {
            "weights": model.weights_hash,
            "teacher": teacher,
            "method": plan.method,
            "level": plan.level,
            "prefill": plan.prefill.name,
        }
        trained_as = own["recipe"] if isinstance(own.get("recipe"), dict) else {}
        fits = all(own.get(k) == v for k, v in wanted.items()) and all(
            _plain(trained_as.get(k)) == _plain(recipe[k]) for k in ("sites", "layers")
        )
        return found if fits else None


def text_hash(streams: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of training text by source, int64 [T] each."""
    return sha256_text(*(f"{source}:{tokens.tolist()}" for source, tokens in streams.items()))


def file_name(model: str, method: str, level: float, weights: str = LOADED) -> str:
    """Under which name vectors are kept, in the package and in caches."""
    network = model if weights == LOADED else f"{model}-{in_file_name(weights)}"
    return f"{network}-{method}-{level!r}.safetensors"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
