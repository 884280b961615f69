"""Long calls of the `tokenizers` library: Ctrl-C takes effect, and other threads run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["interruptible"]

PATIENCE = 0.05  # seconds between two looks for Ctrl-C

Result = TypeVar("Result")


def interruptible(work: Callable[[], Result]) -> Result:
    """The result of `work`, which should release the GIL.

    Python handles Ctrl-C in the main thread, and not within a call of compiled code. So the main
    thread lets another one call it and waits. After Ctrl-C that one goes on to its end, and its
    result is dropped. Where the system refuses a thread, `work` runs here.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    found: list[Result] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    try:
        # not a daemon: Python must not go away while compiled code holds its objects
        threading.Thread(target=run, name="ryzanstein-tokenizer").start()
    except RuntimeError:  # "can't start new thread"
        return work()
    while not done.wait(PATIENCE):
        pass
    if failed:
        raise failed[0]
    return found[0]
