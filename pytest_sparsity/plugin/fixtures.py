"""The fixtures.  Heavy imports happen inside them, when a test first asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from pytest_sparsity.plugin.state import state_of

if TYPE_CHECKING:
    from pytest_sparsity.evaluation.corpora import Corpus
    from pytest_sparsity.models import LanguageModel
    from pytest_sparsity.plugin.accuracy_gate import AccuracyGate
    from pytest_sparsity.plugin.claim_check import ClaimCheck
    from pytest_sparsity.plugin.degradation import Degradation
    from pytest_sparsity.plugin.kernel_check import KernelCheck
    from pytest_sparsity.plugin.known_outcomes import KnownOutcomes
    from pytest_sparsity.plugin.paired_benchmark import PairedBenchmark
    from pytest_sparsity.plugin.speed_gate import SpeedGate, Timing
    from pytest_sparsity.settings.settings import Settings
    from pytest_sparsity.sweep.cell import Cell, Configuration
    from pytest_sparsity.sweep.record import Record
    from pytest_sparsity.sweep.session import SweepSession
    from pytest_sparsity.targets import HardwareTarget


@pytest.fixture(scope="session")
def sparsity_settings(request: pytest.FixtureRequest) -> Settings:
    """All --sparsity-* options, checked."""
    return state_of(request.config).settings


@pytest.fixture(scope="session")
def hardware_target(sparsity_settings: Settings) -> HardwareTarget:
    """The machine that models run on, as --sparsity-target says."""
    from pytest_sparsity.targets import resolve_target

    return resolve_target(sparsity_settings.target)


@pytest.fixture(scope="session")
def sparsity_session(request: pytest.FixtureRequest) -> SweepSession:
    """Models, text, records and budgets of this session."""
    return state_of(request.config).session


@pytest.fixture(scope="session")
def _sparsity_point(request: pytest.FixtureRequest) -> Configuration:
    """Where a test runs: parametrize.py chooses dense points or the whole grid."""
    return cast("Configuration", request.param)


@pytest.fixture(scope="session")
def sparsity_configuration(_sparsity_point: Configuration) -> Configuration:
    """The model, weights, method, level and SPON setting under test.

    One default configuration without --sparsity-sweep, the whole grid with it.
    """
    return _sparsity_point


@pytest.fixture(scope="session")
def sparsity_cell(request: pytest.FixtureRequest) -> Cell:
    """One evaluation of one configuration."""
    return cast("Cell", request.param)


@pytest.fixture(scope="session")
def dense_model(_sparsity_point: Configuration, sparsity_session: SweepSession) -> LanguageModel:
    """The dense model of the configuration under test, as it was loaded."""
    return sparsity_session.models.load(_sparsity_point.model)


@pytest.fixture(scope="session")
def sparse_model(
    sparsity_configuration: Configuration, sparsity_session: SweepSession
) -> Iterator[LanguageModel]:
    """The model under test, sparsified, its weights compressed if asked; a twin of dense_model."""
    from pytest_sparsity.methods.attach import sparsify
    from pytest_sparsity.methods.spon.library import MissingVectors

    configuration, session = sparsity_configuration, sparsity_session
    twin = session.weights.model(configuration.model, configuration.weights).twin()
    if configuration.method == "dense":
        yield twin
        return
    try:
        plan = session.plans.plan(configuration)
    except MissingVectors as missing:
        pytest.skip(str(missing))
    with sparsify(twin, plan):
        yield twin


@pytest.fixture(scope="session")
def sparsity_level(sparsity_configuration: Configuration) -> float:
    """Target fraction of zeroed activations, 0 for dense."""
    return sparsity_configuration.level


@pytest.fixture(scope="session")
def sparsity_method(sparsity_configuration: Configuration) -> str:
    """How activations to skip are chosen: dense, teal, ..."""
    return sparsity_configuration.method


@pytest.fixture(scope="session")
def spon_setting(sparsity_configuration: Configuration) -> str:
    """Spontaneous neurons: off, mean_residual or trained."""
    return sparsity_configuration.spon


@pytest.fixture(scope="session")
def calibration_corpus(sparsity_session: SweepSession) -> Corpus:
    """Text for thresholds and training, disjoint from evaluation by document hash."""
    return sparsity_session.texts.calibration_corpus


@pytest.fixture(scope="session")
def evaluation_corpus(request: pytest.FixtureRequest, sparsity_session: SweepSession) -> Corpus:
    """Text for evaluation: the first corpus, or every corpus in a sweep."""
    return sparsity_session.texts.evaluation_corpus(request.param)


@pytest.fixture
def degradation(
    request: pytest.FixtureRequest,
    sparsity_configuration: Configuration,
    sparsity_session: SweepSession,
) -> Degradation:
    """Measures the configuration under test against dense, and asserts limits."""
    from pytest_sparsity.plugin.degradation import Degradation

    return Degradation(sparsity_session, sparsity_configuration, request.node)


@pytest.fixture
def cell_degradation(
    request: pytest.FixtureRequest, sparsity_cell: Cell, sparsity_session: SweepSession
) -> Degradation:
    """Like degradation, for the configuration of sparsity_cell."""
    from pytest_sparsity.plugin.degradation import Degradation

    return Degradation(sparsity_session, sparsity_cell.configuration, request.node)


@pytest.fixture(scope="session")
def stored_record(request: pytest.FixtureRequest) -> Record | None:
    """A record of the stored run, one after the other; None if there is none."""
    return cast("Record | None", request.param)


@pytest.fixture
def accuracy_gate(
    request: pytest.FixtureRequest,
    sparsity_session: SweepSession,
    sparsity_settings: Settings,
) -> AccuracyGate:
    """Holds cells of this run against those of a stored run."""
    from pytest_sparsity.plugin.accuracy_gate import AccuracyGate

    return AccuracyGate(sparsity_session, sparsity_settings, request.node)


@pytest.fixture(scope="session")
def _sparsity_timing(
    sparsity_settings: Settings, hardware_target: HardwareTarget
) -> Iterator[Timing]:
    """The processes in which kernels are timed, and the lock of the device."""
    from pytest_sparsity.plugin.speed_gate import Timing

    timing = Timing(sparsity_settings, hardware_target)
    yield timing
    timing.close()


@pytest.fixture
def speed_gate(request: pytest.FixtureRequest, _sparsity_timing: Timing) -> SpeedGate:
    """Holds the speed of a registered kernel as --sparsity-gate says: ``speed_gate("op/name")``."""
    from pytest_sparsity.plugin.speed_gate import SpeedGate

    return SpeedGate(_sparsity_timing, request.node)


@pytest.fixture
def paired_benchmark(request: pytest.FixtureRequest, _sparsity_timing: Timing) -> PairedBenchmark:
    """Times functions side by side: ``paired_benchmark({"mine": f, "theirs": g})``."""
    from pytest_sparsity.plugin.paired_benchmark import PairedBenchmark

    return PairedBenchmark(_sparsity_timing, request.node)


@pytest.fixture
def sparsity_claim(
    request: pytest.FixtureRequest,
    sparsity_session: SweepSession,
    paired_benchmark: PairedBenchmark,
) -> ClaimCheck:
    """A claim about one model, one after the other: ``sparsity_claim.check()`` judges it."""
    from pytest_sparsity.plugin.claim_check import ClaimCheck

    number, model = request.param
    return ClaimCheck(number, model, sparsity_session, paired_benchmark, request.node)


@pytest.fixture(scope="session")
def _sparsity_known_outcomes(sparsity_settings: Settings) -> KnownOutcomes:
    """What an earlier run found of kernels."""
    from pytest_sparsity.plugin.known_outcomes import KnownOutcomes

    return KnownOutcomes(sparsity_settings)


@pytest.fixture
def kernel_check(
    request: pytest.FixtureRequest,
    sparsity_settings: Settings,
    _sparsity_known_outcomes: KnownOutcomes,
) -> KernelCheck:
    """Holds a registered kernel to the definition of its op: ``kernel_check("op/name")``."""
    from pytest_sparsity.plugin.kernel_check import KernelCheck

    return KernelCheck(sparsity_settings, _sparsity_known_outcomes, request.node)
