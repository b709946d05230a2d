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

from pytest_sparsity.core.public import names

if TYPE_CHECKING:
    from pytest_sparsity.core.memory import can_measure_memory as can_measure_memory
    from pytest_sparsity.evaluation.perplexity import Window as Window
    from pytest_sparsity.evaluation.perplexity import dense_states as dense_states
    from pytest_sparsity.evaluation.perplexity import score_documents as score_documents
    from pytest_sparsity.models.parallel import cores as cores
    from pytest_sparsity.speed.cold import Spread as Spread
    from pytest_sparsity.speed.cold import describe_noise as describe_noise
    from pytest_sparsity.speed.cold import p10_ratio as p10_ratio
    from pytest_sparsity.speed.cold import time_cold as time_cold
    from pytest_sparsity.speed.decoding import Flip as Flip
    from pytest_sparsity.speed.decoding import Fork as Fork
    from pytest_sparsity.speed.decoding import first_flip as first_flip
    from pytest_sparsity.speed.decoding import forks as forks
    from pytest_sparsity.speed.decoding import greedy_path as greedy_path
    from pytest_sparsity.speed.decoding import logit_error as logit_error
    from pytest_sparsity.speed.decoding import site_inputs as site_inputs
    from pytest_sparsity.speed.decoding import step_logits as step_logits
    from pytest_sparsity.speed.decoding import worst_layer as worst_layer
    from pytest_sparsity.speed.device import time_graphs as time_graphs
    from pytest_sparsity.speed.footprint import Footprint as Footprint
    from pytest_sparsity.speed.footprint import scoring_footprint as scoring_footprint
    from pytest_sparsity.speed.footprint import weight_bytes as weight_bytes
    from pytest_sparsity.speed.interleaved import interleave as interleave
    from pytest_sparsity.speed.interleaved import ratio as ratio
    from pytest_sparsity.speed.log import PerformanceLog as PerformanceLog
    from pytest_sparsity.speed.problems import Oracle as Oracle
    from pytest_sparsity.speed.problems import Problem as Problem
    from pytest_sparsity.speed.problems import dense_ways as dense_ways
    from pytest_sparsity.speed.problems import int4_problem as int4_problem
    from pytest_sparsity.speed.problems import linear_problem as linear_problem
    from pytest_sparsity.speed.problems import predicted_problem as predicted_problem
    from pytest_sparsity.speed.problems import runnable as runnable
    from pytest_sparsity.speed.problems import swiglu_problem as swiglu_problem
    from pytest_sparsity.speed.receipts import write_receipt as write_receipt
    from pytest_sparsity.targets.bandwidth import copy_bandwidth as copy_bandwidth

_HOME = {
    "Flip": "speed.decoding",
    "Footprint": "speed.footprint",
    "Fork": "speed.decoding",
    "Oracle": "speed.problems",
    "PerformanceLog": "speed.log",
    "Problem": "speed.problems",
    "Spread": "speed.cold",
    "Window": "evaluation.perplexity",
    "can_measure_memory": "core.memory",
    "copy_bandwidth": "targets.bandwidth",
    "cores": "models.parallel",
    "dense_states": "evaluation.perplexity",
    "dense_ways": "speed.problems",
    "describe_noise": "speed.cold",
    "first_flip": "speed.decoding",
    "forks": "speed.decoding",
    "greedy_path": "speed.decoding",
    "int4_problem": "speed.problems",
    "interleave": "speed.interleaved",
    "linear_problem": "speed.problems",
    "logit_error": "speed.decoding",
    "p10_ratio": "speed.cold",
    "predicted_problem": "speed.problems",
    "ratio": "speed.interleaved",
    "runnable": "speed.problems",
    "score_documents": "evaluation.perplexity",
    "scoring_footprint": "speed.footprint",
    "site_inputs": "speed.decoding",
    "step_logits": "speed.decoding",
    "swiglu_problem": "speed.problems",
    "time_cold": "speed.cold",
    "time_graphs": "speed.device",
    "weight_bytes": "speed.footprint",
    "worst_layer": "speed.decoding",
    "write_receipt": "speed.receipts",
}

__all__, __getattr__ = names(__name__, _HOME)
