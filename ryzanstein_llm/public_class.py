"""What Python says about the methods of a class in words of its users."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import Any, TypeVar

from .errors.suggestion import did_you_mean

__all__ = ["public_class"]

Class = TypeVar("Class", bound=type)


def public_class(cls: Class) -> Class:
    """Decorates a class that users know, and that inherits from classes of this package which they
    do not know. Its inherited methods bear its name, as in "BitNetModel.generate() takes 2
    positional arguments but 3 were given", and a misspelt argument of the class is told the nearest
    one. The signature stays."""
    package = f"{__name__.partition('.')[0]}."
    for base in cls.__mro__[1:]:
        for name, member in vars(base).items() if base.__module__.startswith(package) else ():
            function = getattr(member, "__func__", member)  # of a classmethod or staticmethod
            if isinstance(function, FunctionType) and inspect.getattr_static(cls, name) is member:
                function.__qualname__ = f"{cls.__name__}.{function.__name__}"
                function.__module__ = cls.__module__  # where pickle looks the name up
    cls.__init__ = _with_hint(cls.__init__, cls.__name__)  # type: ignore[misc]
    return cls


def _with_hint(function: Any, name: str) -> Any:
    """The same `__init__`; for an argument that it does not have, the TypeError says more."""
    known = list(inspect.signature(function).parameters)[1:]

    @functools.wraps(function)
    def checked(self: Any, /, *arguments: Any, **options: Any) -> None:
        for given in options:
            if given not in known:
                hint = did_you_mean(given, known) or f"the arguments are {', '.join(known)}"
                raise TypeError(f"{name}() has no argument {given!r}; {hint}")
        function(self, *arguments, **options)

    return checked
