from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.methods.given.given import read_given
from pytest_sparsity.methods.given.gpu_index import write_gpu_index

Told = Callable[..., Any]
Values = dict[str, tuple[int, bytes]]

HOT = {0: [1, 0, 0, 1, 1], 1: [0, 0, 0, 0, 0], 2: [1, 1, 1, 1, 1]}


def text(content: str) -> bytes:
    return struct.pack("<Q", len(content)) + content.encode()


def keys(layers: int = 3) -> Values:
    """Name to number of its type and bytes of its value."""
    return {
        "general.architecture": (8, text("generic.gpu_index")),
        "generic.gpu_index.block_count": (4, struct.pack("<I", layers)),
        "split.vram_capacity": (10, struct.pack("<Q", 123)),
    }


def tensors(hot: dict[int, list[int]] = HOT) -> list[tuple[str, list[int]]]:
    found = []
    for layer, mask in hot.items():
        found.append((f"blk.{layer}.gpu_idx", mask))
        found.append((f"blk.{layer}.gpu_bucket", [n for n, hot in enumerate(mask) if hot]))
    return found


def gguf(
    values: Values | None = None,
    content: list[tuple[str, list[int]]] | None = None,
    *,
    magic: bytes = b"PWRI",
    version: int = 3,
    type: int = 18,
    axes: int = 1,
    alignment: int = 32,
) -> bytes:
    """A file by the GGUF specification; int32 had the number 18 when PowerInfer was made."""
    values = keys() if values is None else values
    content = tensors() if content is None else content
    header = magic + struct.pack("<IQQ", version, len(content), len(values))
    for key, (kind, value) in values.items():
        header += text(key) + struct.pack("<I", kind) + value
    data = b""
    for name, numbers in content:
        shape = [len(numbers), *[1] * (axes - 1)]
        header += text(name) + struct.pack(f"<I{axes}Q", axes, *shape)
        header += struct.pack("<IQ", type, len(data))
        data += struct.pack(f"<{len(numbers)}i", *numbers)
        data += bytes(-len(data) % alignment)
    return header + bytes(-len(header) % alignment) + data


def read(path: Path) -> dict[int, list[int]]:
    found = read_given(path)
    assert found.kinds == {"hot"}
    assert found.hot is not None
    assert {mask.dtype for mask in found.hot.values()} == {torch.bool}
    return {layer: mask.int().tolist() for layer, mask in found.hot.items()}


