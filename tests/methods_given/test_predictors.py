from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.given import deja_vu, powerinfer
from pytest_sparsity.methods.given.given import read_given
from pytest_sparsity.methods.given.powerinfer import write_predictors

Folder = Callable[..., Path]
Told = Callable[..., Any]


def pair(rank: int = 4, hidden: int = 6, inner: int = 10) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return {
        "fc1.weight": torch.randn(rank, hidden, generator=generator),
        "fc2.weight": torch.randn(inner, rank, generator=generator),
    }


def test_layers_are_those_of_the_numbers(powerinfer_folder: Folder) -> None:
    folder = powerinfer_folder(layers=12, inner=10, hidden=6)
    found = read_given(folder).predictors
    assert found is not None
    assert (found.rule, found.threshold) == ("powerinfer", None)
    assert list(found.layers) == list(range(12))  # and not 0, 1, 10, 11, 2
    for layer, (first, second) in found.layers.items():
        assert first.shape == (4, 6)
        assert second.shape == (10, 4)
        assert first.dtype == second.dtype == torch.float16
        assert first.unique().tolist() == [layer]
        assert second.unique().tolist() == [-layer]


@pytest.mark.parametrize(
    ("content", "threshold"),
    [
        ('{"sparse_threshold": -1}', -1.0),
        ('{"sparse_threshold": 0, "hidden_size": 64}', 0.0),
        ('{"sparse_threshold": null}', None),
        ('{"hidden_size": 64}', None),
    ],
)
def test_the_threshold_is_that_of_the_config(
    content: str, threshold: float | None, powerinfer_folder: Folder
) -> None:
    folder = powerinfer_folder()
    without = read_given(folder)
    (folder / "config.json").write_text(content)
    found = read_given(folder)
    assert found.predictors is not None
    assert found.predictors.threshold == threshold
    assert (found.hash != without.hash) == (threshold is not None)


@pytest.mark.parametrize(
    "content", ['"0"', "true", "NaN", "-Infinity", "[0]", "1" + "0" * 400], ids=lambda c: c[:9]
)
def test_a_threshold_is_a_finite_number(
    content: str, powerinfer_folder: Folder, told: Told
) -> None:
    folder = powerinfer_folder()
    (folder / "config.json").write_text(f'{{"sparse_threshold": {content}}}')
    with told(folder / "config.json", "sparse_threshold", "finite number"):
        read_given(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "not JSON"), ("[1]", "a list where an object"), ("\udcff", "not JSON")],
    ids=["cut", "list", "bytes"],
)
def test_a_config_is_an_object(
    content: str, said: str, powerinfer_folder: Folder, told: Told
) -> None:
    folder = powerinfer_folder()
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with told(folder / "config.json", said):
        read_given(folder)


def test_a_layer_that_is_missing_is_named(powerinfer_folder: Folder, told: Told) -> None:
    folder = powerinfer_folder(layers=12)
    (folder / "model_7.pt").unlink()
    with told(folder, "PowerInfer's predictor of layer 8, but not of layer 7"):
        read_given(folder)


def test_a_layer_that_is_there_twice_is_named(powerinfer_folder: Folder, told: Told) -> None:
    folder = powerinfer_folder()
    (folder / "model_01.pt").write_bytes((folder / "model_1.pt").read_bytes())
    with told("layer 1 twice", folder / "model_1.pt", folder / "model_01.pt"):
        read_given(folder)


