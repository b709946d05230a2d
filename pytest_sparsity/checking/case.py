"""What makes one set of operands, small enough to print on a line."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from pytest_sparsity.core.errors import SparsityError

#: Of an option.
Value = bool | int | str | tuple[int, ...]

DTYPES = ("float32", "bfloat16", "float16")

#: Which channels are active, and what the activations are; see ``operands``.
PATTERNS = (
    "random",
    "all",
    "none",
    "one",
    "first",
    "last",
    "alternating",
    "blocks",
    "ties",
    "zeros",
    "denormal",
    "inexact",
    "rows_differ",
    "large",
    "infinite",
    "nan",
)

#: What the weights are: LLM-like, LLM-like and small, integers whose float32 sums are exact.
VALUES = ("normal", "small", "integer")

#: Where the weights lie in memory; ``best`` is what each op reads fastest.
LAYOUTS = (
    "best",
    "input_major",
    "output_major",
    "pitch",
    "column_slice",
    "offset",
    "strided",
)

#: Parameters that only some ops have, and what a value of each looks like.
OPTIONS: dict[str, type] = {
    "activation": str,
    "bits": int,
    "gate": bool,
    "group": int,
    "hidden": int,
    "hot": int,
    "nm": tuple,
    "sizes": tuple,
}


@dataclass(frozen=True)
class Case:
    """Everything that operands follow from; ``str(case)`` is a line that ``parse`` reads.

    Attributes:
        rows: of x.
        k: channels of x.
        n: outputs; for ``sparse_qkv`` the sum of ``sizes``.
        dtype: of x and of float weights.
        level: share of the channels that is inactive, 0 to 1, where the pattern leaves it open.
        pattern: one of ``PATTERNS``.
        values: one of ``VALUES``.
        layout: one of ``LAYOUTS``.
        bias: whether there is one.
        seed: of all that is random.
        options: names and values of ``OPTIONS`` that the op has; others are at their defaults.
    """

    rows: int
    k: int
    n: int
    dtype: str = "float32"
    level: float = 0.5
    pattern: str = "random"
    values: str = "normal"
    layout: str = "best"
    bias: bool = False
    seed: int = 0
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted(self.options)))
        for name, _ in self.options:
            if name not in OPTIONS:
                raise SparsityError(f"case: {name}: use one of {', '.join(OPTIONS)}")
        for name in ("rows", "k", "n"):
            if getattr(self, name) < 1:
                raise SparsityError(f"case: {name}={getattr(self, name)}: give at least 1")
        if not 0 <= self.level <= 1:
            raise SparsityError(f"case: level={self.level}: give 0 to 1")
        if self.seed < 0:
            raise SparsityError(f"case: seed={self.seed}: give at least 0")
        for name, known in (
            ("dtype", DTYPES),
            ("pattern", PATTERNS),
            ("values", VALUES),
            ("layout", LAYOUTS),
        ):
            if getattr(self, name) not in known:
                raise SparsityError(
                    f"case: {name}={getattr(self, name)}: use one of {', '.join(known)}"
                )

    def __str__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)[:-1]}
        shown = {name: v for name, v in values.items() if name in _ALWAYS or v != _DEFAULTS[name]}
        return " ".join(f"{name}={_text(v)}" for name, v in (*shown.items(), *self.options))

    def option(self, name: str, default: Any) -> Any:
        """The value of an op's own parameter."""
        return dict(self.options).get(name, default)

    def with_options(self, **values: Value) -> Case:
        """The same case with some of the op's own parameters set."""
        return replace(self, options=tuple((dict(self.options) | values).items()))

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case that prints as ``text``; what is not mentioned is at its default.

        Raises:
            SparsityError: a word is not ``name=value``, a name is unknown or given twice, or a
                value is impossible.
        """
        given: dict[str, Any] = {}
        options: dict[str, Value] = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals or name not in _TYPES:
                raise SparsityError(
                    f"case: {word!r} is not one of {', '.join(f'{known}=' for known in _TYPES)}"
                )
            home = options if name in OPTIONS else given
            if name in home:
                raise SparsityError(f"case: {name}= is given twice")
            home[name] = _value(name, value)
        missing = [name for name in ("rows", "k", "n") if name not in given]
        if missing:
            raise SparsityError(f"case: {', '.join(missing)} must be given, as in 'rows=1 k=5 n=3'")
        return cls(**given, options=tuple(options.items()))


_DEFAULTS = {field.name: field.default for field in fields(Case) if field.default is not MISSING}
#: Shown even at their defaults: what a reader asks first.
_ALWAYS = ("rows", "k", "n", "dtype", "level", "seed")
_EXAMPLES: dict[type, str] = {
    bool: "yes or no",
    float: "a number",
    int: "an integer",
    tuple: "integers as in 2:4",
}
_TYPES: dict[str, type] = {
    "rows": int,
    "k": int,
    "n": int,
    **{name: type(default) for name, default in _DEFAULTS.items() if name != "options"},
    **OPTIONS,
}


def _text(value: Value | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    return str(value)


def _value(name: str, text: str) -> Any:
    kind = _TYPES[name]
    try:
        if kind is bool:
            return {"yes": True, "no": False}[text]
        if kind is tuple:
            return tuple(int(part) for part in text.split(":"))
        return kind(text)
    except (KeyError, ValueError):
        raise SparsityError(f"case: {name}={text}: give {_EXAMPLES[kind]}") from None
