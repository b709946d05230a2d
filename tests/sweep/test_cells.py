"""Names of cells, and which of them the settings ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_sparsity.settings.settings import PROFILES
from pytest_sparsity.sweep import grid
from pytest_sparsity.sweep.cell import Cell, Configuration, level_text


@pytest.mark.parametrize(
    ("configuration", "id"),
    [
        (Configuration("smollm2-135m"), "smollm2-135m-dense"),
        (Configuration("m", "teal", 0.5), "m-teal-0.50"),
        (Configuration("m", "teal", 0.5, "trained"), "m-teal-0.50-spon"),
        (Configuration("m", "teal", 0.125, "mean_residual"), "m-teal-0.125-mean_residual"),
        (Configuration("m", "teal", 1, "off"), "m-teal-1.00"),
        (Configuration("m", weights="int4"), "m-int4-dense"),
        (Configuration("m", "teal", 0.5, "trained", "int4"), "m-int4-teal-0.50-spon"),
        (Configuration("m", "teal", 0.5, weights="wanda-2:4"), "m-wanda-2:4-teal-0.50"),
        (Configuration("m", "hot_only:model", 0.5), "m-hot_only:model-0.50"),
        (Configuration("m", "powerinfer:natural"), "m-powerinfer:natural"),
        (Configuration("m", "powerinfer:-1", 0.0, "trained"), "m-powerinfer:-1-spon"),
        (Configuration("m", "exact_zeros"), "m-exact_zeros"),
    ],
)
def test_configuration_id(configuration, id):
    assert configuration.id == id
    assert Cell(configuration, "task:sva").id == f"{id}-task:sva"


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (0.0, "0.00"),
        (0.5, "0.50"),
        (0.25, "0.25"),
        (0.125, "0.125"),
        (1 / 3, "0.3333333333333333"),
        (1.0, "1.00"),
        (1e-7, "1e-07"),
    ],
)
def test_level_text(level, text):
    assert level_text(level) == text
    assert float(text) == level


def test_parts_of_a_cell():
    cell = Cell(Configuration("m", "teal", 0.5, "trained"), "perplexity:austen")
    assert (cell.kind, cell.subject) == ("perplexity", "austen")
    assert cell.dense == Cell(Configuration("m"), "perplexity:austen")
    assert cell.without_spon.configuration == Configuration("m", "teal", 0.5)
    generation = Cell(Configuration("m"), "generation")
    assert (generation.kind, generation.subject) == ("generation", "")


def test_what_a_cell_with_compressed_weights_is_compared_with():
    cell = Cell(Configuration("m", "teal", 0.5, "trained", "int4"), "generation")
    assert cell.dense.configuration == Configuration("m")
    assert cell.weights_only.configuration == Configuration("m", weights="int4")
    assert cell.without_spon.configuration == Configuration("m", "teal", 0.5, weights="int4")
    found = [c.configuration.is_reference for c in (cell, cell.dense, cell.weights_only)]
    assert found == [False, True, False]


def test_grid_of_weights(settings):
    settings = replace(settings, weights=("int4", "loaded"), levels=(0.5,))
    assert [c.id for c in grid.configurations(settings, ["m"])] == [
        *("m-dense", "m-int4-dense", "m-int4-teal-0.50", "m-int4-teal-0.50-spon"),
        *("m-teal-0.50", "m-teal-0.50-spon"),
    ]
    assert grid.default_configuration(settings, "m").id == "m-int4-teal-0.50"


def test_a_method_with_a_cut_of_its_own_is_measured_once(settings):
    settings = replace(settings, methods=("powerinfer:natural", "exact_zeros", "powerinfer"))
    assert [c.id for c in grid.configurations(settings, ["m"]) if c.spon == "off"] == [
        "m-dense",
        "m-powerinfer:natural",
        "m-exact_zeros",
        "m-powerinfer-0.40",
        "m-powerinfer-0.50",
    ]
    assert grid.default_configuration(settings, "m").id == "m-powerinfer:natural"


def test_grid_order(settings):
    assert [c.id for c in grid.configurations(settings, ["a", "b"])] == [
        f"{model}-{rest}"
        for model in "ab"
        for rest in ("dense", "teal-0.40", "teal-0.40-spon", "teal-0.50", "teal-0.50-spon")
    ]


def test_grid_cells(settings):
    cells = grid.cells(settings, ["m"])
    assert len(cells) == len(set(cells)) == 5 * 3
    assert [c.evaluation for c in cells[:3]] == ["perplexity:austen", "task:sva", "generation"]
    assert len({cell.id for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("levels", "methods", "id"),
    [
        ((0.25, 0.5), ("teal",), "m-teal-0.50"),
        ((0.25, 0.4), ("teal",), "m-teal-0.25"),
        ((0.5,), ("x", "teal"), "m-x-0.50"),
        ((0.5,), (), "m-dense"),
    ],
)
def test_default_configuration(settings, levels, methods, id):
    settings = replace(settings, levels=levels, methods=methods)
    assert grid.default_configuration(settings, "m").id == id


@pytest.mark.parametrize(
    ("evaluation", "units"),
    [
        ("perplexity:austen", 32),
        ("divergence:gsm8k", 32),  # texts, as documents are
        ("task:sva", 100),
        ("answer_likelihood:chain_sums", 100),
        ("generation", 8),
    ],
)
def test_what_one_draw_has(evaluation: str, units: int) -> None:
    assert Cell(Configuration("m"), evaluation).units(PROFILES["quick"].sizes) == units
