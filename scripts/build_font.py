"""Rebuild bellevl/fonts/labels.otf: the font that labels on pictures are written with.

It keeps of Noto Sans CJK SC the characters of GB 2312 (simplified Chinese, kana, Greek, Cyrillic, signs), the common
ones of Big5 (traditional Chinese) and Latin, without hints and layout rules: 3 MB instead of 19.
Build-only requirement: fonttools.

Usage: build_font.py NotoSansCJK-Regular.ttc (of Debian's fonts-noto-cjk)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "bellevl" / "fonts" / "labels.otf"

#: The collection's face for simplified Chinese.
FACE = 2


def characters() -> str:
    """All that labels can be written in."""
    latin = (*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x2010, 0x2027), 0x20AC, 0x2122, 0xFFFD)
    return "".join(sorted({*map(chr, latin), *_of("gb2312", 0xA1, 0xF7), *_of("big5", 0xA4, 0xC6)}))


def _of(encoding: str, first: int, last: int) -> Iterator[str]:
    """The two-byte characters of an encoding whose leading byte is between these."""
    for lead in range(first, last + 1):
        for trail in range(0x40, 0xFF):
            try:
                yield bytes((lead, trail)).decode(encoding)
            except UnicodeDecodeError:
                continue


def build(source: Path) -> None:
    from fontTools import subset

    options = subset.Options(
        font_number=FACE,
        hinting=False,
        layout_features=[],
        drop_tables=["GSUB", "GPOS", "vhea", "vmtx", "VORG", "BASE"],
    )
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]  # keep copyright and licence
    font = subset.load_font(str(source), options)
    worker = subset.Subsetter(options)
    worker.populate(text=characters())
    worker.subset(font)
    subset.save_font(font, str(TARGET), options)
    print(TARGET, TARGET.stat().st_size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    build(parser.parse_args().source)
