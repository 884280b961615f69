"""How byte-level vocabularies cut a text into words: what `tokenizer.ggml.pre` of GGUF files names.

A GGUF file does not hold the pre-tokenizer of its `tokenizer.json`, only a name for it. The names
are those of llama.cpp (`src/llama-vocab.cpp`). Where llama.cpp approximates an expression for want
of Unicode classes, or leaves a normalizer out, that of the original `tokenizer.json` stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

__all__ = ["GPT2_PATTERN", "PRETOKENIZERS", "Words"]


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
_PUNCTUATION = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
_PUNCTUATION_AND_SPACES = rf"{_PUNCTUATION}|\s+(?!\S)|\s+"
_SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}{_PUNCTUATION_AND_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{_PUNCTUATION_AND_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MINICPM5 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}+{_PUNCTUATION_AND_SPACES}"
_UFAKZEKA = rf"{_WORD}|\p{{N}}{_PUNCTUATION_AND_SPACES}"
_JAIS2 = (
    rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}{_PUNCTUATION}"
    + "".join(rf"|\s{{{count}}}(?!\S)" for count in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
    + r"|\s{1}"
)
_EXAONE_MOE = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)

# words that begin in upper case, then those that need not have any lower case
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_MIXED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
_CAPITALS = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_TEKKEN = rf"{_MIXED}|{_CAPITALS}|\p{{N}}{_SLASHED}"
_GPT4O = rf"{_MIXED}{_CONTRACTIONS}?|{_CAPITALS}{_CONTRACTIONS}?|\p{{N}}{{1,3}}{_SLASHED}"
_YOUTU = rf"{_MIXED}{_CONTRACTIONS}?|{_CAPITALS}{_CONTRACTIONS}?|\p{{N}}{_SLASHED}"

_BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
_SEED = (
    rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BLOOM = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"
_DIGITS = r"\p{N}"
_THREE_DIGITS = r"\p{N}{1,3}"
_ASCII_THREE_DIGITS = r"[0-9][0-9][0-9]"

_DEEPSEEK_LETTERS = (  # those of scripts with two cases
    r"\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}"
    r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}"
    r"\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-"
    r"\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-"
    r"\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-"
    r"\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-"
    r"\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}"
    r"\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}"
    r"\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-"
    r"\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}"
    r"\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}"
    r"\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}"
    r"\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}"
    r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-"
    r"\x{1E943}]+"
)
_DEEPSEEK_PUNCTUATION = (
    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+"
)
_CJK = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+"
_CJK_AND_KANA = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"
_SCRIPTS_OF_EAST_ASIA = (
    r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|"
    r"[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|"
    r"[\x{3105}-\x{312F}]+|"
    r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"
)
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPARK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"
)

_LLAMA3_WORDS = Words((_LLAMA3,), whole_words=True, add_bos=True)
_GPT2_WORDS = Words((GPT2_PATTERN,))
_DIGITS_WORDS = Words((_DIGITS, GPT2_PATTERN))
_QWEN2_WORDS = Words((_QWEN2,))
_DEEPSEEK3_WORDS = Words((_THREE_DIGITS, _CJK_AND_KANA, _DEEPSEEK3))
_GPT4O_WORDS = Words((_GPT4O,))
_BAILING_WORDS = Words((_BAILING,))

PRETOKENIZERS: dict[str, Words] = {
    "default": Words((r"[\p{P}\$\+<=>\^~\|]+", GPT2_PATTERN, r"\p{N}+", _ASCII_THREE_DIGITS)),
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
    "ufakzeka": Words((_UFAKZEKA,)),
    "jais-2": Words((_JAIS2,)),
    "exaone-moe": Words((_EXAONE_MOE,)),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), _BAILING_WORDS),
    # words by case
    "tekken": Words((_TEKKEN,), whole_words=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), _GPT4O_WORDS),
    # GPT-2's expression, alone or after digits
    **dict.fromkeys(("gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum"), _GPT2_WORDS),
    **dict.fromkeys(("jais", "trillion", "granite-docling", "exaone4"), _GPT2_WORDS),
    **dict.fromkeys(("mpt", "olmo"), Words((GPT2_PATTERN,), nfc=True)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell"), _DIGITS_WORDS),
    **dict.fromkeys(("exaone", "minerva-7b", "mellum2"), _DIGITS_WORDS),
    "command-r": Words((_DIGITS, GPT2_PATTERN), nfc=True),
    # several expressions
    "falcon": Words((r"[\p{P}\$\+<=>\^~\|`]+", GPT2_PATTERN, _ASCII_THREE_DIGITS)),
    "minicpm5": Words((_THREE_DIGITS, _MINICPM5), whole_words=True),
    "deepseek-llm": Words(
        (r"[\r\n]", _DEEPSEEK_LETTERS, _DEEPSEEK_PUNCTUATION, r"\s+$", _CJK, r"\p{N}+")
    ),
    "deepseek-coder": Words((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, _DIGITS)),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), _DEEPSEEK3_WORDS),
    "spark2_5": Words((_THREE_DIGITS, _CJK_AND_KANA, _SPARK, _DIGITS)),
    "youtu": Words((_SCRIPTS_OF_EAST_ASIA, _YOUTU), whole_words=True),
    "laguna": Words((r"[^\n]+|[\n]+", _QWEN2)),
    **dict.fromkeys(("tiny_aya", "cohere2moe"), Words((r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O))),
    **dict.fromkeys(("bloom", "gpt3-finnish", "poro-chat"), Words((_BLOOM,))),
    "viking": Words((_BLOOM, _DIGITS)),
}
"""The names that are known, and what they mean."""
