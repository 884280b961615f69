"""Models of this library in lm-evaluation-harness (`pip install "ryzanstein_llm[eval]"`).

    lm_eval.simple_evaluate(RyzansteinLM("path/of/a/model"), tasks=["arc_easy"])

Importing this module registers the class as "ryzanstein". lm-eval looks for no entry points, so its
own command knows the name only if something has imported this module, as `python -m
ryzanstein_llm.integrations.lm_eval --model ryzanstein ...` does, which takes the arguments of
`lm_eval`.
"""

from ...errors import MissingExtraError

try:
    import lm_eval as _lm_eval  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        f'evaluation needs lm-eval ({error}): pip install "ryzanstein_llm[eval]"'
    ) from error

from ...evaluation import EvaluationReport
from .adapter import RyzansteinLM
from .task_files import evaluate, load_tasks

__all__ = ["EvaluationReport", "RyzansteinLM", "evaluate", "load_tasks"]
