from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.methods.given.given import check_given, read_given
from pytest_sparsity.methods.given.gpu_index import write_gpu_index
from pytest_sparsity.models import LanguageModel

Folder = Callable[..., Path]
Told = Callable[..., Any]

CONFIG = json.dumps({"sparse_threshold": 0.5, "thresholds": [0.1, 0.2, 0.3]})


def histogram() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(5), torch.arange(5.0)


def fill(folder: Path, teal: Path, layers: int = 3, neurons: int = 160) -> Path:
    """Everything that can be in one folder, besides the predictors that are there."""
    write_gpu_index(folder / "m.gpuidx", {n: torch.ones(neurons) == 1 for n in range(layers)}, 1)
    (folder / "activation").mkdir()
    for n in range(layers):
        torch.save(torch.ones(neurons), folder / f"activation/activation_{n}.pt")
    shutil.copytree(teal, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(CONFIG)
    return folder


@pytest.fixture
def full(powerinfer_folder: Folder, teal_folder: Folder) -> Path:
    return fill(powerinfer_folder(), teal_folder(*histogram()))


def test_a_folder_may_hold_all(full: Path, model: LanguageModel) -> None:
    (full / "README.md").write_text("not read")
    (full / "optimizer.pt").write_text("not read")
    found = read_given(full)
    assert found.path == full
    assert found.kinds == {"powerinfer", "hot", "frequencies", "teal", "cats"}
    assert found.described == (
        "PowerInfer's predictors and a GPU index and the activity of neurons and TEAL's histograms "
        "and CATS' thresholds"
    )
    assert found.predictors is not None
    assert found.predictors.threshold == 0.5
    assert found.cats == (0.1, 0.2, 0.3)
    check_given(found, model)


def test_the_hash_is_of_names_and_contents(full: Path, tmp_path: Path) -> None:
    before = read_given(full).hash
    assert len(before) == 16
    assert int(before, 16) > 0
    moved = tmp_path / "moved"
    shutil.copytree(full, moved)
    (moved / "README.md").write_text("not read")
    assert read_given(moved).hash == before
    names = [str(file.relative_to(moved)) for file in moved.rglob("*") if file.is_file()]
    assert len(names) == 3 + 1 + 3 + 6 + 1 + 1
    for name in names:
        data = (moved / name).read_bytes()
        if name.endswith(".pt"):
            content = torch.load(moved / name)
            torch.save(_changed(content), moved / name)
        elif name == "m.gpuidx":
            # The capacity, which is the third key's value and 1.
            place = data.index(b"split.vram_capacity") + len("split.vram_capacity") + 4
            (moved / name).write_bytes(data[:place] + b"\2" + data[place + 1 :])
        elif name == "config.json":
            (moved / name).write_text(CONFIG + " ")
        assert (read_given(moved).hash == before) == (name == "README.md"), name
        (moved / name).write_bytes(data)
    assert read_given(moved).hash == before
    (moved / "m.gpuidx").rename(moved / "l.gpuidx")
    assert read_given(moved).hash != before


def _changed(content: Any) -> Any:
    if isinstance(content, torch.Tensor):
        return content + 1
    return {name: value + 1 for name, value in content.items()}


def test_layers_that_change_places_are_other_predictors(powerinfer_folder: Folder) -> None:
    folder = powerinfer_folder()
    before = read_given(folder).hash
    (folder / "model_1.pt").rename(folder / "x")
    (folder / "model_2.pt").rename(folder / "model_1.pt")
    (folder / "x").rename(folder / "model_2.pt")
    assert read_given(folder).hash != before


def test_one_file_is_enough(powerinfer_folder: Folder, told: Told) -> None:
    folder = powerinfer_folder()
    found = read_given(folder / "model_0.pt")
    assert found.predictors is not None
    assert list(found.predictors.layers) == [0]
    with told("of layer 1, but not of layer 0"):
        read_given(folder / "model_1.pt")


@pytest.mark.parametrize(
    "make",
    [
        lambda place: place.mkdir(),
        lambda place: place.write_text("text"),
        lambda place: place.write_bytes(b""),
        lambda place: (place / "models/a/histograms/layer-0/mlp").mkdir(parents=True),
    ],
    ids=["empty", "text", "nothing", "deeper"],
)
def test_nothing_known_lists_what_could_be_there(
    make: Callable[[Path], object], tmp_path: Path, told: Told
) -> None:
    place = tmp_path / "place"
    make(place)
    names = ("model_0.pt", "activation_0.pt", "*.gpuidx", "c4_layer0", "histograms/layer-0", "CATS")
    with told(place, "nothing that is known", *names):
        read_given(place)


def test_a_path_that_is_not_there_is_told(tmp_path: Path, told: Told) -> None:
    with told(tmp_path / "gone", "does not exist"):
        read_given(tmp_path / "gone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["model_0.pt", "m.gpuidx", "config.json"])
def test_what_may_not_be_read_is_told(name: str, full: Path, told: Told) -> None:
    (full / name).chmod(0)
    with told(full / name, "Permission denied"):
        read_given(full)


def test_a_folder_where_a_file_should_be_is_passed_over(full: Path) -> None:
    before = read_given(full).hash
    (full / "model_3.pt").mkdir()
    assert read_given(full).hash == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 2}, "has PowerInfer's predictors for 2 layers, and tiny-random has 3"),
        ({"layers": 11}, "has PowerInfer's predictors for 11 layers, and tiny-random has 3"),
        ({"hidden": 63}, "for layer 0 that reads 63 values, and the MLP of tiny-random reads 64"),
        ({"inner": 161}, "layer 0 with 161 neurons, and the MLP of tiny-random has 160"),
    ],
)
def test_predictors_of_another_model_are_told(
    change: dict[str, int],
    said: str,
    powerinfer_folder: Folder,
    model: LanguageModel,
    told: Told,
) -> None:
    found = read_given(powerinfer_folder(**change))
    with told(found.path, said):
        check_given(found, model)


