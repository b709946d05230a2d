"""findings.jsonl: one line per finding with all that it depends on, appended as they are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_sparsity.claims.catalog import CATALOG
from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.claims.finding import Finding
from pytest_sparsity.core.files import append_line, read_lines
from pytest_sparsity.core.provenance import versions
from pytest_sparsity.settings.saved import to_json

FILE = "findings.jsonl"
SCHEMA = 1
#: What :func:`origin` has and readers of findings ask for.
_ORIGIN: dict[str, type] = {
    **dict.fromkeys(("profile", "dtype", "weights", "when"), str),
    "seed": int,
    **dict.fromkeys(("sizes", "target", "versions", "data", "settings", "cost"), dict),
}


@dataclass(frozen=True)
class Stored:
    """A finding as it was stored.

    Attributes:
        finding: the finding.
        origin: what it depends on, see :func:`origin`.
    """

    finding: Finding
    origin: Mapping[str, Any]


def origin(evidence: Evidence) -> dict[str, Any]:
    """What a finding depends on besides its cells: settings, machine, versions, and its cost."""
    settings, session = evidence.settings, evidence.session
    model = session.models.load(evidence.model)
    return {
        "profile": settings.profile,
        "seed": settings.seed,
        "sizes": asdict(settings.sizes),
        "target": {
            "name": session.target.name,
            "cores": session.target.cores,
            "fingerprint": session.target.fingerprint,
        },
        "dtype": str(model.dtype).removeprefix("torch."),
        "weights": model.weights_hash,
        "versions": versions(),
        "data": session.texts.sources(),
        "read": evidence.read(),
        "settings": to_json(settings),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cost": evidence.cost(),
    }


def keep(folder: Path, finding: Finding, origin: Mapping[str, Any]) -> None:
    """Append a finding to the file of ``folder``.

    Raises:
        SparsityError: it cannot be written.
    """
    content = {"schema": SCHEMA, "finding": finding.to_json(), "origin": dict(origin)}
    append_line(folder / FILE, json.dumps(content, sort_keys=True, allow_nan=False))


def withdraw(folder: Path, claim: str, model: str, why: str) -> None:
    """Append that earlier findings about a claim no longer hold: the evidence is broken.

    Raises:
        SparsityError: it cannot be written.
    """
    content = {"schema": SCHEMA, "withdrawn": {"claim": claim, "model": model, "why": why}}
    append_line(folder / FILE, json.dumps(content, sort_keys=True))


def stored(folder: Path) -> list[Stored]:
    """The findings of a report folder, the last one of every claim and model.

    One that was withdrawn after it is left out.  A line that was cut off by a crash is left out.

    Raises:
        SparsityError: there is no file, or it is of another version or damaged.
    """
    found: dict[tuple[str, str], Stored] = {}

    def take(line: bytes) -> None:
        content = json.loads(line)
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, not {SCHEMA}")
        if "withdrawn" in content:
            gone = content["withdrawn"]
            found.pop((gone["claim"], gone["model"]), None)
            return
        finding, origin = Finding.from_json(content["finding"]), content["origin"]
        if finding.claim not in CATALOG:
            raise ValueError(f"no claim {finding.claim!r}")
        if wrong := [k for k, kind in _ORIGIN.items() if not isinstance(origin.get(k), kind)]:
            raise ValueError(f"its origin has no {wrong[0]!r} that can be read")
        found.pop((finding.claim, finding.model), None)  # so that the newest are last
        found[finding.claim, finding.model] = Stored(finding, origin)

    read_lines(
        folder / FILE,
        take,
        "finding",
        missing="name the report folder of a run with --sparsity-suite=claims",
        damaged="delete the file and run --sparsity-suite=claims again",
    )
    return list(found.values())
