"""`progress=` as bars of tqdm, or of any class that is used in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["tqdm_progress"]


def tqdm_progress(tqdm: Callable[..., Any]) -> Callable[..., None]:
    """A callable for `progress=` that draws bars of a class such as `tqdm.auto.tqdm`.

    A bar is closed when it reaches its total. If the count starts again or the total changes, a new
    bar begins. The text in front of the bar says what is being done.

    Parameters
    ----------
    tqdm : callable
        Called as `tqdm(total=..., desc=...)`; returns an object with `update(n)`,
        `set_description(text)` and `close()`.

    Returns
    -------
    callable (done, total, what="")
    """
    bar: Any = None
    reached = last = 0

    def progress(done: int, total: int, what: str = "") -> None:
        nonlocal bar, reached, last
        if bar is not None and (done < reached or total != last):
            bar.close()
            bar = None
        if bar is None:
            bar, reached, last = tqdm(total=total, desc=what), 0, total
        else:
            bar.set_description(what)
        bar.update(done - reached)
        reached = done
        if done >= total:
            bar.close()
            bar = None

    return progress
