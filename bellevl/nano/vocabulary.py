"""The nano model's byte-pair vocabulary: training it on the world's own text, and where its file lies.

The file has Qwen's form ("base64 rank" lines, the 256 bytes first) and is used with Qwen's split pattern, so
the project's tokenizer reads it like any other. Merges never cross the edge of a word that carries a
decision (a name, colour, number, place), so such words keep tokens of their own. It knows no model.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .questions import phrases
from .world import names
from .world.layout import ZONES_ZH

FILE = Path(__file__).parent / "qwen.tiktoken"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
N_RANKS = 1703  # with the 217 special tokens 1,920 = 15 * 128
MAX_TOKEN_BYTES = 18
SLOT_WEIGHT = 1000  # slot words are merged before anything that only fills sentences
FRAME_WORDS = (
    "图片 照片 东西 一共 一下 颜色 形状 图形 物体 背景 位置 哪里 图中 图里 什么 图上 多少 请问 这张 请回答 不客气"
)


def slot_words() -> list[str]:
    """Words that carry decisions or frame them, longest first; printed words count character by character."""
    nouns = [*names.SHAPES, *names.EMOJI]
    words = {noun.zh for noun in nouns} | {noun.measure for noun in nouns}
    words |= {colour.zh for colour in names.COLOURS} | {scene.zh for scene in names.SCENES}
    words |= {*ZONES_ZH, "左边", "右边", "上面", "下面", "有", "没有", "是的", "不是", "是", "否"}
    words |= set("“”，。？、！" + "".join(names.CHINESE_WORDS)) | set(phrases.NUMBERS_ZH)
    words |= set(FRAME_WORDS.split())
    return sorted(words, key=lambda word: (-len(word), word))


def count_pieces(texts: Iterable[str]) -> Counter[bytes]:
    """How often each piece occurs, with the weight of slot words raised."""
    import regex  # type: ignore[import-untyped]

    edges = re.compile("(" + "|".join(map(re.escape, slot_words())) + ")")
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(regex.findall(PATTERN, text))
    counts: Counter[bytes] = Counter()
    for chunk, n in chunks.items():
        for part in edges.split(chunk):
            if part:
                counts[part.encode()] += n
    for word in slot_words():
        counts[word.encode()] += SLOT_WEIGHT
    return counts


def _pairs(parts: tuple[bytes, ...]) -> Iterable[tuple[bytes, bytes]]:
    return itertools.pairwise(parts)


def _merged(parts: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    out: list[bytes] = []
    index = 0
    while index < len(parts):
        if parts[index : index + 2] == pair:
            out.append(pair[0] + pair[1])
            index += 2
        else:
            out.append(parts[index])
            index += 1
    return tuple(out)


def _whole(token: bytes) -> bool:
    """Whether a token may be merged: short, and whole characters or the beginning of a single one."""
    if len(token) > MAX_TOKEN_BYTES or token[0] & 0xC0 == 0x80:
        return False
    leads = [index for index, byte in enumerate(token) if byte & 0xC0 != 0x80]
    length = {0b110: 2, 0b111: 3}.get(token[leads[-1]] >> 5, 1)
    return len(leads) == 1 or len(token) - leads[-1] == length


def train_ranks(counts: Counter[bytes], n_ranks: int = N_RANKS) -> list[bytes]:
    """Byte-pair encoding (Sennrich et al., 2016): tokens in rank order, the 256 bytes first.

    No token cuts through a character and goes on into the next. Ties go to the smaller pair, so equal
    counts give equal files. Raises ValueError when the text is too
    small to fill the ranks.
    """
    ranks = [bytes([value]) for value in range(256)]
    words = {tuple(bytes([b]) for b in piece): n for piece, n in counts.items()}
    while len(ranks) < n_ranks:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for parts, n in words.items():
            for pair in _pairs(parts):
                pairs[pair] += n
        options = [(-n, a, b) for (a, b), n in pairs.items() if _whole(a + b)]
        if not options:
            raise ValueError(f"the text fills only {len(ranks)} of {n_ranks} ranks")
        _, a, b = min(options)
        if a + b not in ranks:
            ranks.append(a + b)
        joined: Counter[tuple[bytes, ...]] = Counter()
        for parts, n in words.items():
            joined[_merged(parts, (a, b))] += n
        words = dict(joined)
    return ranks


def write_ranks(ranks: list[bytes], path: Path = FILE) -> None:
    """Write "base64 rank" lines."""
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks)]
    path.write_text("".join(lines), encoding="ascii")


def read_ranks(path: Path = FILE) -> dict[bytes, int]:
    """Token bytes to rank."""
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in rows}
