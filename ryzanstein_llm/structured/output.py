"""The form that a text must have: which argument says so, its grammar, and what becomes of the
text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import IncompleteOutputError, InvalidOutputError, InvalidParameterError
from ..sampling.constraints import Constraint
from ..text.vocabulary import Vocabulary
from .constraint import grammar_constraint
from .grammars import choices_grammar, json_grammar, regex_grammar, written_grammar
from .schemas import read_instance, schema_of

__all__ = ["OUTPUT_ARGUMENTS", "OutputFormat"]


@dataclass(frozen=True)
class OutputFormat:
    """The checked form of one of the arguments `schema`, `regex`, `choices` and `grammar`.

    Attributes
    ----------
    argument : str
        What the caller calls it.
    grammar : str
        In the form that llguidance takes.
    json : bool
        Whether the text is JSON.
    target : type or None
        The class whose instance the text becomes: of Pydantic, or a dataclass.
    after : str or None
        The token after which it holds; None: from the beginning.
    unless : str or None
        A tag with which the text may begin instead of having the form.
    """

    argument: str
    grammar: str
    json: bool = False
    target: type | None = None
    after: str | None = None
    unless: str | None = None

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> OutputFormat | None:
        """The form that these arguments ask for; None if they ask for none.

        Raises
        ------
        InvalidParameterError
            More than one is given, or one is of the wrong type.
        MissingExtraError
            llguidance is not installed.
        """
        given = {name: arguments.get(name) for name in OUTPUT_ARGUMENTS}
        given = {name: value for name, value in given.items() if value is not None}
        if not given:
            return None
        if len(given) > 1:
            first, second = list(given)[:2]
            raise InvalidParameterError(f"cannot be given together with {first}", second)
        [(name, value)] = given.items()
        return OUTPUT_ARGUMENTS[name](name, value)

    @classmethod
    def from_schema(cls, argument: str, value: Any) -> OutputFormat:
        """From a JSON schema as a dict, a class of Pydantic, or a dataclass."""
        schema, target = schema_of(argument, value)
        return cls(argument, json_grammar(argument, schema), json=True, target=target)

    def constraint(self, vocabulary: Vocabulary) -> Constraint:
        """A new constraint for one text.

        Raises
        ------
        InvalidParameterError
            The grammar is not valid; the message is that of llguidance.
        UnsupportedFeatureError
            llguidance does not know tokenizers of this kind.
        TokenizerMissingError
        """
        return grammar_constraint(vocabulary, self.argument, self.grammar, self.after, self.unless)

    def read(self, text: str, finish_reason: str, context_full: bool = False) -> Any:
        """What a text means: JSON as Python's values or as an instance of `target`, another text
        as it is.

        Raises
        ------
        IncompleteOutputError
            The text ended before its form was complete, or begins with the tag `unless`.
        InvalidOutputError
            `target` refuses the text, or it is beyond what Python's JSON reader can read.
        """
        if finish_reason != "eos" or (self.unless and text.startswith(self.unless)):
            raise IncompleteOutputError(self.argument, text, finish_reason, context_full)
        if not self.json:
            return text
        try:
            return json.loads(text) if self.target is None else read_instance(self.target, text)
        except (ValueError, AssertionError, RecursionError) as error:
            # what validators raise, says Pydantic; and numbers or lists beyond Python's limits
            problem = str(error) or type(error).__name__
            raise InvalidOutputError(self.argument, text, problem) from error


def _plain(grammar: Callable[[str, Any], str]) -> Callable[[str, Any], OutputFormat]:
    return lambda name, value: OutputFormat(name, grammar(name, value))


OUTPUT_ARGUMENTS: dict[str, Callable[[str, Any], OutputFormat]] = {
    "schema": OutputFormat.from_schema,
    "regex": _plain(regex_grammar),
    "choices": _plain(choices_grammar),
    "grammar": _plain(written_grammar),
}
"""The arguments, and how each is read from its name and value."""
