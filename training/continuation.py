"""A few lines of text from a model in training: slow, but without a checkpoint."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer

from .model import BitNet
from .vocabulary import BOS_ID, EOS_ID

__all__ = ["continue_text"]


def continue_text(
    model: BitNet,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    tokens: int = 60,
    temperature: float = 0.8,
    seed: int = 0,
) -> str:
    """`prompt` and at most `tokens` sampled tokens after it."""
    device = model.model.embed_tokens.weight.device
    ids = [BOS_ID, *tokenizer.encode(prompt, add_special_tokens=False).ids]
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for _ in range(min(tokens, model.shape.context - len(ids))):
            logits = model(torch.tensor([ids], device=device))[0, -1].float().cpu()
            chances = (logits / temperature).softmax(-1)
            chosen = int(torch.multinomial(chances, 1, generator=generator))
            if chosen == EOS_ID:
                break
            ids.append(chosen)
    model.train(was_training)
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text
