"""What the plugin's own tests share: small sweeps with pytester, and one finished run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck

pytest_plugins = ["pytester"]

# The same cases every time, and no verdict on how fast they are drawn.
hypothesis.settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

#: A sweep of nine cells that takes about two seconds once torch is imported.
SMALL = (
    "--sparsity-suite=accuracy",
    "--sparsity-model=tiny-random",
    "--sparsity-profile=smoke",
    "--sparsity-corpora=austen",
    "--sparsity-tasks=sva",
    "--sparsity-spon=off,mean_residual",
)


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Runs pytest, which is no worker of pytest-xdist although these tests may be in one.

    pytest-benchmark would take it for one and warn of that while pytest ends, where an exception
    leaves files open.
    """
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return pytester


@pytest.fixture(scope="session")
def sparsity_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that tests share: it holds the calibration of tiny-random."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell that put the tests aside has them ignore SIGINT, with all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _imported() -> None:
    """Heavy modules are imported once: pytester forgets what an in-process run imports."""
    import matplotlib.pyplot
    import transformers

    import pytest_sparsity.plugin.claim_check
    import pytest_sparsity.plugin.degradation
    import pytest_sparsity.reporting.picture
    import pytest_sparsity.reporting.summary
    import pytest_sparsity.sweep.propose
    import pytest_sparsity.sweep.sanity
    from pytest_sparsity.kernels import registry

    # The registry stays, and what registered in it must be found as well.
    registry.registered()
    _ = matplotlib.pyplot, pytest_sparsity, transformers.LlamaForCausalLM


