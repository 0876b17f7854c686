"""The language and the script of an answer, asked for by options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bellevl.chat import Chat, Piece, Stats
from bellevl.checkpoint import load_model
from bellevl.tokenizer import load_tokenizer
from bellevl_cli.exits import UsageError
from bellevl_cli.options import _script
from bellevl_cli.running.answer_language import REQUESTS, LanguageChat, language_of, open_converter

STATS = Stats(10, 5, 0.0, 0.1, 0.2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("图里有一只猫。", "zh"),
        ("A cat sits on the grass.", "en"),
        ("这是 Python 的 logo。", "zh"),
        ("The sign says 停车 in red letters.", "en"),
        ("```\nprint('hello world again and again')\n```\n好的", "zh"),
        ("<ref>狗</ref><box>(1,2),(3,4)</box>", "zh"),
        ("42 %", None),
        ("", None),
    ],
)
def test_the_language_of_a_text(text: str, expected: str | None) -> None:
    """Characters and words are counted; code, markup and numbers say nothing."""
    assert language_of(text) == expected


class Answers:
    """In the place of the model's answers: those that were prepared, piece by piece. Notes what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.pieces = 0
        monkeypatch.setattr(Chat, "_answer", lambda chat, turns, *a, **k: self._answer(chat, turns))

    def _answer(self, chat: Chat, turns: list) -> Iterator[Piece]:  # type: ignore[type-arg]
        answer = self.answers.pop(0)
        self.asked.append(turns[-1].question)
        chat.turns = turns
        for place in range(len(answer)):
            self.pieces += 1
            yield Piece(answer[place], place + 1)
        yield Piece("", len(answer), "stop", STATS)


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LanguageChat:
    return LanguageChat(load_model(tiny_folder), load_tokenizer(tiny_folder))


@pytest.fixture
def chat(loaded: LanguageChat) -> LanguageChat:
    """A chat without a dialogue."""
    loaded.clear()
    loaded.language, loaded.converter, loaded.wrong = None, None, lambda wanted: None
    return loaded


def test_the_right_language_streams_on(chat: LanguageChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer in the language asked for is given once, after its first few characters piece by piece."""
    answers = Answers(monkeypatch, "图里有一只黑色的猫，坐在草地上。")
    chat.language = "zh"
    pieces = chat.stream("What is this?")
    assert "".join(next(pieces).text for _ in range(8)) == "图里有一只黑色的"
    assert answers.pieces == 8
    assert "".join(piece.text for piece in pieces) == "猫，坐在草地上。" and len(answers.asked) == 1


def test_the_wrong_language_is_asked_once_more(chat: LanguageChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the wrong answer is shown, the second question says the language, the dialogue has the person's."""
    wrong = "A cat sits on the grass and looks at you quietly. " * 3
    answers = Answers(monkeypatch, wrong, "一只猫坐在草地上。")
    chat.language = "zh"
    assert "".join(chat.ask("What is this?")) == "一只猫坐在草地上。"
    assert answers.asked == ["What is this?", f"What is this?\n{REQUESTS['zh']}"]
    assert answers.pieces < len(wrong), "the wrong answer was written to its end"
    assert [turn.question for turn in chat.turns] == ["What is this?"]


def test_the_second_wrong_answer_is_shown_with_a_word(chat: LanguageChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no third time: the answer is shown, and the wish that was not met is told."""
    Answers(monkeypatch, "一只猫坐在草地上看着你。", "一只猫。")
    heard: list[str] = []
    chat.language, chat.wrong = "en", heard.append
    assert "".join(chat.ask("What is this?")) == "一只猫。" and heard == ["en"]


def test_auto_is_the_question_s_language(chat: LanguageChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """With auto a Chinese question wants Chinese; a number answers any question."""
    answers = Answers(monkeypatch, "It is a cat on the green grass, I think.", "是猫。", "42")
    chat.language = "auto"
    assert "".join(chat.ask("这是什么？")) == "是猫。"
    assert "".join(chat.ask("有几只？")) == "42" and len(answers.asked) == 3


@pytest.mark.parametrize(
    ("script", "said", "shown"),
    [
        ("hant", "头发很长，发财了。OK 后面", "頭髮很長，發財了。OK 後面"),
        ("hans", "頭髮很長，發財了。OK 後面", "头发很长，发财了。OK 后面"),
    ],
)
def test_the_script_of_an_answer(
    chat: LanguageChat, monkeypatch: pytest.MonkeyPatch, script: str, said: str, shown: str
) -> None:
    """Phrases are converted as wholes though they come character by character: 头发 is hair, 发财 is not."""
    Answers(monkeypatch, said)
    chat.converter = open_converter(script, {})
    assert "".join(chat.ask("头发")) == shown


def test_traditional_is_written_as_where_the_person_is() -> None:
    """Hong Kong writes 裏, Taiwan 裡."""
    assert open_converter("hant", {"LANG": "zh_HK.UTF-8"}).convert("里面") == "裏面"
    assert open_converter("hant", {"LANG": "zh_TW.UTF-8"}).convert("里面") == "裡面"


def test_a_script_without_the_package_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without opencc the option says what to install, before anything is loaded."""
    monkeypatch.setattr("bellevl_cli.options.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install opencc"):
        _script("hant")
