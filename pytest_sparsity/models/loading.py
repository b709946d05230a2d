"""From a name to a model that is ready to be measured."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError, SparsityWarning, blaming
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.models.angles import other_angles
from pytest_sparsity.models.backbone import SiteLayout, find_sites, use_linear_layers
from pytest_sparsity.models.catalog import KNOWN, RandomModel
from pytest_sparsity.models.declared import check_class, read_declared
from pytest_sparsity.models.expert_tensors import check_experts, surplus_experts
from pytest_sparsity.models.folder import (
    PREDICTORS,
    adapters,
    adapters_below,
    network_hash,
    stray_files,
    weight_files,
)
from pytest_sparsity.models.language_model import LanguageModel
from pytest_sparsity.models.prepare import prepare_model
from pytest_sparsity.models.remote_code import check_trusted, code_class, needed_code
from pytest_sparsity.models.tensors import (
    check_all_used,
    check_complete,
    check_floating,
    no_place,
    read_tensors,
    refuse_or_warn,
)
from pytest_sparsity.models.tokens import check_tokens, check_vocabulary, leading_tokens
from pytest_sparsity.models.twin_loading import is_twin, make_twin
from pytest_sparsity.models.upstream import failures_as, quiet
from pytest_sparsity.settings.options import DTYPES
from pytest_sparsity.targets import HardwareTarget, resolve_target

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    cache: Path | None = None,
    progress: Progress = silent,
    allow_unused: bool = False,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a model by known name, local folder, GGUF file or hub id (``"org/name"``).

    Args:
        name: what to load, or ``tiny:`` and what to load a shrunk twin of; see
            :data:`pytest_sparsity.models.KNOWN`.
        dtype: ``"auto"`` (bfloat16 where the device is fast at it, else float32),
            ``"bfloat16"``, ``"float32"`` or ``"float16"``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.
        cache: the cache folder; the user's by default.
        progress: shows downloads and conversions.
        allow_unused: whether tensors, keys and adapters in its files may be left out of what is
            measured, with a warning.
        trust_remote_code: whether code that comes with a model is run where transformers lacks
            its class; it may do anything on this machine.

    Raises:
        SparsityError: the name, dtype or device is not known, the model cannot be had, read, or
            mapped to sites, or something in its files is not used.

    Warns:
        SparsityWarning: its config.json has keys that tell of a computation not done here, or
            files with weights beside it are not read.
    """
    target, torch_dtype = chosen_dtype(dtype, device)
    prepared = prepare_model(
        name,
        cache=cache,
        progress=progress,
        allow_unused=allow_unused,
        trust_remote_code=trust_remote_code,
    )
    known = KNOWN.get(name)
    notice = ""
    if isinstance(known, RandomModel) or is_twin(name):
        from pytest_sparsity.models import tiny

        model: Any
        tokenizer: PreTrainedTokenizerBase
        if isinstance(known, RandomModel):
            model, tokenizer, described = tiny.tiny_model(known.seed), tiny.tiny_tokenizer(), ""
            weights_hash = tiny.tensors_hash(model)
            for parameter in model.parameters():  # not the buffers: rotary angles stay float32
                parameter.data = parameter.data.to(torch_dtype)
        else:
            twin = make_twin(name, torch_dtype, progress)
            model, tokenizer, weights_hash = twin.model, twin.tokenizer, twin.weights_hash
            described, notice = twin.network_hash, twin.notice
    else:
        assert prepared.folder is not None
        assert prepared.weights_hash is not None
        code = needed_code(prepared.folder)
        check_trusted(code, name, trusted=trust_remote_code)
        model, tokenizer = _load_folder(
            prepared.folder, name, torch_dtype, code, allow_unused=allow_unused
        )
        weights_hash = prepared.weights_hash
        described = network_hash(prepared.folder, code=bool(code))
    if known is not None and not isinstance(known, RandomModel):
        check_tokens(tokenizer, known.tokens, name)
    companion = prepared.folder / PREDICTORS if prepared.folder is not None else None
    return finished(
        prepared.name,
        name,
        model,
        tokenizer,
        target,
        weights_hash=weights_hash,
        dtype=torch_dtype,
        network_hash=described,
        predictors=companion if companion is not None and companion.is_file() else None,
        notice=notice,
    )


def chosen_dtype(dtype: str, device: str) -> tuple[HardwareTarget, torch.dtype]:
    """The machine behind the name of a device, and the dtype that weights have on it.

    Raises:
        SparsityError: there is no such device or dtype.
    """
    import torch

    if dtype not in DTYPES:
        raise SparsityError(f"dtype {dtype!r} is not known; use {', '.join(DTYPES)}")
    target = resolve_target(device)
    if dtype == "auto":
        dtype = "bfloat16" if target.fast_bfloat16 else "float32"
    found: torch.dtype = getattr(torch, dtype)
    return target, found


