from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

from pytest_sparsity.claims.catalog import configurations
from pytest_sparsity.core.progress import silent
from pytest_sparsity.settings import settings as options
from pytest_sparsity.settings.settings import Sizes, default_settings
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.stores import make_stores

MODEL = "tiny-random"


def test_all_that_claims_need_is_calibrated_in_one_pass(tmp_path, monkeypatch):
    settings = replace(
        default_settings(), models=(MODEL,), cache=tmp_path, levels=(0.5,), dtype="bfloat16"
    )
    small = Sizes(documents=2, items=1, draws=1, window=64, calibration=4)
    monkeypatch.setattr(options.Settings, "sizes", small)
    begun: list[str] = []

    @contextmanager
    def noting(description, total=None, unit="it"):
        begun.append(description)
        with silent(description, total, unit) as task:
            yield task

    stores = make_stores(settings, noting)
    stores.calibrations.expect(configurations(settings, [MODEL]))
    stores.calibrations.prepared(MODEL)
    assert [text for text in begun if text.startswith("calibrate")] == [f"calibrate {MODEL}"]
    begun.clear()
    for method in ("teal", "hot_only"):
        for level in (0.25, 0.6):
            stores.plans.plan(Configuration(MODEL, method, level))
    assert begun == []


def test_what_is_expected_of_compressed_weights_is_no_more_than_claims_need(tmp_path):
    settings = replace(default_settings(), models=(MODEL,), cache=tmp_path)
    needed = configurations(settings, [MODEL])
    wanda = {c.method for c in needed if c.weights == "wanda-0.5"}
    assert wanda == {"dense", "teal"}
    assert {c.level for c in needed if c.weights == "wanda-0.5"} == {0.0, 0.5}
