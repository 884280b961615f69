"""A Jinja environment for templates that nobody has read. It needs the extra `chat`.

A checkpoint comes with a program: its chat template. Jinja's sandbox keeps that program away from
Python's internals, but lets it run for ever or fill the memory. Here it has a budget of time and
of characters (`template_budget.py`). Everything that can repeat or enlarge something spends of it:
loops, calls, filters, operators, and each piece of output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from functools import wraps
from typing import Any

from jinja2 import nodes, pass_context, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

from .template_budget import (
    budget,
    check_container,
    check_filter,
    check_method,
    check_operation,
    check_specification,
    spend_on,
    weigh,
)

__all__ = ["BoundedEnvironment"]

# Of no use in a prompt: chance, made-up text, tables for debugging, and regular expressions of
# quadratic cost
REMOVED_FILTERS = ("random", "pprint", "urlize", "striptags", "xmlattr")
REMOVED_GLOBALS = ("lipsum",)


class _Watched:
    """An iterable whose steps are counted."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        running = budget()
        for value in self._values:
            running.tick()
            yield value


class _WatchedSized(_Watched):
    """So that `loop.length` need not read ahead."""

    def __len__(self) -> int:
        return len(self._values)


@pass_context
def _watch(_: Context, values: Any) -> Any:
    return _WatchedSized(values) if isinstance(values, Sized) else _Watched(values)


@pass_context
def _count(_: Context, value: Any) -> Any:
    """A piece of output."""
    if isinstance(value, str):
        budget().spend(len(value))
        return value
    budget().spend(weigh(value))
    return str(value)


@pass_context
def _concatenate(_: Context, values: list[Any]) -> str:
    """The operator `~`."""
    budget().spend(weigh(values))
    return "".join(str(value) for value in values)


@pass_context
def _container(_: Context, value: Any) -> Any:
    """A list, tuple or dictionary that is written in the template."""
    check_container(value)
    return value


@pass_context
def _copied(_: Context, value: Any) -> Any:
    """A slice, which is a copy."""
    spend_on(value)
    return value


_ADDED = {
    "_copied": _copied,
    "_watch": _watch,
    "_count": _count,
    "_concatenate": _concatenate,
    "_container": _container,
}


def _through(name: str, value: nodes.Expr) -> nodes.Filter:
    found = nodes.Filter(value, name, [], [], None, None)
    return found.set_lineno(value.lineno)


def _instrument(node: nodes.Node) -> None:
    """Put the functions above into a syntax tree."""
    for name, child in list(node.iter_fields()):
        if isinstance(child, list):
            child[:] = [_replaced(each) for each in child]
            if isinstance(node, nodes.Output):
                child[:] = [_through("_count", each) for each in child]
        elif isinstance(child, nodes.Node):
            setattr(node, name, _replaced(child))
    if isinstance(node, nodes.For):
        node.iter = _through("_watch", node.iter)


def _replaced(node: Any) -> Any:
    if not isinstance(node, nodes.Node):
        return node
    _instrument(node)
    if isinstance(node, nodes.Concat):
        listed = nodes.List(node.nodes).set_lineno(node.lineno)
        return _through("_concatenate", listed)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _through("_copied", node)
    if (
        isinstance(node, (nodes.List, nodes.Tuple, nodes.Dict))
        and getattr(node, "ctx", "") != "store"
    ):
        return _through("_container", node)
    return node


class _Generation(Extension):
    """`{% generation %}`, which marks answers for training. It renders its body, in a scope of its
    own as in transformers."""

    tags = {"generation"}  # noqa: RUF012  (the name and form are Jinja's)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    @pass_eval_context
    def _body(self, _: nodes.EvalContext, caller: Macro) -> str:
        text: str = caller()
        return text


class _Namespace(Namespace):
    """`namespace(…)`. Names with an underscore could lead to Python's internals."""

    def __init__(*arguments: Any, **names: Any) -> None:
        self, values = arguments[0], dict(*arguments[1:], **names)
        for name in values:
            _refuse_private(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have the attribute {name!r}")


class _Dictionary:
    """`dict(…)` without the attributes of the class."""

    def __call__(self, *values: Any, **names: Any) -> dict[Any, Any]:
        return dict(*values, **names)

    def fromkeys(self, *values: Any) -> dict[Any, Any]:
        return dict.fromkeys(*values)


class _Formatter(SandboxedFormatter):
    """`"{}".format(…)`."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        check_specification(format_spec)
        budget().spend(weigh(value))
        return super().format_field(value, format_spec)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up for chat templates. Render within a `Budget`, and compile
    within one too."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            optimized=False,  # would compute with constants outside of any budget
        )
        for name in REMOVED_FILTERS:
            del self.filters[name]
        for name in REMOVED_GLOBALS:
            del self.globals[name]
        for name, each in [*self.filters.items()]:
            self.add_filter(name, each)
        self.filters.update(_ADDED)
        self.globals.update(namespace=_Namespace, dict=_Dictionary())

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """A filter of ours, bounded like the others."""
        self.filters[name] = _bounded(name, function)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _instrument(tree)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        budget().tick()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            args = tuple(_counted(each) for each in args)
            check_method(__obj.__name__, owner, args, kwargs)
        elif isinstance(__obj, (_Dictionary, type)):
            weigh([args, kwargs])
        result = super().call(__context, __obj, *args, **kwargs)
        spend_on(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text, takes_mapping = str(value.__self__), value.__name__ == "format_map"

        def formatted(*args: Any, **kwargs: Any) -> str:
            names = args[0] if takes_mapping else kwargs
            made: str = _Formatter(self).vformat(text, () if takes_mapping else args, names)
            return made

        return formatted


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that spends of the budget."""

    @wraps(function)  # also copies what it wants to be passed first
    def bounded(*args: Any, **kwargs: Any) -> Any:
        value, *rest = args[1:] if hasattr(function, "jinja_pass_arg") else args
        budget().tick()
        if name in ("join", "list", "sum", "sort", "unique"):
            value = _counted(value)
            args = (*args[: len(args) - len(rest) - 1], value, *rest)
        check_filter(name, value, tuple(rest), kwargs)
        result = function(*args, **kwargs)
        if result is not value:
            spend_on(result)
        return result

    return bounded


def _counted(value: Any) -> Any:
    """A list of what an iterator gives, each step counted; other values as they are."""
    return list(_Watched(value)) if isinstance(value, Iterator) else value
