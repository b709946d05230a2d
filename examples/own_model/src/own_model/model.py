"""The model: attention and MLP read the same norm and are added together, as in GPT-J.

Its MLP is down(relu(up x)^2), its positions are learnt.  The names of its layers (``q_proj`` ...
``down_proj``) are those by which pytest-sparsity finds what to sparsify.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

END = "<|end|>"


class ParallelConfig(PretrainedConfig):
    """Its sizes."""

    model_type = "parallel_relu2"

    def __init__(
        self,
        vocab_size: int = 257,
        hidden_size: int = 64,
        intermediate_size: int = 192,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 4,
        max_position_embeddings: int = 2048,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        super().__init__(**{"tie_word_embeddings": False, **others})


class ParallelBlock(nn.Module):
    """x + attention(norm x) + MLP(norm x)."""

    def __init__(self, config: ParallelConfig, number: int) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.number = number
        self.heads = config.num_attention_heads
        self.norm = nn.LayerNorm(width)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """[B, T, H] for x [B, T, H]; ``mask`` is added to scores [B, 1, T, S]."""
        normed = self.norm(x)
        layers = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in layers
        )
        if cache is not None:
            k, v = cache.update(k, v, self.number)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed = self.o_proj(seen.transpose(1, 2).flatten(2))
        return x + mixed + self.down_proj(self.up_proj(normed).relu().square())


class ParallelPreTrained(PreTrainedModel):
    """What transformers wants to know of a model."""

    config_class = ParallelConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(0, module.weight.shape[1] ** -0.5)


class ParallelModel(ParallelPreTrained):
    """Everything but the head."""

    def __init__(self, config: ParallelConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.places = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        numbers = range(config.num_hidden_layers)
        self.blocks = nn.ModuleList(ParallelBlock(config, number) for number in numbers)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Of tokens."""
        return self.tokens

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states; a mask is 1 for tokens [B, S], or added to scores [B, 1, T, S]."""
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        length = input_ids.shape[1]
        if position_ids is None:
            position_ids = torch.arange(past, past + length, device=input_ids.device)[None]
        x = self.tokens(input_ids) + self.places(position_ids)
        mask = _mask(attention_mask, past, x)
        for block in self.blocks:
            x = block(x, mask, past_key_values)
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(x), past_key_values=past_key_values
        )


def _mask(given: Tensor | None, past: int, x: Tensor) -> Tensor:
    if given is not None and given.ndim == 4:
        return given
    length = x.shape[1]
    hidden = torch.ones(length, past + length, dtype=torch.bool, device=x.device).triu(past + 1)
    if given is not None:
        hidden = hidden | (given[:, None, None] == 0)
    # Not infinite: rows of padding see nothing, and give no NaN.
    return x.new_zeros(hidden.shape).masked_fill(hidden, torch.finfo(x.dtype).min)


class ParallelForCausalLM(ParallelPreTrained, GenerationMixin):
    """With a head."""

    def __init__(self, config: ParallelConfig) -> None:
        super().__init__(config)
        self.model = ParallelModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def forward(
        self, input_ids: Tensor | None = None, logits_to_keep: int = 0, **given: Any
    ) -> CausalLMOutputWithPast:
        """Logits of the last ``logits_to_keep`` positions, 0 for all."""
        found = self.model(input_ids=input_ids, **given)
        logits = self.lm_head(found.last_hidden_state[:, -logits_to_keep:])
        return CausalLMOutputWithPast(logits=logits, past_key_values=found.past_key_values)


AutoConfig.register(ParallelConfig.model_type, ParallelConfig)
AutoModelForCausalLM.register(ParallelConfig, ParallelForCausalLM)


def build(seed: int = 0) -> tuple[ParallelForCausalLM, PreTrainedTokenizerFast]:
    """A model with random weights, the same for a seed, and a tokenizer of bytes."""
    model = ParallelForCausalLM(ParallelConfig())
    lot = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=lot) * weight.shape[1] ** -0.5)
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def write_folder(folder: Path, seed: int = 0) -> Path:
    """Write such a model as ``save_pretrained`` does, and return ``folder``."""
    for part in build(seed):
        part.save_pretrained(folder)
    return folder
