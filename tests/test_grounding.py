"""Boxes in answers: every golden case, the stream, malformed markup, and drawing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabulary import GOLDEN, real_tokenizer

from bellevl.grounding import Box, MarkupFilter, latest_picture, read_grounding
from bellevl.tokenizer import StreamDecoder

BOXES = GOLDEN["boxes"]
PICTURES = GOLDEN["latest_picture"]
WHOLE = [c for c in BOXES if "error" not in c["boxes"]]

#: The published code raises ValueError for these; markup in an answer must not break a program.
#: A box that was never closed is listed, and a stop token's name after a good box is text, the box is kept.
RAISING = {
    "<box>(1,2),(3,4)": ("", [], ["<box>(1,2),(3,4)"]),
    "A<box>(12,34),(56,78)</box><|im_end|>": ("A[1]<|im_end|>", [(12, 34, 56, 78)], []),
}


@pytest.mark.parametrize("case", WHOLE, ids=[c["text"][:30] for c in WHOLE])
def test_golden_boxes(case: dict[str, Any]) -> None:
    """Coordinates, labels and pixels are those of the published code."""
    boxes = read_grounding(case["text"]).boxes
    assert [{"box": list(b.norm), **({"ref": b.label} if b.label else {})} for b in boxes] == case["boxes"]
    assert [list(b.pixels(640, 427)) for b in boxes] == case["pixels_on_640x427"]


@pytest.mark.parametrize("case", WHOLE, ids=[c["text"][:30] for c in WHOLE])
def test_golden_list_format(case: dict[str, Any]) -> None:
    """The text that is shown is the published list's texts and labels, with a number for each box."""
    want, number = "", 0
    for item in case["to_list_format"]:
        number += "box" in item
        want += f"[{number}]" if "box" in item else item.get("text", "") + item.get("ref", "")
    assert read_grounding(case["text"]).text == want


@pytest.mark.parametrize("case", [c for c in BOXES if "error" in c["boxes"]], ids=lambda c: c["text"])
def test_golden_cases_that_raise(case: dict[str, Any]) -> None:
    """Where the published code raises, ours shows what there is and lists what makes no sense."""
    assert case["boxes"] == case["to_list_format"] == {"error": "ValueError"}
    text, boxes, malformed = RAISING[case["text"]]
    found = read_grounding(case["text"])
    assert (found.text, [b.norm for b in found.boxes], list(found.malformed)) == (text, boxes, malformed)


@pytest.mark.parametrize("case", PICTURES, ids=[c["latest_picture"] for c in PICTURES])
def test_golden_latest_picture(case: dict[str, Any]) -> None:
    """The boxes belong to the picture that the published code finds."""
    assert latest_picture(case["response"], [q for q, _ in case["history"]]) == case["latest_picture"]


def test_no_picture_at_all() -> None:
    """Without a picture anywhere there is none to draw on."""
    assert latest_picture("a", ["b", "<img>c"]) is None


def test_several_boxes_of_one_label() -> None:
    """Each box after a label has it, also behind white space; text between ends that."""
    found = read_grounding("<ref>狗</ref><box>(1,2),(3,4)</box> <box>(5,6),(7,8)</box>和<box>(9,9),(10,10)</box>")
    assert found.text == "狗[1] [2]和[3]"
    assert [b.label for b in found.boxes] == ["狗", "狗", ""]


def test_quad_is_the_rectangle_around_it() -> None:
    """Four points give the box around them."""
    found = read_grounding("<ref>字</ref><quad>(10,20),(30,15),(35,60),(12,50)</quad>")
    assert found.boxes == (Box("字", (10, 15, 35, 60)),)


@pytest.mark.parametrize(
    ("coordinates", "norm"),
    [
        ("(577,891),(211,412)", (211, 412, 577, 891)),
        ("( 1, 2 ), ( 3, 4 )", (1, 2, 3, 4)),
        ("（1，2），（3，4）", (1, 2, 3, 4)),
        ("(0,0),(1003,9999)", (0, 0, 1000, 1000)),
    ],
)
def test_near_misses_are_boxes(coordinates: str, norm: tuple[int, ...]) -> None:
    """Corners the wrong way round, spaces, full-width signs and points just outside are understood."""
    assert [b.norm for b in read_grounding(f"<box>{coordinates}</box>").boxes] == [norm]


