"""Names of weight compressions, and what they mean; nothing heavy is imported to read options."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.settings.parsing import names

LOADED = "loaded"
#: Outputs that share a scale in four bits, if the name does not say.
GROUP = 64
PRUNED = ("magnitude", "wanda", "sparsegpt")
#: The whole model in another dtype, embeddings and head included.
CASTS = ("float32", "bfloat16")
#: As in ``reference.semi_structured``, which imports torch.
PATTERNS = ("2:4", "4:8", "8:16")
#: Those that look at activations, and so need calibration text.
CALIBRATED = ("gptq4", "wanda", "sparsegpt")
KNOWN = (
    f"{LOADED}, int8, int4 or int4-GROUP, gptq4 or gptq4-GROUP, {', '.join(CASTS)}, and "
    f"{', '.join(PRUNED)} with a share (wanda-0.5) or a pattern (wanda-2:4)"
)


@dataclass(frozen=True)
class Scheme:
    """One way to compress weights.

    Attributes:
        kind: ``int8``, ``int4``, ``gptq4``, or one of ``PRUNED`` or ``CASTS``.
        group: outputs that share a scale; 0 where that does not apply.
        share: of the weights that is zeroed; 0 where that does not apply.
        pattern: (n, m): n of m consecutive inputs are kept; None where that does not apply.
    """

    kind: str
    group: int = 0
    share: float = 0.0
    pattern: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The one name of this scheme: ``int4``, ``wanda-0.5``, ``wanda-2:4``."""
        if self.pattern is not None:
            return f"{self.kind}-{self.pattern[0]}:{self.pattern[1]}"
        if self.share:
            return f"{self.kind}-{self.share!r}"
        return self.kind if self.group in (0, GROUP) else f"{self.kind}-{self.group}"

    @property
    def calibrated(self) -> bool:
        """Whether it needs calibration text."""
        return self.kind in CALIBRATED


def parse(name: str) -> Scheme:
    """What ``name`` means.

    Raises:
        SparsityError: there is no such compression.
    """
    kind, dash, argument = name.partition("-")
    if kind in ("int8", *CASTS) and not dash:
        return Scheme(kind)
    if kind in ("int4", "gptq4") and not dash:
        return Scheme(kind, GROUP)
    if kind in ("int4", "gptq4") and re.fullmatch(r"[1-9]\d*", argument):
        return Scheme(kind, int(argument))
    if kind in PRUNED and argument in PATTERNS:
        n, _, m = argument.partition(":")
        return Scheme(kind, pattern=(int(n), int(m)))
    if kind in PRUNED and re.fullmatch(r"0?\.\d{1,4}", argument) and float(argument):
        return Scheme(kind, share=float(argument))
    if kind in PRUNED:
        fix = f"a share between 0 and 1 (0.5) or one of the patterns {', '.join(PATTERNS)}"
        raise SparsityError(f"weights {name!r}: {kind} takes {fix}")
    raise SparsityError(f"weights {name!r} are not known; use {KNOWN}")


def in_file_name(name: str) -> str:
    """The name of a compression as a part of file names, which cannot hold a colon everywhere."""
    return name.replace(":", "of")


def canonical(name: str) -> str:
    """The one name of the same weights: ``wanda-0.5`` for ``wanda-0.50``.

    Raises:
        SparsityError: there is no such compression.
    """
    return LOADED if name == LOADED else parse(name).name


def chosen(text: str) -> tuple[str, ...]:
    """The compressions of ``--sparsity-weights`` by their one name, each once, as ordered.

    Raises:
        SparsityError: there is no such compression, or an entry is empty.
    """
    try:
        return tuple(dict.fromkeys(canonical(part) for part in names("weights", text)))
    except SparsityError as error:
        if str(error).startswith("--sparsity-weights"):
            raise
        raise SparsityError(f"--sparsity-weights {text!r}: {error}") from error
