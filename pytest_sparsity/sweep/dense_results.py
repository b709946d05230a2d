"""Results of a dense model that are computed when first asked for, and once for each text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """A document, prompt or probe."""

    @property
    def id(self) -> str:
        """Identifies it among those of one corpus or task."""


Text = TypeVar("Text", bound=Named)
Result = TypeVar("Result")


class DenseResults(Generic[Text, Result]):
    """Keeps what ``compute`` gives, so that many cells are compared with one pass of dense.

    Args:
        compute: from texts of one corpus or task to the result of each, by its id.
    """

    def __init__(self, compute: Callable[[Sequence[Text]], Mapping[str, Result]]) -> None:
        self._compute = compute
        self._known: dict[str, Result] = {}

    def of(self, texts: Sequence[Text]) -> dict[str, Result]:
        """The results of these texts, and of all that were asked for before, by id."""
        fresh = [text for text in texts if text.id not in self._known]
        if fresh:
            self._known.update(self._compute(fresh))
        return self._known
