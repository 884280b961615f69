"""A user's program is checked by mypy and by pyright: what is right passes, a misspelt option or a
wrong type does not. Both come with the extra `lint`."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

RIGHT = """
import asyncio

from ryzanstein_llm import (
    BitNetModel, ChatResult, Choice, GenerationResult, SamplingParams, Score, Session
)

model = BitNetModel(n_threads=1)
text: str = model.generate("Once upon a time", max_tokens=5, temperature=0.7)
result: GenerationResult = model.generate("Once", return_result=True)
for piece in model.stream("Once", stop=["."], sampling=SamplingParams(top_k=3)):
    print(piece.upper(), result.text)
with model.session() as session:
    more: str = session.generate([1, 2, 3])
    length: int = len(session.generate("more", return_result=True).ids)
answer: ChatResult = model.chat([{"role": "user", "content": "Hi"}], max_tokens=5, seed=1)
for delta in model.chat_stream([{"role": "user", "content": "Hi"}], tools=[{"name": "f"}]):
    print(delta, delta.reasoning.upper(), answer.text.upper())
with model.chat_session("Be brief.", temperature=0.5).stream("Hi") as stream:
    name: str = stream.result.tool_calls[0]["function"]["name"]
texts: list[str] = model.generate(["Once", "The king"], max_tokens=5)
many: list[str] = [text for text in texts]
texts = model.generate(many, temperature=0.7, progress=lambda done, total, what: None)
texts = model.generate("Once", n=3, seed=1)
texts = model.generate([[1, 2], [3]])
text = model.generate([])
results: list[GenerationResult] = model.generate(many, return_result=True)
samples: list[list[str]] = model.generate(many, n=2)
kept: list[str | Exception] = model.generate(many, errors="return")
wholes: list[GenerationResult | Exception] = model.generate(
    many, errors="return", return_result=True
)


async def tasks() -> None:
    one: str = await model.agenerate("Once", max_tokens=5)
    all: list[str] = await model.agenerate(many)
    async with model.astream(one, max_tokens=5) as pieces:
        async for piece in pieces:
            print(piece.upper(), pieces.result.text, all)
    said: ChatResult = await model.achat([{"role": "user", "content": "Hi"}], max_tokens=5)
    async for delta in model.achat_stream([{"role": "user", "content": said.text}]):
        print(delta.reasoning.upper())


asyncio.run(tasks())
whole: dict[str, object] = model.create_completion("Once", max_tokens=5, echo=True)
for chunk in model.create_chat_completion([{"role": "user", "content": "Hi"}], stream=True):
    print(chunk["choices"][0]["delta"], whole["id"], model("Once", top_k=40)["usage"])
vocabulary: int = model.vocab_size
scored = model.generate("Once", logprobs=3, logit_bias={" the": -100}, return_result=True)
first: float = [each.logprob for each in scored.logprobs or []][0]
model.generate("Once", logit_bias={5: -1}, min_tokens=2, max_tokens=5, stop_token_ids=[3, 4])
model.generate("Once", logit_bias={"a": 1}, logits_processor=lambda tokens, logits: -logits)
scores: list[Score] = model.score("Once", [" upon", " more"])
scores = model.score([0, 5], [" upon"], normalize="bytes")
several: list[list[Score]] = model.score([[0, 5], [0, 6]], [[5], [6]])
choice: Choice = model.choose("Once", [" upon", " more"])
print(choice.probabilities[choice.index], scores[0].logprobs, several[0][0].greedy)
twin: Session = model.load_session("session").fork()
"""

WRONG = {
    "a misspelt option": 'model.generate("Once", temprature=1)',
    "a misspelt option of a stream": 'model.stream("Once", max_token=1)',
    "an option of a wrong type": 'model.generate("Once", max_tokens="5")',
    "a text taken for a number": 'wrong: int = model.generate("Once")',
    "a text taken for a result": 'model.generate("Once").finish_reason',
    "a result taken for a text": 'model.generate("Once", return_result=True).upper()',
    "a misspelt option of a chat": "model.chat([], max_token=5)",
    "messages that are a number": "model.chat(5)",
    "an answer taken for a text": "model.chat([]).upper()",
    "texts taken for a text": 'model.generate(["Once", "The king"]).upper()',
    "an error taken for a text": 'model.generate(many, errors="return")[0].upper()',
    "a misspelt way to treat errors": 'model.generate(many, errors="ignore")',
    "a misspelt option of a batch": "model.generate(many, temprature=1)",
    "a batch for a session": "model.session().generate(many)",
    "a text that is not awaited": 'model.agenerate("Once").upper()',
    "a misspelt option of a task": 'model.astream("Once", max_token=1)',
    "a misspelt argument of a completion": 'model.create_completion("Once", max_token=1)',
    "a completion taken for a stream": 'model.create_completion("Once").cancel()',
    "an argument of a chat completion only": 'model.create_completion("Once", tools=[])',
    "a normalization that there is not": 'model.score("Once", [" upon"], normalize="words")',
    "a choice taken for a text": 'model.choose("Once", [" upon"]).upper()',
    "a bias that is a list": 'model.generate("Once", logit_bias=[5])',
    "a misspelt option of a model": "BitNetModel(n_thread=1)",
    "an option of a model by position": 'BitNetModel("checkpoint", 2)',
    "a stream without its text": 'model.stream("Once", return_result=True)',
}

CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict"],
    "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
}


def complaints(checker: str, program: Path) -> list[int]:
    """Lines that a type checker complains of."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f'{checker} is not installed: pip install -e ".[test,lint]"')
    result = subprocess.run(
        [*CHECKERS[checker], program.name],
        cwd=program.parent,
        env={**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    found = re.findall(r"^.*?\.py:(\d+)(?::\d+)?.*?\berror\b", result.stdout, re.M)
    return sorted({int(line) for line in found})


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_program_of_a_user(tmp_path, checker):
    program = tmp_path / "program.py"
    lines = RIGHT.strip().splitlines()
    program.write_text("\n".join([*lines, *WRONG.values(), ""]))
    expected = range(len(lines) + 1, len(lines) + len(WRONG) + 1)
    assert complaints(checker, program) == list(expected)
