"""What kind of site a linear layer is, by its place in a decoder block."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from pytest_sparsity.settings.options import KINDS

#: Kinds whose layer computes several of ``KINDS``, or a part of them, and which: what stands there
#: reads one input, so it is one site: one threshold, one vector, one kernel call.
#: ``q_a`` and ``q_b`` (``kv_a``, ``kv_b``) are the two factors of latent attention, to the latent
#: vector and from it.
FUSED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "qkv": ("q", "k", "v"),
        "kv": ("k", "v"),
        "gate_up": ("gate", "up"),
        "q_a": ("q",),
        "q_b": ("q",),
        "kv_a": ("k", "v"),
        "kv_b": ("k", "v"),
    }
)

#: Kinds outside of attention and MLP: what goes into a recurrent, convolutional or linear-attention
#: mixer and what comes out of it, and every other product with a weight.
OTHERS = ("in", "out", "proj")

#: All kinds of sites, in the order in which the sites of a layer stand.
ALL_KINDS = (*FUSED, *KINDS, *OTHERS)

_ATTENTION = {
    "qkv": "qkv_proj query_key_value c_attn Wqkv in_proj_qkv",
    "q": "q_proj query wq Wq q_lin project_q query_proj q input_linear",
    "k": "k_proj key wk Wk k_lin project_k key_proj k",
    "v": "v_proj value wv Wv v_lin project_v value_proj v",
    "o": "o_proj out_proj wo Wo out_lin dense attention_out c_proj output output_linear",
    "kv": "kv_proj",
    "q_a": "q_a_proj",
    "q_b": "q_b_proj",
    "kv_a": "kv_a_proj_with_mqa kv_a_proj",
    "kv_b": "kv_b_proj",
}
_MLP = {
    "gate_up": "gate_up_proj input_linear Wi",
    "gate": "gate_proj w1 w_0 proj_up_gate",
    "up": "up_proj w3 w_1 proj_up fc1 fc_in c_fc dense_h_to_4h lin1 layer_1 intermediate",
    "down": "down_proj w2 proj_down fc2 fc_out c_proj dense_4h_to_h lin2 layer_2 w_out Wo output "
    "output_linear",
}
_MIXER = {
    "in": "in_proj in_proj_qkv in_proj_qkvz in_proj_ba in_proj_z in_proj_a in_proj_b linear_x "
    "linear_y",
    "out": "out_proj linear_out",
}


def _by_name(table: Mapping[str, str]) -> dict[str, str]:
    return {name: kind for kind, names in table.items() for name in names.split()}


#: Where in a block which names stand for which kinds; the first that fits counts.
_TABLES = tuple(
    (re.compile(where), _by_name(table))
    for where, table in (
        (r"mamba|mixer|linear_attn|\bconv\b|temporal", _MIXER),
        (r"att|mixer|temporal|mlstm|^$", _ATTENTION),
        (r"mlp|ffn|feed_forward|moe|expert|\bff\b|mixer|^$", _MLP),
        (r"^intermediate$", {"up": "dense"}),
        (r"^output$", {"down": "dense"}),
    )
)
_NOT_ATTENTION = re.compile(r"indexer|compressor|encoder_attn|cross")


def kind_of_path(path: str) -> str:
    """The kind of the linear layer at ``path`` in its decoder block, ``proj`` if no table has it.

    Names help here and decide nothing else: what is a site is found by what is computed.
    """
    parts = [part for part in path.split(".") if not part.isdigit() and part != "linear"]
    if len(parts) > 1 and parts[-1] == "experts":  # each a linear layer, of a kind that is named
        parts.pop()
    owner, leaf = ".".join(parts[:-1]), parts[-1] if parts else path
    if _NOT_ATTENTION.search(owner):
        return "proj"
    for where, names in _TABLES:
        if leaf in names and where.search(owner):
            return names[leaf]
    return "proj"
