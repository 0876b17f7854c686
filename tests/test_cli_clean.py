"""Nothing an answer or a name holds can steer the terminal."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bellevl_cli.screen.clean import AnswerText, Cleaner, clean, clean_line, json_line, read_text, typed_text

HOSTILE = {
    "colour": "红\x1b[31m色",
    "clipboard (OSC 52)": "红\x1b]52;c;aGk=\x07色",
    "title ended by ST": "红\x1b]0;title\x1b\\色",
    "device control": "红\x1bPq#0~\x1b\\色",
    "one-byte CSI": "红\x9b2J色",
    "one-byte OSC": "红\x9d52;c;x\x9c色",
    "charset": "红\x1b(0色",
    "reset": "红\x1bc色",
    "bell, backspace, return": "红\x07\x08\r色",
    "right-to-left override": "红\u202e色\u202c",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_sequences_vanish_and_the_text_stays(text: str) -> None:
    """A hostile sequence leaves nothing behind and takes nothing of the text with it."""
    assert clean(text) == "红色"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_sequence_cut_in_two_is_still_one(text: str) -> None:
    """Wherever an answer is cut into pieces, the result is the same."""
    for at in range(len(text)):
        cleaner = Cleaner()
        assert cleaner.push(text[:at]) + cleaner.push(text[at:]) == "红色"


def test_a_line_end_ends_an_open_sequence() -> None:
    """An unfinished sequence swallows the rest of its line, not the rest of the answer."""
    assert clean("一\x1b]0;二\n三\tend") == "一\n三\tend"


@given(st.text())
def test_no_control_character_survives(text: str) -> None:
    """Whatever goes in, no escape or control character but line feed and tab comes out."""
    assert all(c in "\n\t" or not (c < " " or "\x7f" <= c <= "\x9f") for c in clean(text))


@given(st.text(alphabet=st.characters(blacklist_categories=("Cc", "Cf", "Cs"))))
def test_plain_text_is_untouched(text: str) -> None:
    """Text without control characters comes out as it went in."""
    assert clean(text) == text


def test_a_name_is_one_line() -> None:
    """A file's name cannot add a line to a message."""
    assert clean_line("a\nb\r\nc\x1b[1m") == "a b c"


@given(st.lists(st.text(alphabet=" \n\t红a\x1b[", max_size=4)))
def test_a_streamed_answer_is_the_cleaned_whole(pieces: list[str]) -> None:
    """The pieces of an answer together are its text, cleaned, without white space around it."""
    answer = AnswerText()
    shown = "".join(answer.push(piece) for piece in pieces)
    assert shown == answer.text == clean("".join(pieces)).strip()


def test_words_of_a_c_locale_are_read() -> None:
    """Bytes that the locale could not read become the characters that were typed, in UTF-8 or GBK."""
    assert typed_text(os.fsencode("颜色").decode("ascii", "surrogateescape")) == "颜色"
    assert typed_text("颜色".encode("gb18030").decode("utf-8", "surrogateescape")) == "颜色"
    assert typed_text("颜色") == "颜色"
    assert typed_text("颜" + b"\xd1\xd5".decode("utf-8", "surrogateescape")) != ""  # half of it typed in each


def test_text_of_a_file_is_read_in_utf_8_or_gbk() -> None:
    """Chinese in either encoding is read, and bytes that are neither end in replacement characters, not an error."""
    assert read_text("颜色".encode()) == read_text("颜色".encode("gbk")) == "颜色"
    assert "\ufffd" in read_text(b"\xff\xfe\xff")


@pytest.mark.parametrize("text", [*HOSTILE.values(), "一行\n两行", "\u2028", "\ud800", "红色"])
def test_json_is_exact_and_harmless(text: str) -> None:
    """JSON gives back each character, Chinese as itself, without one that a terminal would act on or a second line."""
    line = json_line({text: [text]})
    assert json.loads(line) == {text: [text]}
    assert not any(c < " " or "\x7f" <= c <= "\x9f" or c in "\u202e\u202c\u2028" for c in line)
    assert line.encode() and ("红" in line) == ("红" in text)
