from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibration import magnitude_quantiles
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.methods.spon import library as library_module
from pytest_sparsity.methods.spon.library import MissingVectors, VectorLibrary, file_name
from pytest_sparsity.methods.spon.residual import mean_residual
from pytest_sparsity.methods.spon.training import Recipe
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import load_model, parallel
from pytest_sparsity.models.compression.compress import compress
from pytest_sparsity.models.forward import hidden_states

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = torch.randint(0, 256, (24,), generator=torch.Generator().manual_seed(3))


def plan_of(model: Any, bias: dict[str, torch.Tensor] | None = None) -> Plan:
    found = magnitude_quantiles(model, [TEXT], [0.5], FIRST_TOKEN_DENSE)[0.5]
    selectors = {site: Threshold(value) for site, value in found.items()}
    return Plan("teal", 0.5, selectors, FIRST_TOKEN_DENSE, bias or {})


def random_vectors(model: Any, scale: float = 0.3, **provenance: Any) -> SpontaneousVectors:
    generator = torch.Generator().manual_seed(5)
    a = {
        site.name: scale * torch.randn(site.module.in_features, generator=generator)
        for site in model.sites
    }
    return SpontaneousVectors(a, {"weights": model.weights_hash, **provenance})


# --- fold


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_zero_vectors_are_the_identity(family: str, small_model: Any) -> None:
    model = small_model(family)
    with sparsify(model, plan_of(model)):
        plain = hidden_states(model, TEXT)
    zeros = random_vectors(model, 0.0).fold(model)
    assert set(zeros) == {site.name for site in model.sites}
    with sparsify(model, plan_of(model, zeros)):
        assert torch.equal(hidden_states(model, TEXT), plain)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_folding_is_the_additive_form(family: str, small_model: Any) -> None:
    model = small_model(family)
    assert (model.sites[0].module.bias is not None) == (family == "qwen2")
    vectors = random_vectors(model)
    with sparsify(model, plan_of(model, vectors.fold(model))):
        folded = hidden_states(model, TEXT)
    with sparsify(model, plan_of(model)):
        plain = hidden_states(model, TEXT)
        handles = [  # after S: y = W (S(x) + a) + b
            site.module.register_forward_pre_hook(
                lambda _, args, a=vectors.a[site.name]: (args[0] + a,)
            )
            for site in model.sites
        ]
        additive = hidden_states(model, TEXT)
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(folded, additive, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(folded, plain, atol=1e-2)


def test_vectors_of_another_model_are_one_clear_sentence(tiny: Any, small_model: Any) -> None:
    other = small_model("llama")
    with pytest.raises(SparsityError) as caught:
        random_vectors(tiny).fold(other)
    assert str(caught.value) == (
        "spontaneous vectors do not fit model small-llama at site 0.q: they were made for weights "
        f"{tiny.weights_hash[:12]}, the model has {other.weights_hash[:12]}; train them again with "
        "--sparsity-train all"
    )


# --- files


def test_what_is_saved_is_what_is_loaded(tiny: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "vectors.safetensors"
    vectors = random_vectors(tiny, recipe={"sites": ("q", "down")}, loss=[0.5, 0.25], level=0.5)
    vectors.save(path)
    found = SpontaneousVectors.load(path)
    assert found.provenance == {**vectors.provenance, "recipe": {"sites": ["q", "down"]}}
    assert set(found.a) == set(vectors.a)
    for site, a in vectors.a.items():
        assert found.a[site].dtype == torch.float32
        assert torch.equal(found.a[site], a.half().float())
    found.save(path)
    assert SpontaneousVectors.load(path).hash == found.hash


def test_the_hash_is_of_sites_and_values(tiny: Any) -> None:
    one = random_vectors(tiny)
    other = {site: a.clone() for site, a in reversed(one.a.items())}
    assert SpontaneousVectors(other, {}).hash == one.hash
    other["1.up"][3] += 1e-3
    assert SpontaneousVectors(other, {}).hash != one.hash
    renamed = {site.replace("2.", "3."): a for site, a in one.a.items()}
    assert SpontaneousVectors(renamed, {}).hash != one.hash


def damaged(how: str, path: Path, vectors: SpontaneousVectors) -> None:
    """Leave at ``path`` what is not, or no longer, a file of vectors."""
    if how == "of another format":
        save_file(dict(vectors.a), path, metadata={"format": "something else"})
    elif how == "without a header":
        save_file(dict(vectors.a), path)
    else:
        vectors.save(path)
        content = path.read_bytes()
        where = content.index(b'{\\"weights')
        path.write_bytes(
            {
                "truncated": content[:-10],
                "empty": b"",
                "a text": b"hello, world",
                "with a bad provenance": content[:where] + b"[" + content[where + 1 :],
            }[how]
        )


@pytest.mark.parametrize("how", ["truncated", "empty", "a text", "with a bad provenance"])
def test_a_damaged_file_is_one_clear_sentence(tiny: Any, tmp_path: Path, how: str) -> None:
    path = tmp_path / "v.safetensors"
    damaged(how, path, random_vectors(tiny))
    with pytest.raises(SparsityError, match=r"v\.safetensors cannot be read as spontaneous") as c:
        SpontaneousVectors.load(path)
    assert str(c.value).endswith("delete it and train again with --sparsity-train missing")


def test_a_provenance_that_is_no_object_is_refused(tmp_path: Path) -> None:
    SpontaneousVectors({"0.q": torch.zeros(2)}, {}).save(tmp_path / "v.safetensors")
    content = (tmp_path / "v.safetensors").read_bytes()
    (tmp_path / "v.safetensors").write_bytes(content.replace(b'"{}"', b'"[]"'))
    with pytest.raises(SparsityError, match="its provenance is not an object"):
        SpontaneousVectors.load(tmp_path / "v.safetensors")


@pytest.mark.parametrize("how", ["of another format", "without a header"])
def test_a_foreign_file_is_one_clear_sentence(tiny: Any, tmp_path: Path, how: str) -> None:
    path = tmp_path / "v.safetensors"
    damaged(how, path, random_vectors(tiny))
    with pytest.raises(SparsityError, match=r"vectors \('.*' expected, .* found\)"):
        SpontaneousVectors.load(path)


def test_a_missing_file_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(SparsityError, match="cannot be read as spontaneous vectors"):
        SpontaneousVectors.load(tmp_path / "none.safetensors")


# --- the control


@pytest.mark.parametrize("policy", ["none", "first:2"])
def test_the_mean_residual_is_the_closed_form(tiny: Any, policy: str) -> None:
    texts = [TEXT[:9], TEXT[5:24], TEXT[3:7]]
    plan = Plan("teal", 0.5, plan_of(tiny).selectors, PrefillPolicy(policy))
    found = mean_residual(tiny, plan, texts)
    rows: dict[str, list[torch.Tensor]] = {site.name: [] for site in tiny.sites}
    handles = [
        site.module.register_forward_pre_hook(
            lambda _, args, name=site.name: rows[name].append(args[0][0])
        )
        for site in tiny.sites
    ]
    for text in texts:
        hidden_states(tiny, text)
    for handle in handles:
        handle.remove()
    skip = 2 if policy == "first:2" else 0
    for site, xs in rows.items():
        x = torch.cat([x[skip:] for x in xs]).double()
        t = plan.selectors[site].value  # type: ignore[attr-defined]
        expected = torch.where(x.abs() > t, torch.zeros_like(x), x).mean(0)
        assert expected.abs().max() > 0
        torch.testing.assert_close(found.a[site].double(), expected, rtol=1e-5, atol=1e-6)
    assert found.provenance == {
        "setting": "mean_residual",
        "weights": tiny.weights_hash,
        "method": "teal",
        "level": 0.5,
        "prefill": policy,
    }


def test_only_planned_sites_have_a_mean_residual(tiny: Any) -> None:
    whole = plan_of(tiny)
    down = {site: s for site, s in whole.selectors.items() if site.endswith("down")}
    part = mean_residual(tiny, Plan("teal", 0.5, down), [TEXT])
    assert sorted(part.a) == ["0.down", "1.down", "2.down"]
    assert torch.equal(part.a["1.down"], mean_residual(tiny, whole, [TEXT]).a["1.down"])


def test_the_mean_residual_does_not_depend_on_the_number_of_workers(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [TEXT.repeat(9)[:n] for n in (200, 3, 90, 5, 40, 4, 7)]  # short ones overtake
    hashes = []
    for workers in (1, 2, 4):
        monkeypatch.setattr(parallel, "cores", lambda workers=workers: workers)
        hashes.append(mean_residual(tiny, plan_of(tiny), texts).hash)
    assert len(set(hashes)) == 1


def test_a_policy_that_leaves_nothing_to_sparsify(tiny: Any) -> None:
    plan = Plan("teal", 0.5, plan_of(tiny).selectors, PrefillPolicy("first:30"))
    with pytest.raises(SparsityError, match="first:30 keeps every token of the calibration text"):
        mean_residual(tiny, plan, [TEXT])


# --- the library

RECIPE = Recipe(steps=2, sequences=2, length=8, held_out=2)
STREAMS = {"book": TEXT.repeat(4), "other": TEXT.flip(0).repeat(4)}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """Recipes of the trainings that take place; each gives other vectors."""
    made: list[Recipe] = []

    def train(
        model: Any, plan: Plan, streams: Any, recipe: Recipe, progress: Any, teacher: Any = None
    ) -> Any:
        made.append(recipe)
        return trained(model, plan, recipe, scale=0.1 * len(made))

    monkeypatch.setattr(library_module, "train", train)
    return made


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of shipped vectors, empty."""
    monkeypatch.setattr(library_module, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped"


def trained(model: Any, plan: Plan, recipe: Recipe, scale: float = 0.3, **changes: Any) -> Any:
    from dataclasses import asdict

    provenance = {
        "setting": "trained",
        "method": plan.method,
        "level": plan.level,
        "prefill": plan.prefill.name,
        "recipe": asdict(recipe),
        **changes,
    }
    return random_vectors(model, scale, **provenance)


def test_without_vectors_never_is_one_clear_sentence(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe]
) -> None:
    with pytest.raises(MissingVectors) as caught:
        VectorLibrary(tmp_path / "cache", RECIPE).get(tiny, plan_of(tiny), STREAMS)
    assert str(caught.value) == (
        "no trained spontaneous vectors fit tiny-random at teal 0.50 (prefill first:1); train "
        "them with --sparsity-train missing"
    )
    assert isinstance(caught.value, SparsityError)
    assert trainings == []
    assert not (tmp_path / "cache").exists()  # looking leaves no trace


def test_a_foreign_file_in_the_cache_is_named(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe]
) -> None:
    plan, cache = plan_of(tiny), tmp_path / "cache"
    VectorLibrary(cache, RECIPE, "missing").get(tiny, plan, STREAMS)
    (path,) = (cache / "vectors").rglob("*.safetensors")
    vectors = SpontaneousVectors.load(path)
    SpontaneousVectors(vectors.a, {**vectors.provenance, "level": 0.4}).save(path)
    with pytest.raises(MissingVectors, match=rf"\({path} is damaged or of something else\); train"):
        VectorLibrary(cache, RECIPE).get(tiny, plan, STREAMS)


@pytest.mark.parametrize("when", ["never", "missing"])
def test_shipped_vectors_that_fit_are_used(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe], when: str
) -> None:
    plan = plan_of(tiny)
    trained(tiny, plan, Recipe(steps=99)).save(shipped / file_name("tiny-random", "teal", 0.5))
    found = VectorLibrary(tmp_path / "cache", RECIPE, when).get(tiny, plan, STREAMS)
    assert found.hash == SpontaneousVectors.load(shipped / "tiny-random-teal-0.5.safetensors").hash
    assert found.provenance["recipe"]["steps"] == 99
    assert trainings == []


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "0" * 64},
        {"method": "cats"},
        {"level": 0.4},
        {"prefill": "none"},
        {"recipe": {"sites": ["down"], "layers": None}},
        {"recipe": {"sites": list(Recipe().sites), "layers": [0, 1]}},
        {"recipe": {}},
        {"recipe": None},
    ],
)
def test_shipped_vectors_that_do_not_fit_are_not_used(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe], changes: dict[str, Any]
) -> None:
    plan = plan_of(tiny)
    path = shipped / file_name("tiny-random", "teal", 0.5)
    vectors = trained(tiny, plan, RECIPE)
    SpontaneousVectors(vectors.a, {**vectors.provenance, **changes}).save(path)
    with pytest.raises(MissingVectors):
        VectorLibrary(tmp_path / "cache", RECIPE).get(tiny, plan, STREAMS)
    VectorLibrary(tmp_path / "cache", RECIPE, "missing").get(tiny, plan, STREAMS)
    assert trainings == [RECIPE]


def test_vectors_of_compressed_weights_have_names_of_their_own() -> None:
    assert file_name("m", "teal", 0.5) == "m-teal-0.5.safetensors"
    assert file_name("m", "teal", 0.0, "wanda-2:4") == "m-wanda-2of4-teal-0.0.safetensors"


def test_shipped_vectors_of_other_weights_are_never_used(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe]
) -> None:
    """Whatever a file is called, the hashes in it decide."""
    int8, plan = compress(tiny, "int8").model, plan_of(tiny)
    own = trained(int8, plan, RECIPE, teacher=tiny.weights_hash)
    library = VectorLibrary(tmp_path / "cache", RECIPE)
    for weights, provenance in (
        ("loaded", own.provenance),
        ("int4-32", own.provenance),
        ("int8", trained(tiny, plan, RECIPE).provenance),
        ("int8", trained(int8, plan, RECIPE).provenance),  # taught by the int8 model itself
    ):
        path = shipped / file_name("tiny-random", "teal", 0.5, weights)
        SpontaneousVectors(own.a, provenance).save(path)
        with pytest.raises(MissingVectors, match="fit tiny-random with weights int8 at teal"):
            library.get(int8, plan, STREAMS, tiny, "int8")
        with pytest.raises(MissingVectors):
            library.get(compress(tiny, "int4-32").model, plan, STREAMS, tiny, "int4-32")
    with pytest.raises(MissingVectors, match="fit tiny-random at teal"):
        library.get(tiny, plan, STREAMS)  # the first file has its name
    own.save(shipped / file_name("tiny-random", "teal", 0.5, "int8"))
    assert library.get(int8, plan, STREAMS, tiny, "int8").provenance["teacher"] == tiny.weights_hash


def test_missing_vectors_are_trained_once(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe]
) -> None:
    plan = plan_of(tiny)
    first = VectorLibrary(tmp_path, RECIPE, "missing").get(tiny, plan, STREAMS)
    assert first.provenance["text"] == ["book", "other"]
    assert len(first.provenance["text_hash"]) == 16
    for when in ("missing", "never", "all"):
        assert VectorLibrary(tmp_path, RECIPE, when).get(tiny, plan, STREAMS).hash == first.hash
    assert len(trainings) == 1


def test_all_passes_over_what_is_shipped(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe]
) -> None:
    plan = plan_of(tiny)
    trained(tiny, plan, RECIPE).save(shipped / file_name("tiny-random", "teal", 0.5))
    found = VectorLibrary(tmp_path, RECIPE, "all").get(tiny, plan, STREAMS)
    assert len(trainings) == 1
    assert found.hash != VectorLibrary(tmp_path, RECIPE).get(tiny, plan, STREAMS).hash


def test_another_recipe_text_or_policy_is_another_training(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe]
) -> None:
    plan = plan_of(tiny)
    bare = Plan("teal", 0.5, plan.selectors, PrefillPolicy("none"))
    for recipe, used, streams in (
        (RECIPE, plan, STREAMS),
        (Recipe(steps=3), plan, STREAMS),
        (RECIPE, plan, {"book": STREAMS["book"]}),
        (RECIPE, plan, {"book": STREAMS["other"], "other": STREAMS["book"]}),
        (RECIPE, bare, STREAMS),
    ):
        VectorLibrary(tmp_path, recipe, "missing").get(tiny, used, streams)
    assert len(trainings) == 5


def test_damaged_vectors_are_told_and_trained_again(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe]
) -> None:
    plan = plan_of(tiny)
    name = file_name("tiny-random", "teal", 0.5)
    damaged("truncated", shipped / name, random_vectors(tiny))
    library = VectorLibrary(tmp_path / "cache", RECIPE, "missing")
    with pytest.warns(SparsityWarning, match=f"shipped/{name} cannot be read"):
        first = library.get(tiny, plan, STREAMS)
    (shipped / name).unlink()
    (kept,) = (tmp_path / "cache").rglob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:-3])
    with pytest.warns(SparsityWarning) as caught:
        again = library.get(tiny, plan, STREAMS)
    assert len(caught) == 1
    assert len(trainings) == 2
    assert again.hash != first.hash
    assert library.get(tiny, plan, STREAMS).hash == again.hash


def test_a_cache_that_cannot_be_written(
    tiny: Any, tmp_path: Path, shipped: Path, trainings: list[Recipe]
) -> None:
    (tmp_path / "cache").write_text("not a folder")
    library = VectorLibrary(tmp_path / "cache", RECIPE, "missing")
    with pytest.raises(SparsityError, match=r"^cannot write .*/cache/vectors/"):
        library.get(tiny, plan_of(tiny), STREAMS)
    with pytest.raises(MissingVectors):
        VectorLibrary(tmp_path / "cache", RECIPE).get(tiny, plan_of(tiny), STREAMS)


def test_what_is_used_is_what_is_stored(tiny: Any, tmp_path: Path, shipped: Path) -> None:
    plan = plan_of(tiny)
    bfloat16 = load_model("tiny-random", dtype="bfloat16")
    library = VectorLibrary(tmp_path, RECIPE, "missing")
    first = library.get(tiny, plan, STREAMS)
    assert library.get(bfloat16, plan, STREAMS).hash == first.hash  # fits every dtype
    assert all(torch.equal(a, a.half().float()) for a in first.a.values())