@pytest.mark.parametrize("type", [18, 26])
@pytest.mark.parametrize("magic", [b"PWRI", b"GGUF"])
def test_the_neurons_of_the_gpu(type: int, magic: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.powerinfer.gguf.generated.gpuidx"
    file.write_bytes(gguf(type=type, magic=magic))
    assert read(tmp_path) == read(file) == HOT


def test_a_file_of_another_name_is_known_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(gguf())
    assert read(tmp_path / "index") == HOT


def test_layers_above_nine(tmp_path: Path) -> None:
    hot = {n: [int(n == m) for m in range(12)] for n in range(12)}
    (tmp_path / "a.gpuidx").write_bytes(gguf(keys(12), tensors(hot)))
    assert list(read(tmp_path)) == list(range(12))
    assert read(tmp_path) == hot


def test_other_keys_are_passed_over(tmp_path: Path) -> None:
    number = struct.pack("<f", 0.5)
    values: Values = {
        "a.float": (6, number),
        "a.bool": (7, b"\1"),
        "a.double": (12, bytes(8)),
        "a.signed": (5, b"\xff\xff\xff\xff"),
        "an.array": (9, struct.pack("<IQ", 6, 3) + 3 * number),
        "an.array.of.text": (9, struct.pack("<IQ", 8, 2) + text("one") + text("two")),
        "general.alignment": (4, struct.pack("<I", 64)),
    }
    (tmp_path / "a.gpuidx").write_bytes(gguf(values | keys(), alignment=64))
    assert read(tmp_path) == HOT


def test_cut_off_anywhere_it_is_told(tmp_path: Path, told: Told) -> None:
    """Up to the last neuron of the last layer; what follows it is nothing but padding."""
    whole = gguf()
    file = tmp_path / "a.gpuidx"
    needed = len(whole) - (32 - 4 * 5)
    file.write_bytes(whole[:needed])
    assert read(file) == HOT
    for length in range(needed):
        file.write_bytes(whole[:length])
        with told(file, "copy this one again"):
            read_given(file)


def test_whatever_byte_is_damaged_it_is_read_or_told(tmp_path: Path, told: Told) -> None:
    whole = gguf()
    file = tmp_path / "a.gpuidx"
    fine = 0
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        try:
            with told(file):
                read_given(file)
        except pytest.fail.Exception:
            assert read(file) == HOT, place
            fine += 1
    # Padding, the capacity that we do not read, and names of keys that nobody asks for.
    assert 0 < fine < len(whole) // 2


def without(key: str) -> Values:
    return {name: value for name, value in keys().items() if name != key}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gguf(magic=b"GGML"), "begins with b'GGML' and not with b'PWRI'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "begins with b'vers'"),
        (gguf(version=2), "is of version 2 and not 3"),
        (gguf(keys() | {"general.architecture": (8, text("llama"))}), "architecture 'llama'"),
        (gguf(without("general.architecture")), "architecture None"),
        (gguf(keys(4)), "says that it has 4 layers and has 3"),
        (gguf(keys(0), []), "says that it has 0 layers and has 0"),
        (gguf(keys(), tensors()[:-1]), "has nothing where blk.2.gpu_bucket must be"),
        (gguf(keys(), tensors()[2:] + tensors()[:2]), "has blk.1.gpu_idx where blk.0.gpu_idx"),
        (gguf(type=0), "blk.0.gpu_idx of the type 0"),
        (gguf(axes=2), "shape [5, 1]"),
        (gguf(keys(1), [("blk.0.gpu_idx", [2]), ("blk.0.gpu_bucket", [0])]), "besides 0 and 1"),
        (gguf(keys(1), [("blk.0.gpu_idx", []), ("blk.0.gpu_bucket", [])]), "or none"),
        (
            gguf(keys(1), [("blk.0.gpu_idx", [1, 0]), ("blk.0.gpu_bucket", [1])]),
            "other neurons in blk.0.gpu_bucket",
        ),
        (gguf(keys() | {"a": (13, b"")}), "value of the unknown type 13"),
        (gguf(keys() | {"a": (9, struct.pack("<IQ", 9, 1))}), "value of the unknown type 9"),
        (gguf(keys() | {"general.alignment": (4, bytes(4))}), "has the alignment 0"),
        (gguf(keys() | {"a": (8, b"\xff" * 8)}), "before it is complete"),
        (gguf(keys() | {"a": (9, struct.pack("<IQ", 12, 2**63))}), "before it is complete"),
    ],
)
def test_what_is_no_index_is_told(content: bytes, said: str, tmp_path: Path, told: Told) -> None:
    file = tmp_path / "a.gpuidx"
    file.write_bytes(content)
    with told(file, said):
        read_given(file)


def test_a_model_is_no_index(tmp_path: Path, told: Told) -> None:
    file = tmp_path / "model.powerinfer.gguf"
    file.write_bytes(gguf({"general.architecture": (8, text("llama"))}))
    with told(file, "is of the architecture 'llama'", "*.generated.gpuidx"):
        read_given(file)


def test_of_two_indices_none_is_taken(tmp_path: Path, told: Told) -> None:
    for name in ("a.gpuidx", "b.gpuidx"):
        (tmp_path / name).write_bytes(gguf())
    with told(tmp_path, "a.gpuidx, b.gpuidx", "leave one"):
        read_given(tmp_path)


def test_what_is_written_is_the_documented_layout(tmp_path: Path) -> None:
    hot = {layer: torch.tensor(mask) == 1 for layer, mask in HOT.items()}
    write_gpu_index(tmp_path / "a.gpuidx", hot, 123)
    assert (tmp_path / "a.gpuidx").read_bytes() == gguf()
    assert read(tmp_path) == HOT


@pytest.mark.parametrize(
    ("hot", "said"),
    [
        ({1: torch.ones(3) == 1}, "without gaps"),
        ({0: torch.ones(3)}, "float32"),
        ({0: torch.ones(3, 1) == 1}, r"\[3, 1\]"),
    ],
)
def test_what_no_index_is_is_not_written(hot: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        write_gpu_index(tmp_path / "a.gpuidx", hot, 0)
    assert not list(tmp_path.iterdir())
