"""Names of compressions."""

from __future__ import annotations

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.compression.names import (
    KNOWN,
    PATTERNS,
    Scheme,
    canonical,
    in_file_name,
    parse,
)
from pytest_sparsity.reference import semi_structured


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("int8", Scheme("int8")),
        ("float32", Scheme("float32")),
        ("bfloat16", Scheme("bfloat16")),
        ("int4", Scheme("int4", group=64)),
        ("int4-32", Scheme("int4", group=32)),
        ("gptq4", Scheme("gptq4", group=64)),
        ("magnitude-0.5", Scheme("magnitude", share=0.5)),
        ("wanda-.25", Scheme("wanda", share=0.25)),
        ("wanda-2:4", Scheme("wanda", pattern=(2, 4))),
        ("sparsegpt-8:16", Scheme("sparsegpt", pattern=(8, 16))),
    ],
)
def test_parse(name, scheme):
    assert parse(name) == scheme
    assert parse(scheme.name) == scheme


def test_one_name_per_scheme():
    assert canonical("loaded") == "loaded"
    assert canonical("wanda-0.50") == canonical("wanda-.5") == "wanda-0.5"
    assert canonical("int4-64") == "int4"
    assert canonical("magnitude-0.0001") == "magnitude-0.0001"
    assert canonical("float32") == "float32"


def test_file_names_hold_no_colon():
    assert in_file_name("wanda-2:4") == "wanda-2of4"
    assert in_file_name("wanda-0.5") == "wanda-0.5"


@pytest.mark.parametrize(
    "name",
    [
        *("int3", "int8-64", "int4-", "int4-0", "int4--8", "int4-x", "gptq8", "Wanda-0.5", ""),
        *("float32-0.5", "float16", "bfloat16-"),
    ],
)
def test_unknown(name):
    with pytest.raises(SparsityError) as caught:
        parse(name)
    assert str(caught.value) == f"weights {name!r} are not known; use {KNOWN}"


@pytest.mark.parametrize(
    "name", ["wanda", "wanda-0", "wanda-0.0", "wanda-1", "wanda-1.5", "wanda--0.5", "wanda-3:4"]
)
def test_impossible_amount(name):
    with pytest.raises(SparsityError, match=r"wanda takes a share between 0 and 1 \(0.5\) or one"):
        parse(name)


def test_calibrated():
    assert [n for n in ("int8", "int4", "gptq4", "magnitude-0.5") if parse(n).calibrated] == [
        "gptq4"
    ]
    assert parse("wanda-2:4").calibrated
    assert parse("sparsegpt-0.5").calibrated


def test_patterns_are_those_of_the_reference():
    assert tuple(f"{n}:{m}" for n, m in semi_structured.PATTERNS) == PATTERNS
