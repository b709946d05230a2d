"""What a source leads to, and whether it is what was read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_sparsity.checking import outcomes
from pytest_sparsity.checking.outcomes import OutcomeKeys
from pytest_sparsity.checking.source_files import SourceFiles
from pytest_sparsity.kernels.registry import kernel

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """``tree("a/b.py", text)``: writes a file, and returns its place."""

    def write(name: str, text: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def names(files: SourceFiles, *starts: Path) -> set[str]:
    return {path.name for path in files.reached(*starts)}


def test_imports_of_its_own_are_followed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree("pack_of_mine/__init__.py", "from pack_of_mine import first")
    tree("pack_of_mine/first.py")
    tree("pack_of_mine/inner/__init__.py")
    tree("pack_of_mine/inner/deep.py", "from ..other import thing\nfrom . import near")
    tree("pack_of_mine/inner/near.py")
    tree("pack_of_mine/other.py", "def f():\n    import pack_of_mine.late")
    tree("pack_of_mine/late.py")
    tree("pack_of_mine/unused.py")
    tree("pack_of_mine/types.py")
    start = tree(
        "start.py",
        "from typing import TYPE_CHECKING\nimport torch\nfrom importlib import import_module\n"
        "import beside\nimport pack_of_mine.inner.deep\nimport_module('named')\n"
        "if TYPE_CHECKING:\n    import pack_of_mine.types\n",
    )
    tree("beside.py")
    tree("named.py")
    monkeypatch.syspath_prepend(str(start.parent))
    files = SourceFiles(time.time())
    expected = {"start.py", "beside.py", "named.py", "__init__.py", "first.py", "deep.py"}
    assert names(files, start) == expected | {"near.py", "other.py", "late.py"}
    assert files.reached(start)[start].packages == {"torch"}


def test_a_module_of_a_package_is_run_after_its_packages(tree: Tree) -> None:
    tree("lib/__init__.py", "import lib.settings")
    module = tree("lib/kernels.py", "from .helper import f")
    tree("lib/helper.py")
    assert {"__init__.py", "kernels.py", "helper.py"} <= names(SourceFiles(0.0), module)


def test_files_that_a_source_names(tree: Tree) -> None:
    start = tree("k.py", "SOURCES = [HERE / 'csrc' / 'gemv.cu', HERE / 'table.json', 'gone.txt']")
    tree("csrc/gemv.cu", '#include <cuda.h>\n  #include "tiles.cuh"\n')
    tree("csrc/tiles.cuh")
    tree("csrc/other.cu")
    tree("table.json")
    assert names(SourceFiles(0.0), start) == {"k.py", "gemv.cu", "tiles.cuh", "table.json"}


def test_the_digest_is_of_contents_and_not_of_the_place(tree: Tree) -> None:
    one, two = (tree(f"{folder}/k.py", "import helper_of_k") for folder in ("one", "two"))
    tree("one/helper_of_k.py", "x = 1")
    helper = tree("two/helper_of_k.py", "x = 1")
    assert SourceFiles(0.0).digest(one) == SourceFiles(0.0).digest(two)
    helper.write_text("x = 2")
    assert SourceFiles(0.0).digest(one) != SourceFiles(0.0).digest(two)


def test_a_source_with_a_mistake_counts_as_it_is(tree: Tree) -> None:
    broken = tree("k.py", "def (:")
    before = SourceFiles(0.0).digest(broken)
    broken.write_text("def )")
    assert SourceFiles(0.0).digest(broken) != before


@pytest.mark.skipif(os.name != "posix", reason="st_ctime is when a file was made")
def test_what_changes_after_the_start_is_told(tree: Tree) -> None:
    start = tree("k.py", "import helper_of_k")
    helper = tree("helper_of_k.py")
    born = os.stat(helper).st_ctime
    assert SourceFiles(born - 10).changed(start) == start.resolve()  # younger than the start
    files = SourceFiles(born + 10)
    assert files.changed(start) is None
    text = helper.read_text()
    while os.stat(helper).st_ctime == born:
        helper.write_text(text)  # the same again: nobody knows what was there between
    assert files.changed(start) == helper.resolve()
    helper.unlink()
    assert files.changed(start) == helper.resolve()


def test_a_file_that_is_gone_before_it_is_read(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SourceFiles(0.0).digest(tmp_path / "k.py")
    assert SourceFiles(0.0).changed(tmp_path / "k.py") == tmp_path / "k.py"


def test_a_kernels_key_has_all_that_its_outcome_follows_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native, numba = kernel("sparse_linear/native"), kernel("sparse_linear/cpu")
    keys = OutcomeKeys()
    before = keys.key(native, 100, 0)
    assert before == OutcomeKeys().key(native, 100, 0)
    assert set(before["versions"]) >= {"python", "torch", "triton", "numpy", "hypothesis"}
    assert "numba" in keys.key(numba, 100, 0)["versions"]
    assert keys.key(numba, 100, 0)["sources"] != before["sources"]
    assert keys.key(native, 99, 0) != before != keys.key(native, 100, 1)
    for name in ("CXX", "TRITON_DEFAULT_FP_FUSION"):  # the source names one, a compiler the other
        with monkeypatch.context() as patched:
            patched.setenv(name, "1")
            assert keys.key(native, 100, 0)["environment"] == before["environment"] | {name: "1"}
    assert "CXX" not in keys.key(numba, 100, 0)["environment"]
    with monkeypatch.context() as patched:
        patched.setattr(outcomes, "_version", lambda name: "9")
        assert OutcomeKeys().key(native, 100, 0) != before


def test_the_key_of_a_kernel_is_made_of_files_of_its_own() -> None:
    """One kernel changes, and only that is checked again."""
    files = SourceFiles(0.0)
    reached = names(files, Path(kernel("compact/triton").file))
    assert "compact.py" in reached
    assert not {"sparse_linear.py", "sparse_swiglu.py"} & {
        path.name for path in files.reached(kernel("compact/triton").file) if "triton" in path.parts
    }


def test_the_checks_are_all_that_a_worker_runs() -> None:
    reached = SourceFiles(0.0).reached(*outcomes._CHECKING)
    folder = Path(outcomes.__file__).parent
    unused = {path.name for path in folder.rglob("*.py") if path.resolve() not in reached}
    # What is for the process that asks, and ops of others, which come with their modules.
    assert unused == {
        *("api.py", "declared.py", "open_ops.py", "outcomes.py", "source_files.py"),
        *("interpreted.py", "strategies.py"),
    }