def test_hidden_files_are_none(powerinfer_folder: Folder) -> None:
    folder = powerinfer_folder()
    before = read_given(folder).hash
    (folder / "._model_0.pt").write_bytes(b"\0\5\26\7")
    (folder / "._c4_layer0.pt").write_bytes(b"\0\5\26\7")
    assert read_given(folder).hash == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fc1.bias": torch.zeros(4)}, "holds fc1.bias besides fc1.weight and fc2.weight"),
        ({"fc3.weight": torch.zeros(4, 4)}, "holds fc3.weight besides"),
        ({"fc2.weight": None}, "has no fc2.weight; it has fc1.weight"),
        ({"fc1.weight": torch.zeros(4)}, "fc1.weight of shape [4], and 2 axes"),
        ({"fc1.weight": torch.zeros(0, 6)}, "fc1.weight of shape [0, 6]"),
        ({"fc1.weight": torch.zeros(4, 6, dtype=torch.int64)}, "fc1.weight in int64"),
        ({"fc1.weight": torch.zeros(4, 6, dtype=torch.bool)}, "fc1.weight in bool"),
        ({"fc1.weight": torch.zeros(4, 6, dtype=torch.complex64)}, "fc1.weight in complex64"),
        ({"fc1.weight": torch.eye(4).to_sparse()}, "no plain tensor fc1.weight"),
        ({"fc1.weight": torch.zeros(4, 6, device="meta")}, "no plain tensor fc1.weight"),
        ({"fc1.weight": torch.zeros(4, 6).to(torch.float8_e4m3fn)}, "fc1.weight in float8_e4m3fn"),
        ({"fc1.weight": [1.0]}, "no plain tensor fc1.weight (a list)"),
        ({"fc1.weight": torch.zeros(5, 6)}, "5 and 4 should be the same rank"),
        ({"fc2.weight": torch.tensor([[float("nan")] * 4])}, "4 values in fc2.weight"),
        ({"fc2.weight": torch.tensor([[1.0, 2.0, float("inf"), 0.0]])}, "1 values in fc2.weight"),
    ],
)
def test_what_no_predictor_holds_is_told(
    change: dict[str, Any], said: str, tmp_path: Path, told: Told
) -> None:
    file = tmp_path / "model_0.pt"
    content = {name: value for name, value in (pair() | change).items() if value is not None}
    torch.save(content, file)
    with told(file, said):
        read_given(tmp_path)


def saved(content: object, path: Path) -> bytes:
    torch.save(content, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda _: b"", "is not a file of tensors"),
        (lambda _: b"not tensors, just text " * 9, "is not a file of tensors"),
        (lambda path: saved(pair(), path)[:700], "is not a file of tensors"),
        (lambda path: saved(pair(), path)[:-30], "is not a file of tensors"),
        (lambda _: pickle.dumps({"fc1.weight": 1}), "is not a file of tensors"),
        (lambda path: saved(torch.zeros(3), path), "holds a Tensor and no dictionary"),
        (lambda path: saved({"a": Path("b")}, path), "holds a pathlib."),
        (lambda path: saved(nn.Linear(2, 2), path), "nn.modules.linear.Linear, and only plain"),
        (
            lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "is a pointer of Git LFS",
        ),
    ],
    ids=["empty", "text", "cut", "end", "pickle", "tensor", "object", "module", "pointer"],
)
def test_a_damaged_or_foreign_file_is_told(
    content: Callable[[Path], bytes], said: str, tmp_path: Path, told: Told
) -> None:
    file = tmp_path / "model_0.pt"
    file.write_bytes(content(file))
    with told(file, said):
        read_given(tmp_path)


def test_a_link_to_nothing_is_told(powerinfer_folder: Folder, told: Told) -> None:
    """As in a hub's cache whose download was not finished."""
    folder = powerinfer_folder()
    (folder / "model_3.pt").symlink_to(folder / "blob")
    with told(folder / "model_3.pt", "No such file"):
        read_given(folder)