def finished(
    name: str,
    source: str,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    target: HardwareTarget,
    *,
    layout: SiteLayout | None = None,
    **about: Any,
) -> LanguageModel:
    """A model of transformers made ready to be measured, in place.

    Args:
        name: short, safe in test ids.
        source: what was asked for.
        model: in the dtype that it is to have.
        tokenizer: its own.
        target: the machine that it goes to.
        layout: of its sites, see :func:`~.backbone.find_sites`.
        about: the other fields of :class:`LanguageModel`.

    Raises:
        SparsityError: it cannot be mapped to sites.
    """
    from pytest_sparsity.models.libraries import check_foreign_layers_run  # imports torch

    # On, it would take spaces out of decoded text; which versions turn it on differs.
    tokenizer.clean_up_tokenization_spaces = False
    use_linear_layers(model)
    if not any(parameter.is_meta for parameter in model.parameters()):  # else offloaded
        model.to(target.device)
    model.eval().requires_grad_(False)
    check_foreign_layers_run(model, source)
    with blaming(f"--sparsity-model {source}"):
        sites = find_sites(model, layout)
    check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], source)
    return LanguageModel(
        name=name,
        source=source,
        model=model,
        tokenizer=tokenizer,
        sites=sites,
        first_tokens=leading_tokens(tokenizer),
        **about,
    )


def _load_folder(
    folder: Path, name: str, dtype: torch.dtype, code: Mapping[str, str], *, allow_unused: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoTokenizer, GenerationConfig

    local: Any = {"local_files_only": True, "trust_remote_code": bool(code)}
    advice = "pass a folder written by save_pretrained of both the model and its tokenizer"
    with quiet(), failures_as(f"--sparsity-model {name} cannot be loaded", advice):
        declared = read_declared(folder, name, trusted="AutoConfig" in code)
        config = declared.config
        if (place := code.get("AutoModelForCausalLM")) is not None:
            model_class = code_class(folder, place)
        else:
            model_class = _causal_class(config, name)
        _check_not_quantised(config, name)
        # Given the configuration, it does not look for a class by a model_type of hub code.
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, **local)
        tensors = read_tensors(folder, dtype, model_class)
        check_floating(tensors, name)
        if surplus := surplus_experts(tensors, config):
            refuse_or_warn(name, no_place(surplus, model_class), allowed=allow_unused)
            for each in surplus:
                del tensors[each]
        check_experts(tensors, config)
        model, info = model_class.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),  # some versions empty it
            dtype=dtype,
            attn_implementation=_attention(model_class),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told of by name below
            local_files_only=True,
        )
        check_complete(info)
        unused = check_all_used(model, tensors, info["unexpected_keys"])
        angles = other_angles(model, tensors)
        del tensors
        declared.finish(model)
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(
                folder, local_files_only=True
            )
    if unused is not None:
        refuse_or_warn(name, unused, allowed=allow_unused)
    if angles is not None:
        refuse_or_warn(name, angles, allowed=allow_unused)
    if found := adapters(folder):
        beside = (
            f"its folder holds an adapter ({', '.join(found)}), which would not be applied; merge "
            "it into the weights (merge_and_unload) and save the model"
        )
        refuse_or_warn(name, beside, allowed=allow_unused)
    doubts = list(declared.doubts)
    if strays := stray_files(folder):
        read = ", ".join(path.name for path in weight_files(folder)[:3])
        doubts.append(
            f"--sparsity-model {name}: {', '.join(strays[:3])} in its folder is not read, as "
            f"transformers reads {read}; take it away if it is not the model's"
        )
    if below := adapters_below(folder):
        doubts.append(
            f"--sparsity-model {name}: its folder holds adapters in sub-folders "
            f"({', '.join(below[:3])}), which transformers does not apply either; to measure one, "
            "merge it into the weights (merge_and_unload) and save the model"
        )
    for doubt in doubts:
        warnings.warn(doubt, SparsityWarning, stacklevel=3)
    return model, tokenizer


def _attention(model_class: Any) -> str:
    # Gemma 2 caps its attention scores, which the fused implementation cannot.
    return "sdpa" if model_class._supports_sdpa else "eager"


def _causal_class(config: Any, name: str) -> Any:
    """The transformers class that generates text with this configuration."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    declared = list(config.architectures or [])
    lower = [str(each).lower() for each in declared]
    generates = not declared or any("causallm" in each or "lmhead" in each for each in lower)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not generates:
        raise SparsityError(
            f"--sparsity-model {name} is a {', '.join(declared) or config.model_type}, not a "
            "causal language model; pass one that generates text"
        )
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    check_class(config, found, name)
    return found


def _check_not_quantised(config: Any, name: str) -> None:
    """Packed weights can be neither compressed nor folded; transformers ignores kinds it lacks."""
    if (how := getattr(config, "quantization_config", None)) is not None:
        kind = how.get("quant_method") if isinstance(how, dict) else how.quant_method
        raise SparsityError(
            f"--sparsity-model {name} is quantised ({kind}, by its config.json), and packed "
            "weights can be neither compressed nor folded into a bias; pass the model it was made "
            "from and compress that with --sparsity-weights"
        )
