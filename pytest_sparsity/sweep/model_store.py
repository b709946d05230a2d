"""The dense models of a run, each loaded once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress
from pytest_sparsity.methods.given.given import Given, check_given
from pytest_sparsity.models import LanguageModel, load_model
from pytest_sparsity.models.own import OwnModel
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.sweep.load_checks import check_loaded


@dataclass(frozen=True, eq=False)
class ModelStore:
    """Loads the models of the settings when the first of them is needed.

    Attributes:
        settings: names the models, their dtype and the machine they run on.
        cache: folder that downloads are kept in.
        progress: shows downloads.
        given: files of others that must fit the models; None without such files.
        own: models that code of others makes, by name.
    """

    settings: Settings
    cache: Path
    progress: Progress
    given: Given | None
    own: Mapping[str, OwnModel] = field(default_factory=dict)
    _loaded: dict[str, LanguageModel] = field(default_factory=dict, init=False)
    _sources: set[str] = field(default_factory=set, init=False)

    def load_all(self) -> dict[str, LanguageModel]:
        """Every model of the settings, by its short name; each is loaded once.

        Raises:
            SparsityError: a model cannot be had, or two have the same short name.
        """
        for source in self.settings.models:
            if source in self._sources:
                continue
            found = self._load(source)
            known = self._loaded.get(found.name)
            if known is not None and known.source != source:
                raise SparsityError(
                    f"--sparsity-model {source!r} and {known.source!r} are both called "
                    f"{found.name!r}; rename one folder"
                )
            if known is None:
                check_loaded(found)
                if self.given is not None:
                    check_given(self.given, found)
                self._loaded[found.name] = found
            self._sources.add(source)
        return self._loaded

    def _load(self, source: str) -> LanguageModel:
        dtype, device = self.settings.dtype, self.settings.target
        if source in self.own:
            return self.own[source].load(dtype=dtype, device=device)
        return load_model(
            source,
            dtype=dtype,
            device=device,
            cache=self.cache,
            progress=self.progress,
            allow_unused=self.settings.allow_unused,
            trust_remote_code=self.settings.trust_remote_code,
        )

    def load(self, name: str) -> LanguageModel:
        """The dense model with this short name, as it was loaded.

        Raises:
            SparsityError: it cannot be had.
        """
        if name not in self._loaded:
            self.load_all()
        return self._loaded[name]
