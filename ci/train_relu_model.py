"""Train the small ReLU model that is shipped in ``pytest_sparsity/models/shipped``.

    apt-get download r-cran-janeaustenr
    python ci/train_relu_model.py --novels r-cran-janeaustenr_1.0.0-1_all.deb --work FOLDER

PowerInfer rests on the zeros that a ReLU makes by itself, and no trained ReLU model comes in a
package.  This one has OPT's feed-forward part, down(relu(up(x))), in a Llama-like decoder (the
Arcee architecture of transformers).  Without a gate, because models that were trained with a plain
ReLU have the most zeros (OPT 96-98 %, ReLU-ed gated Llamas 62-82 %: arXiv 2312.12456, 2310.04564)
and transformers has no model with TurboSparse's two ReLUs (arXiv 2406.05955); without a penalty
that makes it sparser, because that is paid for in accuracy (ProSparse, arXiv 2402.13516) and the
zeros are to be natural.  Rotary positions, because learned ones end where training did.

An interrupted run goes on from the last checkpoint in FOLDER, to the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import relu_text
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.evaluation.corpora import CORPORA, corpus
from pytest_sparsity.evaluation.token_scores import score_tokens
from pytest_sparsity.methods.positions import observe_documents
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE
from pytest_sparsity.models import load_model
from pytest_sparsity.models.forward import hidden_states

NAME = "relu-4m"
SHIPPED = relu_text.DATA.parent.parent / "models" / "shipped" / NAME
END = "<|end|>"
SHAPE: dict[str, Any] = {
    "architectures": ["ArceeForCausalLM"],
    "model_type": "arcee",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "eos_token_id": 0,
    "head_dim": 64,
    "hidden_act": "relu",
    "hidden_size": 192,
    "initializer_range": 0.02,
    "intermediate_size": 1024,
    "max_position_embeddings": 2048,
    "mlp_bias": False,
    "num_attention_heads": 3,
    "num_hidden_layers": 6,
    "num_key_value_heads": 3,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 4096,
}


@dataclass(frozen=True)
class Recipe:
    """How the model is trained.

    Attributes:
        steps: updates of the weights.
        sequences: per step.
        length: tokens of a sequence.
        rate: highest learning rate; warms up, then falls to a tenth along a cosine.
        warmup: steps.
        decay: AdamW's, of matrices only.
        clip: largest norm of the gradient.
        held_out: the share of each text, at its end, that is not trained on.
        look_every: steps between two looks at the held-out loss.
        seed: of the first weights and the order of the sequences.
        threads: of torch.
    """

    steps: int = 1500
    sequences: int = 8
    length: int = 512
    rate: float = 3e-3
    warmup: int = 100
    decay: float = 0.1
    clip: float = 1.0
    held_out: float = 0.02
    look_every: int = 100
    seed: int = 0
    threads: int = 2


class Data:
    """The tokens, and which of them a step trains on."""

    def __init__(self, texts: dict[str, str], tokenizer: Tokenizer, recipe: Recipe) -> None:
        end = tokenizer.token_to_id(END)
        trained, held_out = [], []
        for text in texts.values():
            tokens = torch.tensor([*tokenizer.encode(text).ids, end])
            kept = int(len(tokens) * recipe.held_out)
            trained.append(tokens[:-kept])
            held_out.append(tokens[-kept:])
        self.trained = torch.cat(trained)
        tail = torch.cat(held_out)
        width = recipe.length + 1
        self.held_out = tail[: len(tail) // width * width].view(-1, width)
        self._recipe = recipe
        # One sequence fewer than fit: each epoch cuts at another offset.
        self._per_epoch = (len(self.trained) // recipe.length - 1) // recipe.sequences

    def batch(self, step: int) -> torch.Tensor:
        """Sequences [B, T + 1]: every token is met once per epoch, in packed sequences."""
        recipe = self._recipe
        epoch, place = divmod(step, self._per_epoch)
        generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + epoch)
        offset = int(torch.randint(recipe.length, (1,), generator=generator))
        order = torch.randperm(self._per_epoch * recipe.sequences, generator=generator)
        chosen = order[place * recipe.sequences : (place + 1) * recipe.sequences]
        starts = (offset + chosen * recipe.length).clamp(max=len(self.trained) - recipe.length - 1)
        return torch.stack([self.trained[s : s + recipe.length + 1] for s in starts.tolist()])


def main() -> int:
    """Train, or go on training, and write the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--novels", type=Path, required=True, help=relu_text.NOVELS)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of the model")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="fewer for a trial")
    options = parser.parse_args()
    recipe = Recipe(steps=options.steps)
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    texts = relu_text.training_texts(options.novels)
    compared = relu_text.check_disjoint(texts)
    tokenizer = train_tokenizer(texts)
    data = Data(texts, tokenizer, recipe)
    characters = sum(map(len, texts.values()))
    say(f"{len(data.trained)} tokens of {characters} characters; {compared} paragraphs kept out")
    model, progress = train(data, recipe, options.work)
    write(options.out, model, tokenizer)
    provenance = {
        "model": NAME,
        "licence": "Apache-2.0",
        "command": "python ci/train_relu_model.py "
        f"--novels {relu_text.NOVELS} --work FOLDER --steps {recipe.steps}",
        "texts": {
            name: {"sha256": sha256_text(text), "characters": len(text)}
            for name, text in texts.items()
        },
        "novels_sha256": relu_text.NOVELS_SHA256,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_of_text": len(data.trained),
        "tokens_trained_on": recipe.steps * recipe.sequences * recipe.length,
        **progress,
        **measured(options.out),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    text = json.dumps(provenance, indent=1)
    (options.out / "provenance.json").write_text(text + "\n", encoding="utf-8")
    return 0


def say(text: str) -> None:
    """Print at once, for a log that is watched."""
    print(text, flush=True)


def train_tokenizer(texts: dict[str, str]) -> Tokenizer:
    """A byte-level BPE: any text has tokens, and decoding gives it back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE["vocab_size"],
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts.values(), trainer)
    assert tokenizer.get_vocab_size() == SHAPE["vocab_size"]
    return tokenizer


def new_model(seed: int) -> Any:
    """The model before training: normal weights, those that end a branch smaller (GPT-2)."""
    shape = {k: v for k, v in SHAPE.items() if k not in ("architectures", "torch_dtype")}
    config = transformers.ArceeConfig(**shape | {"attn_implementation": "sdpa"})
    model = transformers.ArceeForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                deviation = 0.02 / (math.sqrt(2 * config.num_hidden_layers) if last else 1)
                parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.fill_(1)
    return model


def train(data: Data, recipe: Recipe, work: Path) -> tuple[Any, dict[str, Any]]:
    """The trained model, and what to report about its training."""
    model = new_model(recipe.seed)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    scales = [p for p in model.parameters() if p.ndim == 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": recipe.decay},
        {"params": scales},
    ]
    optimiser = torch.optim.AdamW(
        groups,
        lr=recipe.rate,
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / f"{NAME}-{sha256_text(repr(recipe), repr(SHAPE))[:8]}.pt"
    step, seconds = 0, 0.0
    losses: list[float] = []
    held_out: list[tuple[int, float]] = []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        step, seconds, losses, held_out = (
            saved[key] for key in ("step", "seconds", "losses", "held_out")
        )
        say(f"going on from step {step}")

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "seconds": seconds + time.monotonic() - started,
            "losses": losses,
            "held_out": held_out,
        }
        torch.save(state, checkpoint.with_suffix(".new"))
        os.replace(checkpoint.with_suffix(".new"), checkpoint)

    started = last_saved = time.monotonic()
    while step < recipe.steps:
        for group in optimiser.param_groups:
            group["lr"] = rate(step, recipe)
        loss = loss_of(model, data.batch(step))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(round(loss.item(), 4))
        step += 1
        if step % recipe.look_every == 0 or step == recipe.steps:
            with torch.no_grad():
                parts = [loss_of(model, rows).item() for rows in torch.split(data.held_out, 8)]
            held_out.append((step, round(sum(parts) / len(parts), 4)))
            now = seconds + time.monotonic() - started
            recent = losses[-recipe.look_every :]
            say(f"{step} {now:.0f} s loss {sum(recent) / len(recent):.3f} held out {held_out[-1]}")
        if time.monotonic() - last_saved > 60 or step == recipe.steps:
            save()
            last_saved = time.monotonic()
    every = recipe.look_every // 5
    curve = [
        (first + every, round(sum(losses[first : first + every]) / every, 4))
        for first in range(0, len(losses) - every + 1, every)
    ]
    spent = round(seconds + time.monotonic() - started, 1)
    return model.eval(), {"seconds": spent, "loss": curve, "held_out_loss": held_out}


def loss_of(model: Any, rows: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy per token of sequences [B, T + 1], in bfloat16 with float32 weights."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())


def rate(step: int, recipe: Recipe) -> float:
    """The learning rate of a step."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def write(folder: Path, model: Any, tokenizer: Tokenizer) -> None:
    """A folder that every supported version of transformers reads.

    Configurations are written here and not by transformers: what version 5 writes, version 4
    cannot read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in sorted(model.state_dict().items())
        if name != "lm_head.weight"  # tied to the embedding
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "model_max_length": SHAPE["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    for name, content in (("config.json", SHAPE), ("tokenizer_config.json", settings)):
        text = json.dumps(content, indent=1)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def measured(folder: Path, documents: int = 32, length: int = 512) -> dict[str, Any]:
    """What the stored model does on text that it was not trained on.

    Returns:
        By corpus: the perplexity of the first tokens of the first documents, the same in bits
        per character, and, per layer, the share of neurons that are exactly zero.
    """
    model = load_model(str(folder), dtype="float32")
    perplexity: dict[str, dict[str, float]] = {}
    zeros: dict[str, list[float]] = {}
    for name in CORPORA:
        chosen = corpus(name, "evaluation").documents[:documents]
        texts = [torch.tensor(model.tokenizer(d.text)["input_ids"][:length]) for d in chosen]
        nats, count = 0.0, 0
        for tokens in texts:
            found = score_tokens(model, hidden_states(model, tokens)[:-1], tokens[1:])
            nats -= float(found.log_likelihoods.double().sum())
            count += len(tokens) - 1
        characters = sum(len(model.tokenizer.decode(tokens[1:])) for tokens in texts)
        perplexity[name] = {
            "tokens": count,
            "perplexity": round(math.exp(nats / count), 3),
            "bits_per_character": round(nats / math.log(2) / characters, 4),
        }
        down = [site.name for site in model.sites if site.kind == "down"]
        totals = dict.fromkeys(down, 0.0)

        def inactive(site: str, x: torch.Tensor) -> float:
            return float((x == 0).double().mean())

        for shares in observe_documents(model, FIRST_TOKEN_DENSE, texts, inactive):
            for site in down:
                totals[site] += shares[site] / len(texts)
        zeros[name] = [round(totals[site], 4) for site in down]
    return {"perplexity": perplexity, "zeros": zeros}


if __name__ == "__main__":
    sys.exit(main())
