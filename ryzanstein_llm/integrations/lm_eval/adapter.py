"""`RyzansteinLM`: what lm-eval asks of a model. Texts are split, cut and scored as its `hf` model
does it, so that scores can be compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from ..._version import __version__
from ...errors import InvalidParameterError
from ...evaluation import (
    MAX_TOKENS,
    Likelihood,
    Progress,
    TaskChat,
    cut,
    generate_answers,
    open_pretrained,
    read_generation_kwargs,
    score_pairs,
)
from ...model import BitNetModel
from ...models import refuse_embedding_model
from ...progress import tqdm_progress
from ...text_table import beginning
from ...validation import check_bool, check_callable, check_int

__all__ = ["RyzansteinLM"]

Encoded = tuple[tuple[str, str] | None, list[int], list[int]]
"""A request as lm-eval has it, the tokens of its context, and those of its continuation."""


@register_model("ryzanstein")
class RyzansteinLM(TemplateLM):
    """A model of this library for lm-evaluation-harness.

    With `kv_dtype="float32"`, scores are those of lm-eval's `hf` model in float32, but for
    rounding.

    Parameters
    ----------
    pretrained : BitNetModel or path, optional
        An open model, or what `BitNetModel` or `BitNetModel.from_pretrained` opens. Default: the
        built-in demo model.
    revision : str, optional
        Of a repository of the hub.
    max_length : int, optional
        Tokens of a context, at most those of the model. Longer ones lose their beginning, and a log
        message says so.
    add_bos_token : bool, optional
        Whether texts begin with the beginning-of-text token. Default: what the tokenizer says. A
        text that already begins with it gets no second one.
    prefix_token_id : int, optional
        The token before a text that has no context. Default: beginning-of-text, or the end-of-text
        token if the tokenizer has none.
    chat_template : str, optional
        Jinja, or the name of one of several templates of the checkpoint.
    chat_template_args : dict, optional
        Variables of the template.
    enable_thinking : bool, optional
        The variable of this name. With True, tasks that only score texts are refused, and
        `think_end_token` is needed.
    think_end_token : str or int, optional
        Answers begin after the last one of it.
    seed : int
        For tasks that sample, if they name none. Repeated samples of a prompt have `seed`,
        `seed` + 1 and so on.
    progress : callable (done, total, what), optional
        Called as requests are done. Default: bars of tqdm, as lm-eval's other models have them.
    batch_size, max_batch_size, device
        Ignored. The library decides what it computes together, which changes no result, and
        computes on the CPU, while lm-eval's command says "cuda:0" unless told otherwise.
    **options
        Those of `BitNetModel`, such as `n_threads`, `kv_dtype` and `weight_format`.

    Raises
    ------
    InvalidParameterError
    TokenizerMissingError
        If the checkpoint has no tokenizer.
    UnsupportedModelError
        If the model embeds texts and cannot continue them.
    RyzansteinError
        What opening the model raises.
    """

    def __init__(
        self,
        pretrained: BitNetModel | str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        chat_template: str | None = None,
        chat_template_args: Mapping[str, Any] | None = None,
        enable_thinking: bool | None = None,
        think_end_token: str | int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_callable("progress", progress)
        self._seed = check_int("seed", seed, 0, (1 << 63) - 1)
        self._add_bos = (
            None if add_bos_token is None else check_bool("add_bos_token", add_bos_token)
        )
        self._progress = progress
        self.batch_size = batch_size
        self._think_end = think_end_token
        if isinstance(think_end_token, str) and think_end_token.isdigit():
            self._think_end = int(think_end_token)
        self._thinks = bool(enable_thinking)
        if self._thinks and think_end_token is None:
            raise InvalidParameterError("is needed with enable_thinking", "think_end_token")
        model = open_pretrained(pretrained, revision, max_length, options)
        refuse_embedding_model(model.graph, model.path)
        model.vocabulary.refuse_text(True)
        limit = model.context_length
        self.model = model
        self.max_length = (
            limit if max_length is None else check_int("max_length", max_length, 1, limit)
        )
        if prefix_token_id is not None:
            check_int("prefix_token_id", prefix_token_id, 0, model.vocab_size - 1)
        self._prefix = prefix_token_id
        arguments = dict(chat_template_args or {})
        if enable_thinking is not None:
            arguments["enable_thinking"] = enable_thinking
        self._chat = TaskChat(model, chat_template, arguments)

    # ---- tokens ----------------------------------------------------------------------------

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        tokenizer = self.model.tokenizer
        assert tokenizer is not None
        named = [tokenizer.eos_id, *self.model.eos_ids, self.model.start_id]
        found = next((each for each in named if each is not None), None)
        if found is None:
            raise InvalidParameterError(
                f"{self.model.path}: the checkpoint names no BOS, EOS or padding token for texts "
                "without a context; pass prefix_token_id"
            )
        return found

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that has no context."""
        if self._prefix is not None:
            return self._prefix
        tokenizer = self.model.tokenizer
        assert tokenizer is not None
        return self.eot_token_id if tokenizer.bos_id is None else tokenizer.bos_id

    @property
    def max_gen_toks(self) -> int:
        """Tokens that are generated at most if a task does not say it."""
        return MAX_TOKENS

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """The tokens of a text. If `add_special_tokens` is None, with those that the tokenizer
        adds, unless `add_bos_token` says otherwise or the text begins with the prefix token."""
        return self._encode(string, add_special_tokens, self.prefix_token_id)

    def tok_decode(self, tokens: Sequence[int] | int, skip_special_tokens: bool = True) -> str:
        """The text of tokens."""
        ids = [tokens] if isinstance(tokens, int) else tokens
        return self.model.detokenize(ids, skip_special_tokens=skip_special_tokens)

    def _encode(self, text: str, add: bool | None, first_id: int | None) -> list[int]:
        if add is None:
            first = "" if first_id is None else self.tok_decode(first_id, False)
            begun = bool(first) and text.startswith(first)
            add = not begun and self._add_bos is not False
        return self.model.tokenize(text, add_special_tokens=add)

    # ---- scores ----------------------------------------------------------------------------

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[Likelihood]:
        """The log probability of each continuation, and whether greedy decoding gives it. See
        `TemplateLM.loglikelihood`.

        Raises
        ------
        InvalidParameterError
            If a continuation has no token or more than `max_length`, or with `enable_thinking`.
        """
        if self._thinks:
            problem = "must not be True for tasks that score texts, because they ask for no answer"
            raise InvalidParameterError(problem, "enable_thinking")
        for request in requests:
            context, continuation = request.args[:2]
            if not context and not continuation:
                raise self._empty(context, continuation)
        quiet = disable_tqdm or self._progress is not None
        found: list[Likelihood] = super().loglikelihood(requests, disable_tqdm=quiet)
        return found

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """The log probability of each whole text, in windows of `max_length` tokens."""
        windows: list[Encoded] = []
        counts = []
        for request in requests:
            pairs = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            own = [(None, *make_disjoint_window(pair)) for pair in pairs]
            windows += own
            counts.append(len(own))
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        found = []
        for request, count in zip(requests, counts, strict=True):
            found.append(sum((next(scores)[0] for _ in range(count)), 0.0))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **_: Any
    ) -> list[Likelihood]:
        """What `loglikelihood` gives, for tokens."""
        for texts, _context, continuation in requests:
            if not continuation:
                raise self._empty(*(texts or ("", "")))

        def keep(place: int, found: Likelihood) -> None:
            texts = requests[place][0]
            if texts is not None:  # None: a window of a text
                self.cache_hook.add_partial("loglikelihood", texts, found)

        pairs = [(context, continuation) for _texts, context, continuation in requests]
        return score_pairs(self.model, pairs, self.max_length, self._report(disable_tqdm), keep)

    # ---- texts -----------------------------------------------------------------------------

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The continuation of each context. See `read_generation_kwargs` for the arguments.

        Raises
        ------
        InvalidParameterError
            If an argument is wrong, or leaves no room for a context.
        """
        tokenizer = self.model.tokenizer
        assert tokenizer is not None
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        asked = []
        for request in requests:
            text, given = request.args
            task = read_generation_kwargs(given, self.model, self._seed)
            until = dict.fromkeys([*task.until, *([end] if end else [])])
            ids = self._encode(text, None, tokenizer.bos_id)
            asked.append((ids, replace(task, until=tuple(until))))

        def keep(place: int, ids: list[int]) -> None:
            text = self._answer(ids, asked[place][1].until)
            self.cache_hook.add_partial("generate_until", requests[place].args, text)

        report = self._report(disable_tqdm)
        found = generate_answers(self.model, asked, self.max_length, report, keep)
        return [self._answer(ids, task.until) for ids, (_, task) in zip(found, asked, strict=True)]

    def _answer(self, ids: list[int], until: tuple[str, ...]) -> str:
        """The text of the tokens, cut as lm-eval cuts it."""
        mark = self._think_end
        if isinstance(mark, int):
            last = next((at for at in reversed(range(len(ids))) if ids[at] == mark), -1)
            return cut(self.tok_decode(ids[last + 1 :]).lstrip(), until)
        text = self.tok_decode(ids)
        return cut(text.split(mark)[-1].lstrip() if mark else text, until)

    # ---- chat ------------------------------------------------------------------------------

    def apply_chat_template(
        self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as text. Without `add_generation_prompt`, it ends within the last message,
        for the model to go on."""
        return self._chat.text(chat_history, add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The source of the template, for lm-eval's records.

        Raises
        ------
        InvalidParameterError
            If it is asked for by name, which belongs into the arguments of the model.
        ChatTemplateError
        """
        if isinstance(chat_template, str):
            problem = (
                f"must be named among the arguments of the model: chat_template={chat_template}"
            )
            raise InvalidParameterError(problem, "apply_chat_template")
        return self._chat.source if chat_template else None

    # ---- facts -----------------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval's cache of requests calls the tokenizer."""
        return str(self.model.path).replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """Facts that lm-eval writes beside its results."""
        facts = self.model.info()
        return {
            "model_path": str(self.model.path),
            "model_num_parameters": facts["parameters"],
            "model_dtype": facts["weight_format"],
            "kv_dtype": facts["kv_dtype"],
            "max_length": self.max_length,
            "ryzanstein_llm": __version__,
        }

    def _report(self, quiet: bool) -> Progress | None:
        if self._progress is not None or quiet:
            return self._progress
        from tqdm import tqdm

        return tqdm_progress(tqdm)

    def _empty(self, context: str, continuation: str) -> InvalidParameterError:
        problem = f"must have a token after {beginning(context)}, but {continuation!r} has none"
        return InvalidParameterError(problem, "continuation")
