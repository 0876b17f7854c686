"""Where rows break: columns, kinsoku, and a row that is closed stays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bellevl_cli.screen.wrap import NO_END, NO_START, clusters_width, wrap

PROSE = (
    "图中有一只戴红帽子的狗（右边），它正看着“窗外”；旁边写着：Hello, world! 价格是 3.5%，"
    "约合 12.80 元——不算贵……对吧？《看图问答》里说：「好的。」、『行！』【完】e\u0301 👍🏽 👨‍👩‍👧 ❤️。"
)  # fmt: skip


def rows_of(text: str, columns: int) -> list[str]:
    return [text[row.start : row.end] for row in wrap(text, columns)]


@pytest.mark.parametrize("columns", [8, 17, 40, 80, 121])
def test_no_row_begins_or_ends_with_what_may_not(columns: int) -> None:
    """No row of mixed prose begins with ，。、） or ends with （“《, and none is wider than the window."""
    rows = rows_of(PROSE * 4, columns)
    assert len(rows) > 1
    assert not [row for row in rows[1:] if row[0] in NO_START or row[0] == " "]
    assert not [row for row in rows[:-1] if row[-1] in NO_END]
    assert max(clusters_width(row) for row in rows) <= columns


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("今天天气很好，我们走。", 12, ["今天天气很", "好，我们走。"]),
        ("他说：“好的。”", 8, ["他说：", "“好的。”"]),
        ("是的——真的", 5, ["是", "的——", "真的"]),
        ("hello world again", 11, ["hello world", "again"]),
        ("看 transformers 库", 14, ["看", "transformers", "库"]),
        ("averyverylongword", 6, ["averyv", "erylon", "gword"]),
        ("，，，，，", 4, ["，，", "，，", "，"]),
        ("一👨‍👩‍👧二❤️三", 4, ["一👨‍👩‍👧", "二❤️", "三"]),
        ("", 10, [""]),
    ],
)
def test_rows(text: str, columns: int, rows: list[str]) -> None:
    """A character goes down with the sign behind it, words and joined characters stay whole where they can."""
    assert rows_of(text, columns) == rows


def test_code_breaks_where_the_row_is_full() -> None:
    """Code keeps its blanks and breaks anywhere."""
    text = "if x:  return 1"
    assert [text[r.start : r.end] for r in wrap(text, 6, anywhere=True)] == ["if x: ", " retur", "n 1"]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="今天，。（）“”a b-.…——1👍e\u0301", max_size=60), st.integers(4, 12))
def test_a_closed_row_stays(text: str, columns: int) -> None:
    """However the text goes on, the rows before the last stay those of the text so far; only blanks are lost."""
    rows = wrap(text, columns)
    shown = "".join(text[row.start : row.end] for row in rows)
    assert shown.replace(" ", "") == text.replace(" ", "")
    for cut in range(len(text)):
        if cut and text[cut] != "\u0301":  # a mark belongs to the character before it, which comes as a whole
            before = wrap(text[:cut], columns)
            assert before[:-1] == rows[: len(before) - 1]
