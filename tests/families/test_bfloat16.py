"""Kinds of architectures in bfloat16, which most are published in: level 0, masks and counts."""

from __future__ import annotations

import pytest
import torch
from measured import faults_in

pytestmark = pytest.mark.usefixtures("one_thread")

#: Of each kind of layer one: experts, latent attention, recurrent and linear attention, states in
#: float32, inputs that are not contiguous, parameters that stay in float32.
KINDS = (
    *("llama", "gpt2", "gemma3_text", "qwen3_moe", "gpt_oss", "deepseek_v3", "qwen3_next"),
    *("mamba2", "falcon_h1", "recurrent_gemma", "xlstm", "inkling2_text"),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_in_float32_holds_in_bfloat16(kind: str) -> None:
    assert faults_in(kind, torch.bfloat16) == ()