def test_code_in_a_file_is_not_run(tmp_path: Path, told: Told) -> None:
    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"fc1.weight": Bad()}, tmp_path / "model_0.pt")
    with told("only plain tensors are loaded"):
        read_given(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("threshold", [None, 0.0, -0.5])
def test_what_is_written_is_read(threshold: float | None, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    layers = {
        n: (
            nn.Parameter(torch.randn(20, 6, generator=generator).half())[: 4 + n],  # a view
            torch.randn(4 + n, 10, generator=generator).bfloat16().T,  # a view
        )
        for n in range(11)
    }
    write_predictors(tmp_path, layers, threshold)
    content = torch.load(tmp_path / "model_10.pt", weights_only=True)
    assert list(content) == ["fc1.weight", "fc2.weight"]
    for tensor in content.values():  # the engine's converter reads nothing else
        assert type(tensor) is torch.Tensor
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
    assert (tmp_path / "config.json").exists() == (threshold is not None)
    if threshold is not None:
        assert json.loads((tmp_path / "config.json").read_text()) == {"sparse_threshold": threshold}
    found = read_given(tmp_path).predictors
    assert found is not None
    assert found.threshold == threshold
    assert list(found.layers) == list(layers)
    for layer, (first, second) in found.layers.items():
        assert torch.equal(first, layers[layer][0])
        assert torch.equal(second, layers[layer][1])
        assert (first.dtype, second.dtype) == (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("other", ["model_1.pt", "config.json", "c4_layer0.pt"])
def test_nothing_is_written_among_other_predictors(other: str, tmp_path: Path) -> None:
    (tmp_path / other).write_text("{}")
    with pytest.raises(SparsityError, match=rf"{other} is there already .*; choose an empty"):
        write_predictors(tmp_path, {0: (torch.zeros(4, 6), torch.zeros(10, 4))})
    assert [file.name for file in tmp_path.iterdir()] == [other]


def test_what_is_written_again_replaces(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        write_predictors(tmp_path, {0: (torch.full((4, 6), value), torch.zeros(10, 4))}, value)
    found = read_given(tmp_path).predictors
    assert found is not None
    assert found.threshold == 2.0
    assert float(found.layers[0][0][0, 0]) == 2.0


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({1: (torch.zeros(4, 6), torch.zeros(10, 4))}, "from 0 without gaps"),
        ({0: (torch.zeros(4, 6), torch.zeros(10, 5))}, r"\[4, 6\] .* \[10, 5\]"),
        ({0: (torch.zeros(4), torch.zeros(10, 4))}, r"\[4\]"),
        ({0: (torch.zeros(4, 6).double(), torch.zeros(10, 4))}, "float64"),
    ],
)
def test_what_no_predictor_is_is_not_written(layers: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        write_predictors(tmp_path / "new", layers)
    assert not (tmp_path / "new").exists()


def sequential(hidden: int = 6, inner: int = 10, bias: bool = False) -> dict[str, torch.Tensor]:
    """What Deja Vu's training saves."""
    return nn.Sequential(
        nn.Linear(hidden, 4, bias=bias), nn.Linear(4, inner, bias=bias)
    ).state_dict()


def test_deja_vu(tmp_path: Path) -> None:
    written = {n: sequential() for n in range(12)}
    for n, content in written.items():
        torch.save(content, tmp_path / f"c4_layer{n}_-0.9{n}-1200.pt")
        torch.save(sequential(inner=2), tmp_path / f"c4_att_layer{n}_-0.9.pt")
        torch.save(sequential(inner=2), tmp_path / f"c4_att_k_0.3_layer{n}_-0.9-4.pt")
    found = read_given(tmp_path).predictors
    assert found is not None
    assert (found.rule, found.threshold) == ("deja_vu", None)
    assert list(found.layers) == list(range(12))  # "c4_layer1*" would be layers 10 and 11, too
    for n, (first, second) in found.layers.items():
        assert torch.equal(first, written[n]["0.weight"])
        assert torch.equal(second, written[n]["1.weight"])
        assert first.dtype == torch.float32


@pytest.mark.parametrize(
    "name", ["c4_layer0.pt", "c4_0.5_layer0_-0.9600-800.pt", "wiki_layer00.pt"]
)
def test_names_of_deja_vu(name: str, tmp_path: Path) -> None:
    torch.save(sequential(), tmp_path / name)
    assert list(deja_vu.find(tmp_path)) == [0]
    assert list(deja_vu.find(tmp_path / name)) == [0]
    assert powerinfer.find(tmp_path) == {}


def test_of_two_files_for_a_layer_none_is_taken(tmp_path: Path, told: Told) -> None:
    for name in ("c4_layer0-0.95.pt", "c4_layer0-0.97.pt", "c4_layer1-0.96.pt"):
        torch.save(sequential(), tmp_path / name)
    with told("Deja Vu's predictor of layer 0 twice", "c4_layer0-0.95.pt", "c4_layer0-0.97.pt"):
        read_given(tmp_path)


def test_a_bias_of_deja_vu_is_told(tmp_path: Path, told: Told) -> None:
    torch.save(sequential(bias=True), tmp_path / "c4_layer0.pt")
    with told(tmp_path / "c4_layer0.pt", "holds 0.bias, 1.bias besides 0.weight and 1.weight"):
        read_given(tmp_path)


def test_both_rules_in_one_folder_are_told(powerinfer_folder: Folder, told: Told) -> None:
    folder = powerinfer_folder()
    torch.save(sequential(), folder / "c4_layer0.pt")
    with told(folder, "model_0.pt", "c4_layer0.pt", "different rules"):
        read_given(folder)
