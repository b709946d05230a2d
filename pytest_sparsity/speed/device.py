"""Times kernels on a CUDA device: graphs, a flushed L2 cache, and events.

A launch takes longer than a small kernel, so every contender is captured in a CUDA graph and the
graph is replayed; and a replay finds its operands in the L2 cache, where decoding never finds
them, so the cache is overwritten before each timed one (triton issue 10149 shows both errors).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch

_WARM_UPS = 3


def time_graphs(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    seed: int,
    on_done: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every contender, one per round, in an order shuffled anew each round.

    Args:
        contenders: by name; each one only launches work on the current device.
        rounds: timed replays of each.
        seed: of the order.
        on_done: called after each timed replay.
    """
    graphs = {name: capture(run) for name, run in contenders.items()}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    cache = torch.empty(2 * properties.L2_cache_size, dtype=torch.int8, device="cuda")
    shuffled, order = random.Random(seed), list(graphs)
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            cache.zero_()
            seconds[name].append(_replay(graphs[name]))
            if on_done is not None:
                on_done()
    return seconds


def capture(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """``run`` as a CUDA graph, after warm-ups that compile and tune what is compiled on demand."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def _replay(graph: torch.cuda.CUDAGraph) -> float:
    started = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    started.record()
    graph.replay()
    ended.record()
    ended.synchronize()
    return float(started.elapsed_time(ended)) / 1e3
