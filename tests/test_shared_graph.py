"""Weights are immutable and shared: two runners on one graph, in two threads, give the same bits
as one of them alone."""

from __future__ import annotations

import threading

import numpy as np

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.interfaces.head_query import HeadQuery
from ryzanstein_llm.kernels.workspace import Workspace

TRIES = 2000


def test_two_workspaces_search_one_head_at_once():
    """With buffers of the head's own, some twenty of 3,000 tries gave wrong candidates."""
    with BitNetModel(n_threads=1) as model:
        graph = model.graph
        hidden = np.random.default_rng(3).standard_normal((2, 1, graph.config.hidden_size))
        hidden = hidden.astype(np.float32)

        def search(row: np.ndarray, workspace: Workspace) -> tuple[bytes, bytes]:
            (found,) = graph.candidates(row, [HeadQuery(40)], workspace)
            assert found.ids is not None
            return found.ids.tobytes(), found.logits.tobytes()

        expected = [search(row, Workspace(1)) for row in hidden]
        wrong = [0, 0]

        def work(which: int) -> None:
            workspace = Workspace(1)
            for _ in range(TRIES):
                wrong[which] += search(hidden[which], workspace) != expected[which]

        threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == [0, 0]
