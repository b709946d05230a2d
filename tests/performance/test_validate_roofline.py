from __future__ import annotations

import pytest

from pytest_sparsity.speed.validate_roofline import (
    SHAPES,
    Prediction,
    Validation,
    main,
    report,
    validate,
)


def test_errors_are_relative_to_what_was_measured() -> None:
    times = {0.0: (9e-6, 10e-6), 0.5: (5e-6, 5e-6), 0.75: (2.6e-6, 2e-6)}
    rows = [Prediction("k", (4, 4), level, *pair) for level, pair in times.items()]
    validation = Validation(tuple(rows), 30e9, {"k": 5e-6}, "quiet")
    assert [row.error for row in rows] == pytest.approx([-0.1, 0, 0.3])
    assert validation.error == pytest.approx(0.1)
    assert validation.below_floor == 1
    assert list(validation.speedups.values()) == [
        pytest.approx((1.8, 2)),
        pytest.approx((9 / 2.6, 5)),
    ]
    assert validation.speedup_error == pytest.approx((0.1 + 1 - 9 / 13) / 2)
    text = report(validation)
    assert "-10.0%" in text
    assert "one thread reads 30.0 GB/s; overheads k 5.0 us; quiet" in text
    assert "times: median absolute error 10.0%, from -10.0% to +30.0%; 1 of 3 are below" in text
    assert "speed-ups over the same kernel at level 0: median absolute error 20.4%" in text
    assert text.endswith("\nk: times 10.0%, speed-ups 20.4%")


def test_a_small_validation() -> None:
    """A prediction is the overhead and the bytes, and uses no measurement of its own case."""
    shapes = dict.fromkeys(SHAPES, ((64, 256),))
    made = validate(shapes, levels=(0.0, 0.5), rounds=10)
    assert {row.op for row in made.rows} == set(SHAPES)
    weights = {
        "sparse_linear": lambda s: (1 - s) * 64 * 256 * 2,
        "sparse_swiglu": lambda s: (3 - 2 * s) * 64 * 256 * 2,
        "sparse_quantized_linear": lambda s: (1 - s) * 64 * (256 / 2 + 256 / 64 * 2),
    }
    for row in made.rows:
        outputs = 64 if row.op == "sparse_swiglu" else 256
        moved = weights[row.op](row.level) + (64 + outputs) * 2
        assert row.predicted == pytest.approx(made.overheads[row.kernel] + moved / made.bandwidth)
        assert row.measured > 0
    assert {row.level for row in made.rows} == {0.0, 0.5}


def test_too_few_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--rounds=3"])
    assert "--rounds 3: at least 10" in capsys.readouterr().err