MALFORMED = ["", "(1,2)", "(1,2),(3,4),(5,6)", "1,2,3,4", "(a,b),(c,d)", "(-1,2),(3,4)", "(1.5,2),(3,4)",
             "(1,2),(3,4", "(99999,1),(2,3)", "(1,2)(3,4)", "(٣,1),(2,3)"]  # fmt: skip


@pytest.mark.parametrize("coordinates", MALFORMED)
def test_malformed_boxes_are_listed(coordinates: str) -> None:
    """A box that makes no sense is listed with its markup, and the text around it stays."""
    found = read_grounding(f"一只<ref>狗</ref><box>{coordinates}</box>在跑")
    assert (found.text, found.boxes) == ("一只狗在跑", ())
    assert found.malformed == (f"<box>{coordinates}</box>",)


@pytest.mark.parametrize(
    ("text", "shown", "malformed"),
    [
        ("<ref>狗", "狗", ("<ref>狗",)),
        ("a</ref>b</box>c</quad>", "abc", ()),
        ("<box>(1,2)<ref>猫</ref>", "猫", ("<box>(1,2)",)),
        ("<ref>狗<box>(1,2),(3,4)</box>", "狗[1]", ("<ref>狗",)),
        ("<box>" + "字" * 100 + "</box>完", "字" * 100 + "完", ("<box>" + "字" * 80,)),
        ("a < b <re <box", "a < b <re <box", ()),
        ("<img>x</img><REF>", "<img>x</img><REF>", ()),
    ],
)
def test_broken_markup(text: str, shown: str, malformed: tuple[str, ...]) -> None:
    """Tags without a partner hide nothing that a person should read."""
    found = read_grounding(text)
    assert (found.text, found.malformed) == (shown, malformed)


pieces_of_answers = st.lists(
    st.sampled_from(
        ["<", ">", "/", "<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "狗", " ", "x",
         "(1,2),(3,4)", "(5,6),(7,8),(1,2),(3,4)", "<re", "f>", "<bo", "</b", "ox>", "字" * 50]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=500, deadline=None, derandomize=True)
@given(pieces_of_answers, st.lists(st.integers(1, 7), min_size=1, max_size=9))
def test_stream_equals_whole(text: str, sizes: list[int]) -> None:
    """However an answer is cut into pieces, text, boxes and malformed markup are the same."""
    whole = read_grounding(text)
    markup, shown, at, turn = MarkupFilter(), "", 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        shown += markup.push(text[at : at + size])
        at, turn = at + size, turn + 1
    shown += markup.flush()
    assert (shown, tuple(markup.boxes), tuple(markup.malformed)) == (whole.text, whole.boxes, whole.malformed)


def test_stream_never_shows_a_part_of_a_tag() -> None:
    """Character by character, what is shown grows to the final text and never holds a piece of markup."""
    text = "图中<ref>狗</ref><box>(1,2),(300,400)</box>和<ref>猫</ref><box>(5,6),(7,8)</box>。1 < 2"
    markup = MarkupFilter()
    steps = [markup.push(c) for c in text]
    shown = "".join(steps)
    assert shown + markup.flush() == "图中狗[1]和猫[2]。1 < 2"
    so_far = ""
    for step in steps[:-4]:
        so_far += step
        assert not set("<>/()") & set(so_far)


def test_stream_of_ids() -> None:
    """The ids of a grounded answer go through decoder and filter to what a person reads."""
    tokenizer = real_tokenizer()
    decoder, markup = StreamDecoder(tokenizer), MarkupFilter()
    ids = tokenizer.encode_with_specials("好的，<ref>狗</ref><box>(1,2),(300,400)</box>。")
    assert "".join(markup.push(decoder.push(i)) for i in ids) + markup.flush() == "好的，狗[1]。"
