"""Models that real libraries quantised, adapted or offloaded; each test needs its library.

None of them is needed by the package: where one is not installed, its tests are skipped, and the
stand-ins of ``test_foreign_layers.py`` have run.  Several of them warn when they are imported: run
them with ``-o filterwarnings=default``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_sparsity import (
    Plan,
    PrefillPolicy,
    SparsityError,
    SpontaneousVectors,
    Threshold,
    compress,
    load_model,
    sparsify,
    with_sites_found_anew,
)
from pytest_sparsity.hooks import OwnModel
from pytest_sparsity.models.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = torch.arange(1, 13)[None]


def library(name: str) -> Any:
    """The library; the test is skipped without it, or where it does not start on this machine."""
    reason = f"{name} is not installed, or does not start here; the package does not need it"
    return pytest.importorskip(name, reason=reason, exc_type=ImportError)


def exchanged(model: Any, make: Callable[[nn.Linear], nn.Module]) -> Any:
    """The model with other layers in the place of those whose sizes 64 divides."""
    for parent in list(model.model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer.in_features % 64 == 0:
                setattr(parent, name, make(layer))
    return model


def torchao(config: str) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        quantization = library("torchao.quantization")
        quantization.quantize_(model, getattr(quantization, config)())
        return model

    return change


def torchao_qat(model: Any) -> Any:
    quantization, qat = library("torchao.quantization"), library("torchao.quantization.qat")
    weights = qat.IntxFakeQuantizeConfig(torch.int4, group_size=32)
    config = qat.QATConfig(weight_config=weights, step="prepare")
    quantization.quantize_(model, config)
    return model


def bitsandbytes_8(model: Any) -> Any:
    bnb = library("bitsandbytes")

    def make(layer: nn.Linear) -> nn.Module:
        new = bnb.nn.Linear8bitLt(
            layer.in_features, layer.out_features, bias=False, has_fp16_weights=False
        )
        new.weight = bnb.nn.Int8Params(layer.weight.data, False, has_fp16_weights=False)
        return new

    return exchanged(model, make).to("cpu")


def bitsandbytes_4(model: Any) -> Any:
    bnb = library("bitsandbytes")

    def make(layer: nn.Linear) -> nn.Module:
        new = bnb.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=False,
            quant_type="nf4",
            compute_dtype=torch.float32,
        )
        new.load_state_dict(layer.state_dict())
        return new

    return exchanged(model, make).to("cpu")


def hqq(model: Any) -> Any:
    quantize = library("hqq.core.quantize")
    config = quantize.BaseQuantizeConfig(nbits=4, group_size=32)
    more = {"compute_dtype": torch.float32, "device": "cpu"}
    return exchanged(model, lambda layer: quantize.HQQLinear(layer, config, **more))


def quanto(model: Any) -> Any:
    own = library("optimum.quanto")
    own.quantize(model, weights=own.qint8, exclude="lm_head")
    own.freeze(model)
    return model


def compressed_tensors(model: Any) -> Any:
    own = library("compressed_tensors.quantization")
    weights = own.QuantizationArgs(num_bits=8, strategy="channel")
    scheme = own.QuantizationScheme(targets=["Linear"], weights=weights)
    config = own.QuantizationConfig(config_groups={"all": scheme}, ignore=["lm_head"])
    own.apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            module.weight_scale.data = module.weight.abs().amax(1, keepdim=True) / 127
    library("compressed_tensors").ModelCompressor(quantization_config=config).compress_model(model)
    return model


def lora(model: Any) -> Any:
    peft = library("peft")
    targets = ["q_proj", "down_proj"]
    return peft.get_peft_model(
        model, peft.LoraConfig(target_modules=targets, init_lora_weights=False)
    )


def ia3(model: Any) -> Any:
    peft = library("peft")
    config = peft.IA3Config(
        target_modules=["q_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        init_ia3_weights=False,
    )
    return peft.get_peft_model(model, config)


def disk(model: Any) -> Any:
    return library("accelerate").disk_offload(model, "offloaded")


CHANGES = {
    "torchao int8": torchao("Int8WeightOnlyConfig"),
    "torchao int8, inputs too": torchao("Int8DynamicActivationInt8WeightConfig"),
    "torchao float8": torchao("Float8WeightOnlyConfig"),
    "torchao QAT": torchao_qat,
    "bitsandbytes 8 bits": bitsandbytes_8,
    "bitsandbytes 4 bits": bitsandbytes_4,
    "hqq": hqq,
    "quanto": quanto,
    "compressed-tensors": compressed_tensors,
    "peft LoRA": lora,
    "peft IA3": ia3,
    "accelerate disk": disk,
}


def own_model(change: Callable[[Any], Any]) -> Any:
    def build() -> Any:
        torch.manual_seed(0)  # adapters draw theirs
        return change(tiny_model(1).eval().requires_grad_(False)), tiny_tokenizer()

    return OwnModel("foreign", build).load(dtype="float32")


def plan_of(model: Any, bias: float = 0.0) -> Plan:
    selectors = {site.name: Threshold(0.5) for site in model.sites}
    constants = {"0.q": torch.full((64,), bias)} if bias else {}
    return Plan("teal", 0.5, selectors, PrefillPolicy("none"), constants)


def logits(model: Any, tokens: Tensor = TEXT) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.model(input_ids=tokens).logits
    return found


def by_plain_hooks(model: Any, bias: float) -> Tensor:
    def mask(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.where(args[0].abs() > 0.5, args[0], 0), *args[1:])

    handles = [site.module.register_forward_pre_hook(mask) for site in model.sites]
    first = next(site.module for site in model.sites if site.name == "0.q")
    handles.append(first.register_forward_hook(lambda own, args, output: output + bias))
    try:
        return logits(model)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_model_of_a_library(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where weights are offloaded to
    model = own_model(CHANGES[change])
    dense = logits(model)
    for bias in (0.0, 0.25):
        expected = by_plain_hooks(model, bias)
        assert not torch.allclose(expected, dense, atol=0.1)
        with sparsify(model, plan_of(model, bias)):
            torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)
        assert torch.equal(logits(model), dense)
    with sparsify(model, plan_of(model), "auto") as attached:
        assert "0.q" not in attached.kernels
        logits(model, TEXT[:, :1])
    with pytest.raises(SparsityError, match=r"kernels='torch' cannot be used: the layer of 0\.q"):
        sparsify(model, plan_of(model), "torch")
    with pytest.raises(SparsityError, match=r"the weight of 0\.q in foreign"):
        compress(model, "int8")
    vectors = SpontaneousVectors({"0.q": torch.ones(64)}, {})
    first = next(site.module for site in model.sites if site.name == "0.q")
    with torch.no_grad():
        whole = first(torch.ones(1, 64)) - first(torch.zeros(1, 64))
    torch.testing.assert_close(vectors.fold(model)["0.q"], whole[0], rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_layers_that_are_quantised_after_loading() -> None:
    model = load_model("tiny-random", dtype="float32")
    torchao_qat(model.model)
    with pytest.raises(SparsityError, match=r"the layer of site 0\.q is no longer"):
        sparsify(model, plan_of(model))
    anew = with_sites_found_anew(model)
    expected = by_plain_hooks(anew, 0.0)
    with sparsify(anew, plan_of(anew)):
        assert torch.equal(logits(anew), expected)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["applied", "merged", "switched off", "gone"])
def test_adapters_are_said(state: str) -> None:
    def change(model: Any) -> Any:
        adapted = lora(model)
        if state == "merged":
            adapted.merge_adapter()
        elif state == "switched off":
            adapted.base_model.disable_adapter_layers()
        return adapted.merge_and_unload() if state == "gone" else adapted

    notice = own_model(change).notice
    assert notice.startswith({"gone": ""}.get(state, f"its adapters are {state}"))
    assert bool(notice) == (state != "gone")


@pytest.mark.slow
def test_learnt_prompts_are_refused() -> None:
    def change(model: Any) -> Any:
        peft = library("peft")
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
        return peft.get_peft_model(model, config)

    with pytest.raises(SparsityError, match="puts learnt tokens before every text"):
        own_model(change)
