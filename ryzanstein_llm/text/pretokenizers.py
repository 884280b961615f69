"""How byte-level vocabularies cut a text into words: what `tokenizer.ggml.pre` of GGUF files names.

A GGUF file does not hold the pre-tokenizer of its `tokenizer.json`, only a name for it. The names
are those of llama.cpp (`src/llama-vocab.cpp`). Where llama.cpp approximates an expression for want
of Unicode classes, or leaves a normalizer out, the one of the original `tokenizer.json` stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

__all__ = ["PRETOKENIZERS", "Words"]


@dataclass(frozen=True)
class Words:
    """How a text becomes words.

    Attributes
    ----------
    patterns : tuple of str
        Regular expressions in Oniguruma's syntax. Each in turn cuts every piece so far into its
        matches and what lies between them.
    whole_words : bool
        A word that is a token stays one token, whatever the merges say (`ignore_merges`).
    add_bos : bool
        Whether a text begins with a beginning-of-text token if the file does not say.
    nfc : bool
        Whether the text is composed first (Unicode normalization form C).
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False
    nfc: bool = False

    def pre_tokenizer(self) -> PreTokenizer:
        """The chain as an object of `tokenizers`, which also spells bytes in GPT-2's alphabet."""
        splits = [Split(Regex(pattern), behavior="isolated") for pattern in self.patterns]
        return Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_PUNCTUATION_AND_SPACES = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}{_PUNCTUATION_AND_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{_PUNCTUATION_AND_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MINICPM5 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}+{_PUNCTUATION_AND_SPACES}"

# words that begin in upper case, then those that need not have any lower case
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_MIXED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
_CAPITALS = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_TEKKEN = rf"{_MIXED}|{_CAPITALS}|\p{{N}}{_SLASHED}"
_GPT4O = rf"{_MIXED}{_CONTRACTIONS}?|{_CAPITALS}{_CONTRACTIONS}?|\p{{N}}{{1,3}}{_SLASHED}"

_BAILING = (
    rf"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{{L}}\p{{N}}]?+\p{{L}}+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
_SEED = (
    rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_DIGITS = r"\p{N}"
_THREE_DIGITS = r"\p{N}{1,3}"
_ASCII_THREE_DIGITS = r"[0-9][0-9][0-9]"

_DEEPSEEK_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-"
    r"ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ"
    r"-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)
_DEEPSEEK_PUNCTUATION = r"\s?[!-/:-~！-／：-～‘-‟　-。]+"
_CJK = r"[一-龥ࠀ-一가-퟿]+"
_CJK_AND_KANA = r"[一-龥぀-ゟ゠-ヿ]+"
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_LLAMA3_WORDS = Words((_LLAMA3,), whole_words=True, add_bos=True)
_GPT2_WORDS = Words((_GPT2,))
_DIGITS_WORDS = Words((_DIGITS, _GPT2))
_QWEN2_WORDS = Words((_QWEN2,))
_DEEPSEEK3_WORDS = Words((_THREE_DIGITS, _CJK_AND_KANA, _DEEPSEEK3))
_GPT4O_WORDS = Words((_GPT4O,))
_BAILING_WORDS = Words((_BAILING,))

PRETOKENIZERS: dict[str, Words] = {
    "default": Words((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", _ASCII_THREE_DIGITS)),
    # one expression, digits in threes
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "pixtral", "lfm2"), _LLAMA3_WORDS),
    **dict.fromkeys(("falcon3", "falcon_e", "falcon-h1", "midm-2.0"), _LLAMA3_WORDS),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), Words((_LLAMA3,))),
    **dict.fromkeys(("glm4", "glm5"), Words((_LLAMA3,), whole_words=True)),
    # one expression, digits one by one
    **dict.fromkeys(("deepseek-r1-qwen", "hunyuan", "grok-2", "solar-open"), _QWEN2_WORDS),
    **dict.fromkeys(("stablelm2", "kormo", "megrez"), _QWEN2_WORDS),
    "qwen2": Words((_QWEN2,), nfc=True),
    "qwen35": Words((_QWEN35,), nfc=True),
    "seed-coder": Words((_SEED,)),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), _BAILING_WORDS),
    # words by case
    "tekken": Words((_TEKKEN,), whole_words=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), _GPT4O_WORDS),
    # GPT-2's expression, alone or after digits
    **dict.fromkeys(("gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum"), _GPT2_WORDS),
    **dict.fromkeys(("jais", "trillion", "granite-docling", "exaone4"), _GPT2_WORDS),
    **dict.fromkeys(("mpt", "olmo"), Words((_GPT2,), nfc=True)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell"), _DIGITS_WORDS),
    **dict.fromkeys(("exaone", "minerva-7b", "mellum2"), _DIGITS_WORDS),
    "command-r": Words((_DIGITS, _GPT2), nfc=True),
    # several expressions
    "falcon": Words((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, _ASCII_THREE_DIGITS)),
    "minicpm5": Words((_THREE_DIGITS, _MINICPM5), whole_words=True),
    "deepseek-llm": Words(
        (r"[\r\n]", _DEEPSEEK_LETTERS, _DEEPSEEK_PUNCTUATION, r"\s+$", _CJK, r"\p{N}+")
    ),
    "deepseek-coder": Words((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, _DIGITS)),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), _DEEPSEEK3_WORDS),
    **dict.fromkeys(("bloom", "gpt3-finnish", "poro-chat"), Words((_BLOOM,))),
    "viking": Words((_BLOOM, _DIGITS)),
}
"""The names that are known, and what they mean."""