def test_one_layer_of_another_model_is_told(
    powerinfer_folder: Folder, model: LanguageModel, told: Told
) -> None:
    folder = powerinfer_folder()
    content = {"fc1.weight": torch.zeros(4, 64), "fc2.weight": torch.zeros(159, 4)}
    torch.save(content, folder / "model_2.pt")
    with told("layer 2 with 159 neurons, and the MLP of tiny-random has 160"):
        check_given(read_given(folder), model)


@pytest.mark.parametrize("layers", [2, 4])
def test_other_kinds_of_another_model_are_told(
    layers: int, teal_folder: Folder, tmp_path: Path, model: LanguageModel, told: Told
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fill(folder, teal_folder(*histogram(), layers=layers), layers=layers)
    number = f"for {layers} layers, and tiny-random has 3"
    with told(f"has a GPU index {number}"):
        check_given(read_given(folder), model)
    (folder / "m.gpuidx").unlink()
    with told(f"has the activity of neurons {number}"):
        check_given(read_given(folder), model)
    shutil.rmtree(folder / "activation")
    with told(f"has TEAL's histograms {number}"):
        check_given(read_given(folder), model)
    (folder / "config.json").write_text(json.dumps({"thresholds": [0.1] * layers}))
    shutil.rmtree(folder / "histograms")
    with told(f"has CATS' thresholds {number}"):
        check_given(read_given(folder), model)


def test_other_numbers_of_neurons_are_told(
    teal_folder: Folder, tmp_path: Path, model: LanguageModel, told: Told
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fill(folder, teal_folder(*histogram()), neurons=150)
    with told("a GPU index for layer 0 with 150 neurons, and the MLP of tiny-random has 160"):
        check_given(read_given(folder), model)
    (folder / "m.gpuidx").unlink()
    with told("the activity for layer 0 with 150 neurons, and the MLP of tiny-random has 160"):
        check_given(read_given(folder), model)
