"""Trials of recipes for spontaneous neurons: one line of a file each, appended as they are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_sparsity.claims.finding import Effect, plain
from pytest_sparsity.core.files import append_line, read_lines

SCHEMA = 1


@dataclass(frozen=True)
class TriedRecipe:
    """What vectors trained in one way did.

    Attributes:
        model: short name.
        level: of TEAL.
        name: what is different from the default recipe.
        key: all that the figures depend on, as plain JSON: two trials with the same key are one.
        held_out: KL from the dense model on training text that was kept apart, in nats per
            token, of TEAL alone and with the vectors.
        removed: the share of that divergence that the vectors removed.
        lost: TEAL's loss in log-perplexity against the dense model, labelled by its corpus.
        recovered: share of that loss that the vectors recovered, labelled by its corpus.
        tokens: trained on.
        seconds: training took.
    """

    model: str
    level: float
    name: str
    key: Mapping[str, Any]
    held_out: tuple[float, float]
    removed: Effect
    lost: tuple[Effect, ...]
    recovered: tuple[Effect, ...]
    tokens: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, see :meth:`from_json`."""
        return {"schema": SCHEMA, **plain(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TriedRecipe:
        """Read what :meth:`to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        schema, fields = content["schema"], {k: v for k, v in content.items() if k != "schema"}
        if schema != SCHEMA:
            raise ValueError(f"schema {schema!r}, not {SCHEMA}")
        before, after = content["held_out"]
        read = {
            "held_out": (before, after),
            "removed": Effect.from_json(content["removed"]),
            "lost": tuple(map(Effect.from_json, content["lost"])),
            "recovered": tuple(map(Effect.from_json, content["recovered"])),
        }
        return cls(**{**fields, **read})


def keep_trial(path: Path, trial: TriedRecipe) -> None:
    """Append a trial to a file.

    Raises:
        SparsityError: it cannot be written.
    """
    append_line(path, json.dumps(trial.to_json(), sort_keys=True, allow_nan=False))


def read_trials(path: Path) -> list[TriedRecipe]:
    """The trials in a file, in their order; a line that was cut off by a crash is left out.

    Raises:
        SparsityError: there is no file, or it is of another version or damaged.
    """
    return read_lines(
        path,
        lambda line: TriedRecipe.from_json(json.loads(line)),
        "trial",
        missing="make it with python ci/spon_trials.py",
        damaged="delete the line and run python ci/spon_trials.py again",
    )
