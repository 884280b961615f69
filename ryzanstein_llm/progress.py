"""`progress=` as bars of tqdm, or of any class that is made and used like its."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["tqdm_progress"]


def tqdm_progress(tqdm: Callable[..., Any]) -> Callable[..., None]:
    """A callable for `progress=` that draws bars of a class such as `tqdm.auto.tqdm`.

    One count is one bar, which is closed at its total; where a count begins anew, or its total is
    another, so does the bar. What is being done stands in front of it.

    Parameters
    ----------
    tqdm : callable
        Called as `tqdm(total=..., desc=...)`; gives something with `update(n)`,
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
