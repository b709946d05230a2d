"""For authors who time kernels and models themselves; the gate on speed needs none of this.

* Timers: ``interleave`` with ``ratio`` for runs of a tenth of a second and more; ``time_cold`` with
  ``p10_ratio`` for microseconds to milliseconds with weights in no cache; ``time_graphs`` on a GPU;
  ``copy_bandwidth``, what its memory reaches; ``cores``, what this process may use.
* Kernels: a ``Problem`` is an op at a shape, by level and dense; an ``Oracle`` says whether what
  was timed is right; ``runnable``, the kernels of an op that run here.
* Models: ``score_documents`` as a cell of perplexity does; ``weight_bytes`` and
  ``scoring_footprint``; and of decoding, what tells rounding from a mistake: ``forks``,
  ``first_flip``, ``worst_layer``.
* Files: ``PerformanceLog`` and ``write_receipt``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity._public import names

if TYPE_CHECKING:
    from pytest_sparsity.core.memory import can_measure_memory as can_measure_memory
    from pytest_sparsity.evaluation.perplexity import Window as Window
    from pytest_sparsity.evaluation.perplexity import dense_states as dense_states
    from pytest_sparsity.evaluation.perplexity import score_documents as score_documents
    from pytest_sparsity.models.parallel import cores as cores
    from pytest_sparsity.performance.decoding import Flip as Flip
    from pytest_sparsity.performance.decoding import Fork as Fork
    from pytest_sparsity.performance.decoding import first_flip as first_flip
    from pytest_sparsity.performance.decoding import forks as forks
    from pytest_sparsity.performance.decoding import greedy_path as greedy_path
    from pytest_sparsity.performance.decoding import logit_error as logit_error
    from pytest_sparsity.performance.decoding import site_inputs as site_inputs
    from pytest_sparsity.performance.decoding import step_logits as step_logits
    from pytest_sparsity.performance.decoding import worst_layer as worst_layer
    from pytest_sparsity.performance.footprint import Footprint as Footprint
    from pytest_sparsity.performance.footprint import scoring_footprint as scoring_footprint
    from pytest_sparsity.performance.footprint import weight_bytes as weight_bytes
    from pytest_sparsity.performance.log import PerformanceLog as PerformanceLog
    from pytest_sparsity.performance.problems import Oracle as Oracle
    from pytest_sparsity.performance.problems import Problem as Problem
    from pytest_sparsity.performance.problems import dense_ways as dense_ways
    from pytest_sparsity.performance.problems import int4_problem as int4_problem
    from pytest_sparsity.performance.problems import linear_problem as linear_problem
    from pytest_sparsity.performance.problems import predicted_problem as predicted_problem
    from pytest_sparsity.performance.problems import runnable as runnable
    from pytest_sparsity.performance.problems import swiglu_problem as swiglu_problem
    from pytest_sparsity.performance.receipts import write_receipt as write_receipt
    from pytest_sparsity.targets.bandwidth import copy_bandwidth as copy_bandwidth
    from pytest_sparsity.timing.cold import Spread as Spread
    from pytest_sparsity.timing.cold import describe_noise as describe_noise
    from pytest_sparsity.timing.cold import p10_ratio as p10_ratio
    from pytest_sparsity.timing.cold import time_cold as time_cold
    from pytest_sparsity.timing.device import time_graphs as time_graphs
    from pytest_sparsity.timing.interleave import interleave as interleave
    from pytest_sparsity.timing.interleave import ratio as ratio

_HOME = {
    "Flip": "performance.decoding",
    "Footprint": "performance.footprint",
    "Fork": "performance.decoding",
    "Oracle": "performance.problems",
    "PerformanceLog": "performance.log",
    "Problem": "performance.problems",
    "Spread": "timing.cold",
    "Window": "evaluation.perplexity",
    "can_measure_memory": "core.memory",
    "copy_bandwidth": "targets.bandwidth",
    "cores": "models.parallel",
    "dense_states": "evaluation.perplexity",
    "dense_ways": "performance.problems",
    "describe_noise": "timing.cold",
    "first_flip": "performance.decoding",
    "forks": "performance.decoding",
    "greedy_path": "performance.decoding",
    "int4_problem": "performance.problems",
    "interleave": "timing.interleave",
    "linear_problem": "performance.problems",
    "logit_error": "performance.decoding",
    "p10_ratio": "timing.cold",
    "predicted_problem": "performance.problems",
    "ratio": "timing.interleave",
    "runnable": "performance.problems",
    "score_documents": "evaluation.perplexity",
    "scoring_footprint": "performance.footprint",
    "site_inputs": "performance.decoding",
    "step_logits": "performance.decoding",
    "swiglu_problem": "performance.problems",
    "time_cold": "timing.cold",
    "time_graphs": "timing.device",
    "weight_bytes": "performance.footprint",
    "worst_layer": "performance.decoding",
    "write_receipt": "performance.receipts",
}

__all__ = sorted(_HOME)
__getattr__ = names(__name__, _HOME)
