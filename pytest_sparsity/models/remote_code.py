"""Code that comes with a model: whether it is needed, and its class where it is trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.declared import is_known_class, is_known_type


def needed_code(folder: Path) -> dict[str, str]:
    """What of a folder's own code it cannot be loaded without: auto class -> ``module.Class``.

    Where transformers, or this package, has the class that config.json names, that one is used,
    also where code comes with the model.

    Args:
        folder: has a config.json.
    """
    config = _object(folder / "config.json")
    offered, kind = _auto_map(config), config.get("model_type")
    classes = config.get("architectures")
    known = is_known_type(kind)
    computed = known and (
        not isinstance(classes, list) or not classes or any(map(is_known_class, classes))
    )
    wanted = {"AutoConfig": not known, "AutoModelForCausalLM": not computed}
    found = {name: offered[name] for name, needs in wanted.items() if needs and name in offered}
    cutter = _object(folder / "tokenizer_config.json")
    tokenizer = {**offered, **_auto_map(cutter)}.get("AutoTokenizer")
    if tokenizer is not None and not is_known_class(cutter.get("tokenizer_class")):
        found["AutoTokenizer"] = tokenizer
    return found


def check_trusted(code: Mapping[str, str], name: str, *, trusted: bool) -> None:
    """See that code which would be run is trusted.

    Args:
        code: from :func:`needed_code`.
        name: what the user called the model.
        trusted: whether the user does.

    Raises:
        SparsityError: it is not; names the files.
    """
    if code and not trusted:
        files = ", ".join(f"{_file(place)} ({_class(place)})" for place in code.values())
        raise SparsityError(
            f"--sparsity-model {name} cannot be loaded without code that comes with it: {files}; "
            "read it, and pass --sparsity-trust-remote-code to run it on this machine, or pass a "
            "model whose class transformers has"
        )


def code_class(folder: Path, place: str) -> Any:
    """The class at a place of :func:`needed_code`; runs the code."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    return get_class_from_dynamic_module(place, str(folder), local_files_only=True)


def _file(place: str) -> str:
    return place.rpartition(".")[0].replace("--", "/") + ".py"


def _class(place: str) -> str:
    return place.rpartition(".")[2]


def _auto_map(said: Mapping[str, Any]) -> dict[str, str]:
    """Auto class -> ``"module.Class"``; of tokenizers the fast one, if there are two."""
    found = said.get("auto_map")
    if not isinstance(found, dict):
        return {}
    places = {
        name: next((p for p in reversed(place) if p), None) if isinstance(place, list) else place
        for name, place in found.items()
    }
    return {name: place for name, place in places.items() if isinstance(place, str)}


def _object(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file; nothing if it is no such file, which others tell of."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
