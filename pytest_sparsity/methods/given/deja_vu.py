"""Deja Vu's MLP predictors: a folder of ``c4_layer{i}*.pt``.

Two linear maps without biases and with nothing between them; the top k of the result are
computed.  Source: ``GPTBlock.from_pretrained`` in
``Decentralized_FM_alpha/modules/hf_opt_sparse_mlp_attention.py`` (what reads them) and
``sparse_predictor/main_mlp.py`` (what writes them, with recall and size in the name) of
FMInference/DejaVu.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from pytest_sparsity.methods.given.reading import candidates, low_rank, numbered

#: Names of the matrices, [D, H] and [I, D]: those of an ``nn.Sequential``.
NAMES = ("0.weight", "1.weight")

#: All digits of the number: the original's pattern takes layer 10 for layer 1, too.
_NAME = re.compile(r"(.+)_layer(\d+).*\.pt")

#: Predictors of attention heads stand in the same folder, as ``c4_att_layer{i}*.pt``.
_HEADS = re.compile(r"(?:^|_)att(?:_|$)")


def find(path: Path) -> dict[int, Path]:
    """Layer to its file, of a folder or of one such file; empty if there is none.

    Predictors of attention heads are left out.

    Raises:
        SparsityError: a layer has no file, or two: the original takes any one of the files
            of a layer, whose names tell how good they are.
    """
    names = [(_NAME.fullmatch(file.name), file) for file in candidates(path, "*.pt")]
    return numbered(
        [(int(m[2]), file) for m, file in names if m and not _HEADS.search(m[1])],
        "Deja Vu's predictor",
    )


def read_layer(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer's matrices, [D, H] and [I, D], on the CPU, floating point as stored.

    Raises:
        SparsityError: the file holds something else; biases, too, which the original has not.
    """
    return low_rank(path, NAMES)
