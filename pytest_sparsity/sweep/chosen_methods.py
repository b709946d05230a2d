"""The methods of a run by name, and the files of others that they take."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from pytest_sparsity.core.errors import SparsityError, SparsityWarning, blaming
from pytest_sparsity.core.files import sha256_file
from pytest_sparsity.methods.given.given import POWERINFER, Given, read_given
from pytest_sparsity.methods.registry import Method, by_name, find, takes_of
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.settings.settings import Settings


class ChosenMethods:
    """Finds methods, each made once, and what --sparsity-predictors holds for them.

    Args:
        settings: what the user asked for.
        added: methods besides the bundled ones.

    Attributes:
        given: what the files of the option hold; None without the option.

    Raises:
        SparsityError: a method of the settings is not known, or needs files that are not given,
            or the files cannot be read, or no method takes any of what they hold.
    """

    given: Given | None

    def __init__(self, settings: Settings, added: Iterable[Method]) -> None:
        self._settings = settings
        self._known = by_name(added)
        self._made: dict[str, Method] = {}
        with blaming("--sparsity-methods"):
            self._chosen = {name: self.method(name) for name in settings.methods}
        for method in self._chosen.values():
            _warn_if_deprecated(method)
        self.given = self._read()
        for name, method in self._chosen.items():
            if set(getattr(method, "needs", ())) - (self.given.kinds if self.given else set()):
                raise SparsityError(
                    f"--sparsity-methods {name} needs what a file says; name one with "
                    "--sparsity-predictors, or choose another method"
                )

    def method(self, name: str) -> Method:
        """The method with this name, other than dense.

        Raises:
            SparsityError: there is none.
        """
        if name not in self._made:
            self._made[name] = find(self._known, name)
        return self._made[name]

    @property
    def notes(self) -> dict[str, str]:
        """Remarks about the settings' methods, to be shown wherever their results are."""
        found = {}
        for name, method in self._chosen.items():
            said = [getattr(method, "note", "")]
            if self.given is not None and self._takes(method):
                said.append(f"takes {self.given.described} of {self.given.path}")
            found[name] = "; ".join(filter(None, said))
        return {name: note for name, note in found.items() if note}

    def given_to(self, method: Method, model: LanguageModel) -> str:
        """Identifies the files that a method takes for a model; empty if it takes none."""
        if self.given is not None and self._takes(method):
            return self.given.hash
        if POWERINFER in takes_of(method) and model.predictors is not None:
            return sha256_file(model.predictors)[:16]
        return ""

    def _takes(self, method: Method) -> bool:
        return self.given is not None and bool(set(takes_of(method)) & self.given.kinds)

    def _read(self) -> Given | None:
        path, claims = self._settings.predictors, "claims" in self._settings.suites
        if path is None:
            return None
        found = read_given(Path(path))
        takes = {kind for method in self._chosen.values() for kind in takes_of(method)}
        if not takes & found.kinds and not claims:  # which choose methods of their own
            raise SparsityError(
                f"--sparsity-predictors {path} holds {found.described}, which none of the methods "
                f"{', '.join(self._chosen) or 'dense'} takes; choose others with --sparsity-methods"
            )
        return found


def _warn_if_deprecated(method: Method) -> None:
    if instead := getattr(method, "deprecated", ""):
        warning = f"--sparsity-methods {method.name} goes in the next release: {instead}"
        warnings.warn(SparsityWarning(warning), stacklevel=4)
