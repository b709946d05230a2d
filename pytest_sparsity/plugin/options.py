"""Declares the options to pytest and reads them.  Every session loads it, so it imports little."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity.core.errors import SparsityWarning
from pytest_sparsity.settings.options import OPTIONS, Option

if TYPE_CHECKING:
    from pytest_sparsity.settings.settings import Settings


def add_options(parser: pytest.Parser) -> None:
    """Declare every option, in one group, and its ini key."""
    group = parser.getgroup("sparsity", "sparse language models and kernels (pytest-sparsity)")
    for option in OPTIONS:
        text = option.help
        if option.of_profile:
            text += " (default: the profile's)"
        elif option.default is not None:
            text += f" (default: {option.default})"
        _add(parser, group, option, text)
        if option.former is not None:
            _add(parser, group, option.former, f"the former name of --sparsity-{option.name}")


def _add(parser: pytest.Parser, group: pytest.OptionGroup, option: Option, text: str) -> None:
    flag = f"--sparsity-{option.name}"
    text = text.replace("%", "%%")
    if option.flag:
        group.addoption(flag, dest=option.dest, action="store_true", default=None, help=text)
    else:
        bare: dict[str, Any] = {} if option.bare is None else {"nargs": "?", "const": option.bare}
        group.addoption(
            flag,
            dest=option.dest,
            action="append" if option.repeatable else "store",
            default=None,
            metavar=option.metavar,
            help=text,
            **bare,
        )
    if option.ini:
        kind = "bool" if option.flag else "linelist" if option.repeatable else "string"
        parser.addini(option.dest, f"default of {flag}", type=kind, default=None)  # type: ignore[arg-type]


def given(config: pytest.Config, option: Option) -> Any:
    """The option's value on the command line, else of its ini key; None if there is neither.

    The former name of an option is looked up if its present one is not given.
    """
    value = config.getoption(option.dest)
    if value is None and option.ini:
        found = config.getini(option.dest)
        value = None if found in ("", []) else found
    if value is None and option.former is not None:
        return given(config, option.former)
    return value


def any_given(config: pytest.Config) -> bool:
    """Whether any option of this plugin is given."""
    return any(given(config, option) is not None for option in OPTIONS)


def plan_asked(config: pytest.Config) -> bool:
    """Whether a sweep is to be planned, and not run."""
    return config.getoption("sparsity_plan") is not None


def read_settings(config: pytest.Config) -> Settings:
    """Read and check all options; what needs heavy imports is checked by the sweep.

    Raises:
        SparsityError: an option has a value it cannot have.
    """
    from pytest_sparsity.models.compression.names import chosen
    from pytest_sparsity.settings.settings import checked

    for option in OPTIONS:
        if option.former is not None and given(config, option.former) is not None:
            warnings.warn(
                SparsityWarning(
                    f"--sparsity-{option.formerly} is --sparsity-{option.name} now (ini key "
                    f"{option.dest}); the old name goes with the next release"
                ),
                stacklevel=2,
            )
    found = {option.name: given(config, option) for option in OPTIONS}
    told = {name: value for name, value in found.items() if value is not None}
    settings = checked(told, config.invocation_params.dir)
    return replace(settings, weights=chosen(",".join(settings.weights)))
