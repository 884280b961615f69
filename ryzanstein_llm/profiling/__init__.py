"""Where the time of a model goes, by operation: `BitNetModel.profile()`.

    with model.profile() as profile:
        model.generate("Once upon a time", max_tokens=50)
    print(profile.text())

It uses a clock and no hardware counters, so it works wherever the library does.
"""

from __future__ import annotations

from .operations import Limits, OperationTime, Phase
from .profile import Profile

__all__ = ["Limits", "OperationTime", "Phase", "Profile"]
