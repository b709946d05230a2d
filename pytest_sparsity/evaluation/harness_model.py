"""Our model as lm-eval sees one; importing this needs lm-eval."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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
from pytest_sparsity.models.tokens import text_tokens

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
            groups = [[span] for span in self._windows(self._tokens(request.args[0]), length)]
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
        tokens = [*self._model.first_tokens, *self._tokens(context)]
        new = int(options.get("max_gen_toks", _NEW_TOKENS))
        self._check(len(tokens) + new)
        return Prompt(tokens, new, tuple(stop for stop in stops if stop))

    def _span(self, context: str, continuation: str) -> Span:
        bare = context.rstrip()
        text = context[len(bare) :] + continuation
        if bare:
            return encode(self._model, bare, text)
        start = self._start()
        return Span([*start, *self._tokens(text)], len(start))

    def _windows(self, text: list[int], length: int) -> Iterator[Span]:
        """The text in pieces that follow what the model needs before every text.

        All but the first have one token of context or more.  lm-eval's own windows lack BOS from
        the second one on.
        """
        start, lead = self._start(), list(self._model.first_tokens)
        if len(start) + len(text) <= length:
            yield Span([*start, *text], len(start))
            return
        pairs = get_rolling_token_windows(
            token_list=text,
            prefix_token=start[-1],
            max_seq_len=length - 1 - len(lead),
            context_len=1,
        )
        for number, (context, following) in enumerate(map(make_disjoint_window, pairs)):
            before = start if number == 0 else [*lead, *context]
            yield Span([*before, *following], len(before))

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
        return text_tokens(self._model, text)

    def _start(self) -> list[int]:
        """What stands before a text without context.

        Raises:
            SparsityError: the model has nothing that could.
        """
        if self._model.first_tokens:
            return list(self._model.first_tokens)
        tokenizer = self._model.tokenizer
        for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
            if token is not None:
                return [int(token)]
        raise SparsityError(
            f"task {self._task} has a text without context, and model {self._model.name} has no "
            "BOS or EOS token to stand before it; leave it out of --sparsity-tasks"
        )