class Sweep:
    """Runs pytest with the small grid, in this process or in one of its own."""

    def __init__(self, pytester: pytest.Pytester, cache: Path) -> None:
        self.pytester = pytester
        self.report = pytester.path / "sparsity-report"
        self.cache_option = f"--sparsity-cache={cache}"
        self._small = (*SMALL, self.cache_option)

    def here(self, *args: str) -> pytest.RunResult:
        """Run in this process; later options override the small grid's."""
        return self.pytester.runpytest_inprocess(*self._small, *args)

    def apart(self, *args: str) -> pytest.RunResult:
        """Run in a process of its own."""
        return self.pytester.runpytest_subprocess(*self._small, *args)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start a process of its own and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-mpytest", *self._small, *args],
            cwd=self.pytester.path,
            env={**os.environ, "HOME": str(self.pytester.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @staticmethod
    def reused(result: pytest.RunResult) -> int:
        """How many cells a run found measured already."""
        return len(re.findall(r"^\[ *\d+/\d+\] .*  reused(  eta .*)?$", result.stdout.str(), re.M))

    def records(self) -> dict[str, dict[str, Any]]:
        """The records of the report folder, by id."""
        return _read_records(self.report)

    @staticmethod
    def records_of(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The records in these lines, by id."""
        return _by_id(lines)


def _read_records(report: Path) -> dict[str, dict[str, Any]]:
    """The records of a report folder by id; of two with one id, the one with more data."""
    return _by_id((report / "records.jsonl").read_text().splitlines())


def _by_id(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        record = json.loads(line)
        before = found.get(record["id"])
        if before is None or len(json.dumps(record)) > len(json.dumps(before)):
            found[record["id"]] = record
    return found


@pytest.fixture
def read_records() -> Callable[[Path], dict[str, dict[str, Any]]]:
    """Reads the records of a report folder, by id."""
    return _read_records


@pytest.fixture
def sweep(pytester: pytest.Pytester, sparsity_cache: Path, _imported: None) -> Sweep:
    """Runs pytest with the small grid in a folder of the test's own."""
    return Sweep(pytester, sparsity_cache)


@pytest.fixture(scope="session")
def finished_report(tmp_path_factory: pytest.TempPathFactory, sparsity_cache: Path) -> Path:
    """The report folder of one undisturbed run of the small grid; copy it before use."""
    folder = tmp_path_factory.mktemp("finished")
    subprocess.run(
        [
            *(sys.executable, "-mpytest", *SMALL, "-q", "--sparsity-sweep", "-k", "within_budget"),
            *(f"--sparsity-cache={sparsity_cache}", "-W", "error", "-p", "no:cacheprovider"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return folder / "sparsity-report"


@pytest.fixture
def finished(sweep: Sweep, finished_report: Path) -> Sweep:
    """A sweep whose report folder holds a finished run already."""
    shutil.copytree(finished_report, sweep.report)
    return sweep


@pytest.fixture
def assert_refused() -> Callable[..., str]:
    """Asserts that a run ended with one sentence that holds every given word."""

    def check(result: pytest.RunResult, *words: str, status: int = 4) -> str:
        output = f"{result.stdout.str()}\n{result.stderr.str()}"
        assert "Traceback" not in output
        assert "INTERNALERROR" not in output
        assert result.ret == status, output
        sentences = [line for line in output.splitlines() if line.startswith("ERROR: ")]
        assert len(sentences) == 1, output
        for word in words:
            assert word in sentences[0]
        return sentences[0]

    return check


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A copy of tiny-random as save_pretrained writes it."""
    from pytest_sparsity.models.tiny import tiny_model, tiny_tokenizer

    folder = tmp_path / "saved"
    tiny_model(seed=1).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny() -> Any:
    """tiny-random in float32; tests that attach something take it off again."""
    from pytest_sparsity.models import load_model

    return load_model("tiny-random", dtype="float32")


@pytest.fixture(scope="session")
def wrapped() -> Callable[..., Any]:
    """Makes a language model of float32 and bytes for tokens of one of transformers."""
    import torch

    from pytest_sparsity.models import LanguageModel
    from pytest_sparsity.models.backbone import find_sites, use_linear_layers
    from pytest_sparsity.models.tiny import tensors_hash, tiny_tokenizer

    def wrap(model: Any, name: str, first_tokens: tuple[int, ...] = ()) -> Any:
        use_linear_layers(model)
        model.eval().requires_grad_(False)
        return LanguageModel(
            name=name,
            source=name,
            model=model,
            tokenizer=tiny_tokenizer(),
            weights_hash=tensors_hash(model),
            dtype=torch.float32,
            sites=find_sites(model),
            first_tokens=first_tokens,
        )

    return wrap


@pytest.fixture(scope="session")
def small_model(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """Makes float32 models of several families, with random weights and bytes for tokens."""
    import torch
    import transformers

    shape = {
        "vocab_size": 257,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 256,
        "eos_token_id": 256,
        "bos_token_id": 256,
        "attn_implementation": "sdpa",
    }
    wide = {"intermediate_size": 48}
    grouped = {**wide, "num_key_value_heads": 1, "head_dim": 16}
    windowed = {
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "sliding_window": 200,
    }
    own: dict[str, tuple[Any, dict[str, Any]]] = {
        "llama": (transformers.LlamaConfig, grouped),
        "mistral": (transformers.MistralConfig, grouped),
        "qwen2": (transformers.Qwen2Config, grouped),
        "qwen3": (transformers.Qwen3Config, grouped),
        "gemma2": (
            transformers.Gemma2Config,
            {**grouped, **windowed, "attn_implementation": "eager"},
        ),
        "gemma3": (transformers.Gemma3TextConfig, {**grouped, **windowed}),
        "arcee": (transformers.ArceeConfig, {**grouped, "hidden_act": "relu"}),
        "opt": (transformers.OPTConfig, {"ffn_dim": 48, "word_embed_proj_dim": 32}),
        "gpt_neox": (transformers.GPTNeoXConfig, wide),
        "gpt2": (transformers.GPT2Config, {"n_inner": 48}),
    }

    def make(family: str, **changes: Any) -> Any:
        kind, extra = own[family]
        config: Any = kind(**{**shape, **extra, **changes})
        model: Any = transformers.AutoModelForCausalLM.from_config(config)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                noise = torch.randn(parameter.shape, generator=generator)
                if parameter.ndim > 1:
                    parameter.copy_(noise / parameter.shape[1] ** 0.5)
                else:
                    parameter.copy_((not name.endswith("bias")) + 0.1 * noise)
        return wrapped(model, f"small-{family}", (256,) if family == "gemma3" else ())

    return make


@pytest.fixture
def in_threads() -> Callable[..., list[list[Any]]]:
    """``in_threads(call, n)``: what call(0) to call(n - 1) give, five times each.

    Each has a thread of its own, and all begin at once.
    """
    import torch

    def run(call: Callable[[int], Any], count: int) -> list[list[Any]]:
        found: list[list[Any]] = [[] for _ in range(count)]
        start = threading.Barrier(count)

        def repeat(number: int) -> None:
            torch.set_num_threads(1)
            start.wait()
            for _ in range(5):
                found[number].append(call(number))

        threads = [threading.Thread(target=repeat, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(each) for each in found] == [5] * count
        return found

    return run


@pytest.fixture
def own_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is known to that test only: others look at all kernels there are.

    The modules that registered it are forgotten as well, so that importing them registers again.
    """
    from pytest_sparsity.kernels import registry

    # All bundled ones are imported by now: what is imported later would be forgotten for good.
    monkeypatch.setattr(registry, "_KERNELS", known := dict(registry.registered()))
    before, modules = set(known), set(sys.modules)
    yield
    for id in known.keys() - before:
        if known[id].module not in modules:
            sys.modules.pop(known[id].module, None)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Runs the test's own forward passes on one thread, as the package runs its own."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def git_in() -> Callable[[Path], Callable[..., str]]:
    """Makes an empty repository of a folder, and gives what runs git in it."""
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")

    def make(folder: Path) -> Callable[..., str]:
        def run(*words: str) -> str:
            command = ["git", *identity, *words]
            done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            return done.stdout.strip()

        run("init", "-q", "-b", "main")
        return run

    return make
