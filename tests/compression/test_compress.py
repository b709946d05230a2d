"""Whole models: what is replaced, in which order, kept where, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.methods.positions import observe
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import load_model
from pytest_sparsity.models.compression import compress as module
from pytest_sparsity.models.compression import pruning
from pytest_sparsity.models.compression.compress import compress, compressed_dtype, compressed_hash
from pytest_sparsity.models.compression.hessian import second_moment
from pytest_sparsity.models.compression.names import parse
from pytest_sparsity.models.compression.sequence import put
from pytest_sparsity.models.forward import hidden_states, run_documents

NAMES = (
    *("int8", "int4-32", "gptq4-32", "magnitude-0.5", "wanda-0.5", "sparsegpt-0.5"),
    *("magnitude-2:4", "wanda-4:8", "sparsegpt-8:16"),
)


@pytest.fixture
def model():
    return load_model("tiny-random", dtype="bfloat16")


def weights(model):
    return {site.name: site.module.weight for site in model.sites}


def test_loaded_is_the_model_itself(model):
    assert compress(model, "loaded").model is model
    assert compressed_hash(model, "loaded") == model.weights_hash
    assert compressed_dtype(model, "loaded") == compressed_dtype(model, "int8") == torch.bfloat16


@pytest.mark.parametrize("name", NAMES)
def test_only_the_sites_get_weights_of_their_own(model, texts, name):
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    found = compress(model, name, texts).model
    for k, v in model.model.state_dict().items():
        assert torch.equal(v, before[k]), k
    own = {id(w) for w in weights(found).values()}
    shared = {id(p) for p in found.model.parameters()} - own
    assert shared == {id(p) for p in model.model.parameters()} - {
        id(w) for w in weights(model).values()
    }
    assert found.head.weight is model.head.weight  # tied to the embeddings, as before
    assert found.head.weight is found.model.get_input_embeddings().weight
    for site, weight in weights(found).items():
        assert weight.dtype == model.dtype
        assert not weight.requires_grad
        assert not torch.equal(weight, weights(model)[site])
    hidden_states(found, texts[0])
    assert found.weights_hash == compressed_hash(model, name, texts) != model.weights_hash


def inputs_of(model, tokens):
    """Site to its inputs, [rows, K]."""
    found = {}
    with observe(model, PrefillPolicy("none"), found.__setitem__):
        run_documents(model, [tokens])
    return found


@pytest.mark.parametrize("name", ["wanda-0.5", "sparsegpt-2:4", "gptq4-32"])
def test_layers_come_in_sequence(model, texts, name):
    """As published: inputs from the compressed layers before, all of a layer at once."""
    twin, scheme = model.twin(), parse(name)
    for layer in range(3):
        inputs = inputs_of(twin, torch.stack(texts))
        sites = [site for site in twin.sites if site.layer == layer]
        made = []
        for site in sites:
            x = inputs[site.name]
            w = site.module.weight.detach()
            if scheme.kind == "wanda":
                made.append(pruning.wanda(w, pruning.mean_square(x), scheme))
            elif scheme.kind == "sparsegpt":
                made.append(pruning.sparsegpt(w, second_moment(x), scheme))
            else:
                made.append(module.quantisation.gptq4(w, second_moment(x), 32))
        for site, weight in zip(sites, made, strict=True):
            put(site, weight)
    found = weights(compress(model, name, texts).model)
    for site, weight in weights(twin).items():
        assert torch.equal(found[site], weight), site


def test_every_family_of_layers(small_model, texts):
    for family in ("qwen2", "gemma3"):
        one = small_model(family)
        tokens = [t % one.model.config.vocab_size for t in texts]
        found = compress(one, "sparsegpt-0.5", tokens)
        assert found.provenance["zeros"] == pytest.approx(0.5, abs=0.01)
        for site, original in zip(found.model.sites, one.sites, strict=True):
            assert site.module.bias is original.module.bias


def test_threads_do_not_matter(model, texts):
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(weights(compress(model, "gptq4-32", texts).model))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][site], found[1][site]) for site in found[0])


def test_provenance(model, texts):
    assert compress(model, "loaded").provenance == {"scheme": "loaded"}
    found = compress(model, "wanda-0.50", texts).provenance
    assert found["scheme"] == "wanda-0.5"
    assert found["zeros"] == pytest.approx(0.5)
    assert (found["bits"], found["calibration_tokens"]) == (16, 3 * 48)
    assert found["seconds"] >= 0
    found = compress(model, "int4-16", texts).provenance
    assert (found["bits"], found["calibration_tokens"]) == (4 + 16 / 16, 0)
    bits = compress(model, "int8").provenance["bits"]
    numbers = sum(w.shape[0] for w in weights(model).values())
    assert bits == 8 + 16 * numbers / sum(w.numel() for w in weights(model).values())


def test_hashes(model, texts):
    hashes = {compressed_hash(model, name, texts) for name in NAMES}
    assert len(hashes) == len(NAMES)
    other = [texts[0], texts[1], texts[1]]
    for name in NAMES:
        same = compressed_hash(model, name, texts) == compressed_hash(model, name, other)
        assert same == (not parse(name).calibrated)
    assert compressed_hash(model, "wanda-.5", texts) in hashes


def test_a_cast_is_known_by_what_it_was_made_from(model):
    """Its dtype does not tell that it was rounded before."""
    of = [replace(model, dtype=dtype) for dtype in (torch.float16, torch.bfloat16)]
    assert len({compressed_hash(each, "float32") for each in of}) == 2
    assert len({compressed_hash(each, "int8") for each in of}) == 1  # has the dtype beside it


# --- casts


@pytest.mark.parametrize(("loaded", "cast"), [("bfloat16", "float32"), ("float32", "bfloat16")])
@pytest.mark.parametrize("family", ["tiny-random", "gemma3"])
def test_a_cast_is_the_loaded_model_in_another_arithmetic(family, loaded, cast, texts, small_model):
    if family == "tiny-random":
        model = load_model(family, dtype=loaded)
    else:
        wide = small_model(family)
        model = wide if loaded == "float32" else compress(wide, loaded).model
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    found = compress(model, cast)
    made, dtype = found.model, getattr(torch, cast)
    after = made.model.state_dict()
    assert {k: v.dtype for k, v in after.items()} == dict.fromkeys(before, dtype)
    assert all(torch.equal(v, before[k].to(dtype)) for k, v in after.items())
    for k, v in model.model.state_dict().items():
        assert v.dtype == model.dtype
        assert torch.equal(v, before[k])
    assert (made.dtype, compressed_dtype(model, cast)) == (dtype, dtype)
    assert made.weights_hash == compressed_hash(model, cast) != model.weights_hash
    assert (made.head.weight is made.model.get_input_embeddings().weight) == (
        model.head.weight is model.model.get_input_embeddings().weight
    )
    assert not any(p.requires_grad for p in made.model.parameters())
    hidden, own = (hidden_states(m, texts[0]) for m in (made, model))
    assert (hidden.dtype, own.dtype) == (dtype, model.dtype)
    assert 0 < float((hidden - own).norm() / own.norm()) < 0.05
    assert (found.provenance["scheme"], found.provenance["bits"]) == (
        cast,
        8 * made.sites[0].module.weight.element_size(),
    )


def test_a_cast_of_the_loaded_values_is_that_model(texts):
    """Loading in float32 what bfloat16 has rounded is the cast, bit for bit."""
    narrow, wide = (load_model("tiny-random", dtype=d) for d in ("bfloat16", "float32"))
    for parameter in wide.model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    cast = compress(narrow, "float32").model
    assert torch.equal(hidden_states(cast, texts[0]), hidden_states(wide, texts[0]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cast_that_would_change_nothing(dtype):
    with pytest.raises(SparsityError) as caught:
        compress(load_model("tiny-random", dtype=dtype), dtype)
    assert str(caught.value) == (
        f"weights {dtype}: that is the dtype that tiny-random was loaded in; use loaded, or "
        "another --sparsity-dtype"
    )


# --- on disk


def test_calibrated_weights_are_kept(model, texts, tmp_path, monkeypatch):
    first = compress(model, "wanda-0.5", texts, tmp_path)
    monkeypatch.setattr(module, "compress_in_sequence", None)
    again = compress(model, "wanda-0.5", texts, tmp_path)
    assert again.provenance == first.provenance
    assert again.model.weights_hash == first.model.weights_hash
    for site, weight in weights(again.model).items():
        assert torch.equal(weight, weights(first.model)[site])
        assert not weight.requires_grad
    wide, changed = load_model("tiny-random", dtype="float32"), replace(model, network_hash="x")
    for other, text in ((model, texts[:2]), (wide, texts), (changed, texts)):
        with pytest.raises(TypeError, match="NoneType"):
            compress(other, "wanda-0.5", text, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "nan"])
def test_damaged_weights_are_made_again(model, texts, tmp_path, damage):
    from safetensors.torch import load_file, save_file

    first = compress(model, "wanda-0.5", texts, tmp_path)
    (path,) = (tmp_path / "weights").glob("*.safetensors")
    if damage in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: 5000 if damage == "cut" else 0])
    else:
        tensors = load_file(path)
        tensors["1.down"][0, 0] = torch.nan
        from safetensors import safe_open

        with safe_open(path, "pt") as stream:
            header = stream.metadata() if damage == "nan" else {"format": "other"}
        save_file(tensors, path, metadata=header)
    with pytest.warns(SparsityWarning, match=r"compressed weights .* are damaged \(.*made again"):
        again = compress(model, "wanda-0.5", texts, tmp_path)
    for site, weight in weights(again.model).items():
        assert torch.equal(weight, weights(first.model)[site])
    compress(model, "wanda-0.5", texts, tmp_path)


# --- what is refused


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "int4",
            "weights int4: groups of 64 do not divide the 32 outputs of 0.k in tiny-random; "
            "use int4-32",
        ),
        (
            "gptq4-128",
            "weights gptq4-128: groups of 128 do not divide the 64 outputs of 0.q in "
            "tiny-random; use gptq4-32",
        ),
        ("int4-5", "groups of 5 do not divide the 64 outputs of 0.q in tiny-random; use int4-4"),
        ("int3", "weights 'int3' are not known; use loaded, int8, "),
    ],
)
def test_what_does_not_fit(model, texts, name, complaint):
    with pytest.raises(SparsityError) as caught:
        compress(model, name, texts)
    assert complaint in str(caught.value)


def odd(model, outputs, inputs):
    """The model with a matrix of another shape; it cannot run."""
    twin = model.twin()
    site = twin.sites[4]
    site.module.weight = nn.Parameter(torch.ones(outputs, inputs), requires_grad=False)
    site.module.out_features, site.module.in_features = outputs, inputs
    return twin


def test_shapes_that_fit_nothing(model):
    with pytest.raises(SparsityError, match=r"do not divide the 33 outputs of 0.gate.*; use int8$"):
        compress(odd(model, 33, 64), "int4-32")
    with pytest.raises(SparsityError) as caught:
        compress(odd(model, 64, 66), "magnitude-2:4")
    assert str(caught.value) == (
        "weights magnitude-2:4: groups of 4 do not divide the 66 inputs of 0.gate in "
        "tiny-random; prune a share instead, such as magnitude-0.5"
    )


class Packed(torch.Tensor):
    """As the tensors of libraries that quantise."""


@pytest.mark.parametrize("kind", ["int8", "Packed"])
def test_packed_weights_are_not_compressed(model, kind):
    twin = packed_at_0_v(model, kind)
    with pytest.raises(SparsityError) as caught:
        compress(twin, "int8")
    assert str(caught.value).startswith(
        f"the weight of 0.v in tiny-random is stored as {kind}, which can be neither compressed "
        "nor trained with; load the model in bfloat16"
    )


def test_packed_weights_are_folded_where_they_can_be_read(model):
    vectors = SpontaneousVectors({"0.v": torch.ones(64)}, {"weights": model.weights_hash})
    plain = vectors.fold(model)["0.v"]
    torch.testing.assert_close(vectors.fold(packed_at_0_v(model, "Packed"))["0.v"], plain)
    with pytest.raises(
        SparsityError, match=r"the layer of 0\.v in tiny-random is a torch\.nn\.Linear"
    ):
        vectors.fold(packed_at_0_v(model, "int8"))


def packed_at_0_v(model, kind):
    twin = model.twin()
    layer = twin.sites[2].module
    weight = layer.weight.to(torch.int8) if kind == "int8" else layer.weight.as_subclass(Packed)
    layer.register_parameter("weight", None)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return twin


@pytest.mark.parametrize("wrong", ["none", "lengths"])
def test_text_that_does_not_do(model, texts, wrong):
    tokens = [] if wrong == "none" else [texts[0], texts[1][:20]]
    with pytest.raises(SparsityError, match="needs documents of one length, and at least one"):
        compress(model, "wanda-0.5", tokens)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite(model, texts, value):
    twin = model.twin()
    table = twin.model.get_input_embeddings()
    table.weight = nn.Parameter(table.weight.clone(), requires_grad=False)
    table.weight[int(texts[0][3])] = value
    with pytest.raises(SparsityError, match=r"NaN or infinity.*--sparsity-dtype float32"):
        compress(twin, "wanda-0.5", texts)


def test_a_layer_with_dead_inputs(model, texts):
    twin = model.twin()
    norm = twin.decoder.layers[1].input_layernorm
    norm.weight = nn.Parameter(norm.weight.clone(), requires_grad=False)
    norm.weight[5] = 0
    for name in ("gptq4-32", "sparsegpt-0.5", "wanda-0.5"):
        found = compress(twin, name, texts).model
        for site in found.sites[7:10]:  # q, k and v of layer 1
            assert not site.module.weight[:, 5].any()
        assert hidden_states(found, texts[0]).isfinite().all()


def test_a_weight_that_is_shared_stays_as_it_was_elsewhere(model):
    twin = model.twin()
    q, o = twin.sites[0].module, twin.sites[3].module
    o.weight = q.weight
    loaded = q.weight.clone()
    found = compress(twin, "magnitude-0.5").model
    assert torch.equal(q.weight, loaded)
    assert torch.equal(found.sites[0].module.weight, found.sites[3].module.weight)
