"""Our model as lm-eval sees one; importing this needs lm-eval."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.scoring import (
    Score,
    Span,
    check_finite,
    encode,
    score_spans,
    token_limit,
)
from pytest_sparsity.evaluation.texts import Prompt, continue_texts
from pytest_sparsity.models import LanguageModel

_NEW_TOKENS = 256  # lm-eval's own default where a task does not say
_WINDOW = 2048  # tokens of a rolling window where the model sets no limit


class HarnessModel(LM):  # type: ignore[misc]
    """Scores and continues texts for lm-eval, by the rules of its Hugging Face models.

    Args:
        model: dense or with a plan attached.
        task: named in messages.
        share: as for :func:`~.scoring.score_spans`.
    """

    def __init__(self, model: LanguageModel, task: str, *, share: bool) -> None:
        super().__init__()
        self._model = model
        self._task = task
        self._share = share

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether it is greedy.

        Raises:
            SparsityError: a request is too long, or a log-likelihood is not finite.
        """
        # The choices of a question stand side by side, and share its prefix.
        groups = [
            [self._span(*request.args) for request in together]
            for _, together in itertools.groupby(requests, key=lambda request: request.args[0])
        ]
        return [(score.log_likelihood, score.greedy) for score in self._scores(groups)]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Log-likelihood of each text, in windows of the model's length."""
        length = token_limit(self._model) or _WINDOW
        totals = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self._tokens(request.args[0]),
                prefix_token=self._start(),
                max_seq_len=length - 1,
                context_len=1,
            )
            pairs = map(make_disjoint_window, windows)
            groups = [[Span([*context, *text], len(context))] for context, text in pairs]
            totals.append(sum(score.log_likelihood for score in self._scores(groups)))
        return totals

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The greedy continuation of each context up to a stop.

        Raises:
            SparsityError: a request is too long or wants sampling, or a logit is NaN.
        """
        prompts = [self._prompt(*request.args) for request in requests]
        return [text for _, text in continue_texts(self._model, prompts, share=self._share)]

    def length(self, arguments: Sequence[Any]) -> int:
        """Tokens of a request: of its texts, what is generated not among them."""
        return sum(len(self._tokens(text)) for text in arguments if isinstance(text, str))

    def _prompt(self, context: str, options: dict[str, Any]) -> Prompt:
        if options.get("do_sample") and float(options.get("temperature", 1.0)) > 0:
            raise SparsityError(
                f"task {self._task} samples its answers; only greedy ones can be compared with "
                "the dense model's"
            )
        until = options.get("until") or []
        stops = (until,) if isinstance(until, str) else tuple(until)
        lead = [] if self._model.bos is None else [self._model.bos]
        tokens = [*lead, *self._tokens(context)]
        new = int(options.get("max_gen_toks", _NEW_TOKENS))
        self._check(len(tokens) + new)
        return Prompt(tokens, new, tuple(stop for stop in stops if stop))

    def _span(self, context: str, continuation: str) -> Span:
        bare = context.rstrip()
        text = context[len(bare) :] + continuation
        if bare:
            return encode(self._model, bare, text)
        return Span([self._start(), *self._tokens(text)], 1)

    def _scores(self, groups: list[list[Span]]) -> list[Score]:
        if any(span.start >= len(span.tokens) for group in groups for span in group):
            raise SparsityError(
                f"task {self._task} asks for the likelihood of an empty text, which would be "
                "likelier than any other; leave it out of --sparsity-tasks"
            )
        self._check(max(len(span.tokens) for group in groups for span in group))
        packs = score_spans(self._model, groups, share=self._share)
        scores = [score for pack in packs for group in pack for score in group]
        check_finite(self._model, f"task {self._task}", [s.log_likelihood for s in scores])
        return scores

    def _check(self, length: int) -> None:
        limit = token_limit(self._model)
        if limit is not None and length > limit:
            raise SparsityError(
                f"task {self._task} has a request of {length} tokens, more than the {limit} that "
                f"model {self._model.name} attends to; leave it out of --sparsity-tasks"
            )

    def _tokens(self, text: str) -> list[int]:
        found: list[int] = self._model.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def _start(self) -> int:
        """What stands before a text without context."""
        tokenizer = self._model.tokenizer
        known = (self._model.bos, tokenizer.bos_token_id, tokenizer.eos_token_id)
        return next(int(token) for token in known if token is not None)
