from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.given.given import read_given
from pytest_sparsity.methods.given.teal import TealFiles
from pytest_sparsity.settings.options import KINDS

Folder = Callable[..., Path]
Told = Callable[..., Any]

#: 100 values: the outliers, one at each end, and 98 between -1 and 1.
COUNTS = torch.tensor([1.0, 24.0, 25.0, 25.0, 24.0, 1.0])
CENTERS = torch.tensor([-9.0, -0.75, -0.25, 0.25, 0.75, 9.0])

TABLE = """Effective Sparsity,Activation Error,Baseline Error,q,k,v,o,gate,up,down
0.1,1e-4,2e-4,0.0,0.0,0.0,0.0,0.0,0.0,0.3
0.2,1e-4,2e-4,0.0,0.2,0.0,0.0,0.0,0.0,0.5
0.3,1e-3,2e-3,0.05,0.2,0.1,0.0,0.0,0.4,0.5
"""


def teal(path: Path) -> TealFiles:
    found = read_given(path).teal
    assert found is not None
    return found


def write_tables(folder: Path, content: str = TABLE, layers: int = 3) -> Path:
    for layer in range(layers):
        place = folder / "lookup" / f"layer-{layer}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "results.csv").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("level", "threshold"),
    [
        (0.0, 0.0),
        # The quantile of .5 + .25 is at 75 of 100: that of the bin around 0.25 ends there.
        (0.5, 0.25),
        # 87 of 100: half of the way through the 24 between 0.25 and 0.75.
        (0.74, 0.5),
        (0.98, 0.75),
        # The quantile of .55 is between -0.25 and 0.25, at -0.15.
        (0.1, 0.0),
    ],
)
def test_thresholds_lie_between_the_middles_of_bins(
    level: float, threshold: float, teal_folder: Folder
) -> None:
    found = teal(teal_folder(COUNTS, CENTERS))
    assert found.layers == 3
    thresholds = found.thresholds(level)
    assert list(thresholds) == [f"{layer}.{kind}" for layer in range(3) for kind in KINDS]
    for site, value in thresholds.items():
        wider = 2 if site.endswith((".o", ".down")) else 1  # those read h2
        assert value == pytest.approx(wider * threshold, abs=1e-6), site


def test_where_few_values_are_negative(teal_folder: Folder) -> None:
    """As after ReLU: what TEAL does with them, whose sites lose more than they are to lose."""
    found = teal(teal_folder(torch.tensor([60.0, 20.0, 19.0, 1.0]), torch.arange(1.0, 5.0)))
    thresholds = [found.thresholds(level)["0.q"] for level in (0, 0.1, 0.2, 0.4, 0.6)]
    assert thresholds == pytest.approx([0, 1, 1, 1.5, 2], abs=1e-6)


def test_thresholds_are_quantiles(teal_folder: Folder) -> None:
    """Of a sample whose histogram is made as TEAL makes it; a negative median counts as zero."""
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).sort().values
    low, high = x[2000], x[-2000]
    bins = torch.cat([x[:1], torch.linspace(float(low), float(high), 9_999), x[-1:]])
    counts, _ = torch.histogram(x, bins=bins)
    found = teal(teal_folder(counts, (bins[:-1] + bins[1:]) / 2, layers=1))
    for level in (0.05, 0.25, 0.5, 0.9, 0.97):
        wanted = float(x.abs().quantile(level))
        assert found.thresholds(level)["0.q"] == pytest.approx(wanted, abs=0.01)


def test_outliers_have_no_threshold(teal_folder: Folder, told: Told) -> None:
    folder = teal_folder(COUNTS, CENTERS)
    found = teal(folder)
    file = folder / "histograms/layer-0/self_attn/histograms.pt"
    with told(file, "the threshold of 0.q for 0.99", "above 0.98 is one bin of outliers"):
        found.thresholds(0.99)
    with pytest.raises(ValueError, match=r"level 0\.99 is above 0\.98"):
        found.histograms["0.q"].threshold(0.99)


def test_the_folders_themselves_may_be_given(teal_folder: Folder) -> None:
    folder = write_tables(teal_folder(COUNTS, CENTERS, layers=12), layers=12)
    whole, part = teal(folder), teal(folder / "histograms")
    assert whole.thresholds(0.5) == part.thresholds(0.5)
    assert list(whole.thresholds(0.5))[::7] == [f"{layer}.q" for layer in range(12)]
    assert whole.tables is not None
    assert list(whole.tables) == list(range(12))
    assert part.tables is None


def test_the_nearest_row_counts(teal_folder: Folder) -> None:
    folder = write_tables(teal_folder(COUNTS, CENTERS))
    later = TABLE.replace("0.3,1e-3", "0.24,1e-3")
    (folder / "lookup/layer-2/results.csv").write_text(later)
    found = teal(folder)
    levels = found.levels(0.22)
    assert list(levels) == [f"{layer}.{kind}" for layer in range(3) for kind in KINDS]
    row = {"q": 0, "k": 0.2, "v": 0, "o": 0, "gate": 0, "up": 0, "down": 0.5}
    assert levels == {
        f"{layer}.{kind}": value for layer in range(2) for kind, value in row.items()
    } | {f"2.{kind}": value for kind, value in row.items()}  # of equally near ones the first
    assert found.levels(0.23)["2.up"] == 0.4
    assert set(found.levels(0).values()) == {0.0}
    assert found.levels(0.01)["0.down"] == 0.3
    assert found.levels(0.33)["0.up"] == 0.4  # no further off than rows are apart
    thresholds = found.planned_thresholds(0.22)
    uniform = found.thresholds(0.5)
    assert thresholds["1.down"] == uniform["1.down"] > 0
    assert thresholds["1.k"] == found.thresholds(0.2)["1.k"]
    assert thresholds["1.gate"] == 0


