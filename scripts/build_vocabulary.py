"""Train the nano model's vocabulary on the picture world's own text and write bellevl/nano/qwen.tiktoken.

Deterministic: the same names and phrasings give the same file. A change of the file makes trained weights
useless, so run it only together with a new training.

Usage: build_vocabulary.py [scenes]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from bellevl.nano import vocabulary
from bellevl.nano.questions import ask, phrases
from bellevl.nano.questions.facts import every_target, with_article
from bellevl.nano.world import draw_scene, names, scene_rng

# Ordinary sentences that people type, so that their characters are not all spelled in bytes.
ORDINARY = Path(__file__).parent / "ordinary_text.txt"


TAGS = re.compile(r"</?(?:ref|box)>|\{\w\}")


def corpus(scenes: int) -> Iterator[str]:
    """Questions and answers of many training scenes, every name once, small talk and ordinary sentences.

    Scenes with printed text give nothing: printed lines are spelled, so that new ones can be read.
    """
    for seed in range(scenes):
        rng = scene_rng("train", seed)
        scene = draw_scene(rng, "train")
        for turn in ask(scene, rng, n=12) if scene.text is None else ():
            yield from TAGS.split(turn.question)
            yield from TAGS.split(turn.answer)
    for target in every_target():
        yield from (target.zh, f" {with_article(target.en)}", f" {target.en_plural}")
    for kind, wordings in phrases.QUESTIONS.items():
        for wording in wordings * (20 if kind.startswith("read") else 5):
            yield from TAGS.split(wording)
    yield from ("图中写着“", "”", "，还有", 'It says "', '".') * 20
    for question, answer in phrases.TALK:
        yield from (question, answer) * 5
    for sentence in ORDINARY.read_text(encoding="utf-8").splitlines():
        yield sentence
        yield from (character for character in sentence if not character.isascii())
    yield from names.CHARACTERS


def main() -> None:
    counts = vocabulary.count_pieces(corpus(int(sys.argv[1]) if len(sys.argv) > 1 else 4000))
    ranks = vocabulary.train_ranks(counts)
    vocabulary.write_ranks(ranks)
    print(f"{vocabulary.FILE}: {len(ranks)} ranks, {len(counts)} distinct pieces")


if __name__ == "__main__":
    main()
