"""Punctuation of Chinese answers as a terminal shows it; what programs read stays as the model wrote it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bellevl_cli.screen.look import Asked, Look
from bellevl_cli.screen.punctuation import FullWidth
from bellevl_cli.screen.render import Renderer


def shown(text: str) -> str:
    """In one piece; in pieces of a character it is the same."""
    whole, pieces = FullWidth(), FullWidth()
    at_once = whole.push(text) + whole.flush()
    assert "".join(pieces.push(c) for c in text) + pieces.flush() == at_once
    return at_once


@pytest.mark.parametrize(
    ("wrote", "expected"),
    [
        ("这是一只猫,在草地上.", "这是一只猫，在草地上。"),
        ("看:\n- 猫, 狗; 鸟!\n对吗?", "看：\n- 猫，狗；鸟！\n对吗？"),
        ("有(一只)猫(cat),真的", "有（一只）猫(cat)，真的"),
        ("**颜色:**黑色,**大小:**大", "**颜色：**黑色，**大小：**大"),
        ("狗[1],猫[2]都在.", "狗[1]，猫[2]都在。"),
        ("共 3,500 元,比例 3:4,好", "共 3,500 元，比例 3:4，好"),
    ],
)
def test_between_chinese_marks_are_full_width(wrote: str, expected: str) -> None:
    """A mark of a Chinese sentence is full-width and takes the blank behind it along; numbers keep theirs."""
    assert shown(wrote) == expected


@pytest.mark.parametrize(
    "wrote",
    [
        "运行 `打印(猫,狗)` 看看",
        "``a`你,好``",
        "```py\n打印('你好,世界')  # 好,完.\n```",
        "~~~\n猫,狗\n~~~",
        '招牌上是 "你好,世界"',
        "招牌上是“你好,世界”",
        "The word 猫, meaning cat, is short.",
        "A cat, a dog (black); good!",
        "一. 猫\n二. 狗",
        "见 http://a.cn/图?x=1",
        "[文字](图.html)",
        "文件 图.png",
        "省略...好",
        "已经是，全角。",
    ],
)
def test_what_is_no_chinese_sentence_stays(wrote: str) -> None:
    """Code, quotations, English, addresses, file names and numbers of a list are shown as they were written."""
    assert shown(wrote) == wrote


@given(st.text('猫狗一a1 ,.:;!?()`"“”*[]\n', max_size=60))
def test_only_marks_change(wrote: str) -> None:
    """Whatever an answer looks like, it differs in marks and the blanks behind them alone, however it is cut."""
    half = str.maketrans("，。！？；：（）", ",.!?;:()")
    assert shown(wrote).translate(half).replace(" ", "") == wrote.replace(" ", "")


def rendered(form: str, monkeypatch: pytest.MonkeyPatch, choice: str | None = None) -> str:
    """What a renderer of that form writes of one answer."""
    if choice is not None:
        monkeypatch.setenv("BELLEVL_PUNCTUATION", choice)
    out = io.StringIO()
    renderer = Renderer(out, io.StringIO(), Asked())
    renderer.look = Look(plain=False, live=form == "live", color=False, format=form)
    for piece in ("猫,", "狗", ".", "好,"):
        renderer.answer(piece)
    renderer.end_answer()
    return out.getvalue()


def test_a_terminal_shows_them_and_a_pipe_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the live form of a terminal changes marks, the last one too; `punctuation = keep` leaves all of them."""
    assert rendered("live", monkeypatch) == "猫，狗。好，\n"
    assert rendered("raw", monkeypatch) == "猫,狗.好,\n"
    assert rendered("live", monkeypatch, "keep") == "猫,狗.好,\n"


def test_a_mark_that_waits_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is broken off behind a mark shows the mark before what is said next."""
    out = io.StringIO()
    renderer = Renderer(out, out, Asked())
    renderer.look = Look(plain=False, live=True, color=False, format="live")
    renderer.answer("猫,")
    renderer.note("(已中断)")
    assert out.getvalue() == "猫，\n(已中断)\n"