def test_beyond_a_table_is_told(teal_folder: Folder, told: Told) -> None:
    folder = write_tables(teal_folder(COUNTS, CENTERS))
    with told(folder / "lookup/layer-0/results.csv", "ends at 0.3, and level 0.41 is asked for"):
        teal(folder).levels(0.41)


def test_levels_that_real_tables_hold(teal_folder: Folder, told: Told) -> None:
    """The steps of small k and v are long: TEAL's table of Llama 3 has levels up to 6.4."""
    folder = write_tables(
        teal_folder(COUNTS, CENTERS), TABLE + "0.4,1e-3,2e-3,0.05,1.2,0.1,0.0,0.0,0.4,0.5\n"
    )
    found = teal(folder)
    assert found.levels(0.4)["0.k"] == 1.2
    with told("the threshold of 0.k for 1.2, its level where blocks lose 0.4"):
        found.planned_thresholds(0.4)


def test_without_tables_there_are_no_levels(teal_folder: Folder) -> None:
    found = teal(teal_folder(COUNTS, CENTERS))
    with pytest.raises(SparsityError, match=r"^--sparsity-predictors has .* no lookup/layer-0/"):
        found.levels(0.5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no column Effective Sparsity, q, k, v, o, gate, up, down"),
        (TABLE.replace(",up,", ",UP,"), "has no column up"),
        (TABLE.splitlines()[0], "has no rows"),
        (TABLE[:-9], "0.1,0.0,0.0' in line 4, and a number for every column"),
        (TABLE.replace("0.05", "five"), "in line 4, and a number for every column"),
        (TABLE.replace("0.05", "nan"), "negative or no number in line 4"),
        (TABLE.replace("0.05", "inf"), "negative or no number in line 4"),
        (TABLE.replace("0.05", "-0.05"), "negative or no number in line 4"),
        (b"\xff\xfe\0\1", "no table of text"),
    ],
)
def test_what_is_no_table_is_told(
    content: str | bytes, said: str, teal_folder: Folder, told: Told
) -> None:
    folder = write_tables(teal_folder(COUNTS, CENTERS))
    file = folder / "lookup/layer-1/results.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with told(file, said):
        read_given(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"h2": None}, "has no h2; it has h1, h1_centers, h2_centers"),
        ({"h1": COUNTS.long()}, "h1 in int64"),
        ({"h1": COUNTS[:5]}, "has 5 counts in h1 and 6 centres"),
        ({"h2": COUNTS[:2], "h2_centers": CENTERS[:2]}, "has 2 counts in h2"),
        ({"h1": COUNTS[None]}, "h1 of shape [1, 6]"),
        ({"h1": -COUNTS}, "negative counts in h1"),
        ({"h1": 0 * COUNTS}, "nothing but zeros"),
        ({"h2_centers": CENTERS.flip(0)}, "h2_centers that do not ascend"),
        ({"h2_centers": CENTERS / 0.0}, "6 values in h2_centers that are NaN or infinite"),
    ],
)
def test_what_is_no_histogram_is_told(
    change: dict[str, Any], said: str, teal_folder: Folder, told: Told
) -> None:
    folder = teal_folder(COUNTS, CENTERS)
    file = folder / "histograms/layer-1/mlp/histograms.pt"
    content = {name: COUNTS if len(name) == 2 else CENTERS for name in ("h1", "h2")}
    content |= {f"{name}_centers": CENTERS for name in ("h1", "h2")} | change
    torch.save({name: value for name, value in content.items() if value is not None}, file)
    with told(file, said):
        read_given(folder)


@pytest.mark.parametrize(
    ("missing", "parts"),
    [
        ("histograms/layer-1/mlp", ["TEAL's histograms of mlp of layer 2, but not of layer 1"]),
        ("histograms/layer-2/mlp", ["layer-2/self_attn", "of 3 layers", "of mlp of 2"]),
        ("histograms/layer-2/self_attn", ["layer-2/mlp", "of self_attn of 2"]),
        ("lookup/layer-2", ["layer-2/self_attn", "and tables of 2"]),
        ("lookup/layer-0", ["TEAL's table of layer 1, but not of layer 0"]),
        ("histograms", ["lookup/layer-0/results.csv stands alone", "self_attn of 0"]),
    ],
)
def test_what_is_missing_is_told(
    missing: str, parts: list[str], teal_folder: Folder, told: Told
) -> None:
    folder = write_tables(teal_folder(COUNTS, CENTERS))
    (folder / missing).rename(folder / "elsewhere")
    with told(*parts):
        read_given(folder)


def test_one_file_is_told_what_it_lacks(teal_folder: Folder, told: Told) -> None:
    file = teal_folder(COUNTS, CENTERS) / "histograms/layer-0/mlp/histograms.pt"
    with told(file, "stands alone", "self_attn of 0"):
        read_given(file)
