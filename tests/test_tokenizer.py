"""The tokenizer against every case of tests/golden/tokenizer.json, damaged vocabularies, and the stream."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabulary import GOLDEN, byte_tokenizer, real_tokenizer, vocabulary_folder

import bellevl.tokenizer
from bellevl.errors import TokenizerError
from bellevl.tokenizer import (
    FILE_NAME,
    IMAGE_TAGS,
    LONGEST_PIECE,
    SPECIAL_TOKENS,
    StreamDecoder,
    Tokenizer,
    load_tokenizer,
)

WAYS: dict[str, tuple[str, ...]] = {
    "default_allowed_all": SPECIAL_TOKENS,
    "allowed_image_tags_only": IMAGE_TAGS,
    "allowed_none": (),
}
DECODINGS: dict[str, dict[str, Any]] = {
    "decode": {},
    "decode_skip_special": {"skip_specials": True},
    "decode_skip_special_keep_image": {"skip_specials": True, "keep_grounding": True},
    "decode_errors_ignore": {"errors": "ignore"},
}
STRINGS = GOLDEN["strings"]
DECODE_ONLY = GOLDEN["decode_only"]

#: The published decode looks for the first pad of a slot and raises where there is none (a path of exactly
#: 256 bytes; `<img>` ids out of a model). No answer may break the program that shows it: ours gives the path.
NO_PAD = "151859 is not in list"


def name_of(text: str) -> str:
    return ascii(text[:24])


def expected(case: dict[str, Any], way: str) -> dict[str, Any]:
    return case["default_allowed_all"] if case[way] == "same" else case[way]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return real_tokenizer()


def test_vocabulary_is_the_goldens() -> None:
    """The file in dashscope is byte for byte the one that the golden cases were made with."""
    data = (vocabulary_folder() / FILE_NAME).read_bytes()
    assert hashlib.sha256(data).hexdigest() == GOLDEN["meta"]["vocab"]["sha256"]
    assert len(data) == GOLDEN["meta"]["vocab"]["size"]


def test_special_ids(tokenizer: Tokenizer) -> None:
    """Every special token has its published id, and the attributes name the same ids."""
    for name, token in GOLDEN["meta"]["special_tokens"].items():
        assert tokenizer.specials[name] == token, name
    assert tokenizer.n_vocab == GOLDEN["meta"]["n_vocab"]
    assert tokenizer.eod_id == GOLDEN["meta"]["eod_id"]
    assert (tokenizer.im_start_id, tokenizer.im_end_id) == (151644, 151645)
    assert (tokenizer.ref_start_id, tokenizer.ref_end_id) == (151851, 151852)
    assert (tokenizer.box_start_id, tokenizer.box_end_id) == (151853, 151854)
    assert (tokenizer.quad_start_id, tokenizer.quad_end_id) == (151855, 151856)
    assert (tokenizer.image_start_id, tokenizer.image_end_id) == (151857, 151858)
    assert tokenizer.image_pad_id == 151859


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", STRINGS, ids=[name_of(c["text"]) for c in STRINGS])
def test_golden_strings(tokenizer: Tokenizer, case: dict[str, Any], way: str) -> None:
    """Text becomes the published ids, or is refused where the published code refuses it."""
    want = expected(case, way)
    if "error" in want:
        with pytest.raises(ValueError):
            tokenizer.encode_with_specials(case["text"], WAYS[way])
    else:
        assert tokenizer.encode_with_specials(case["text"], WAYS[way]) == want["ids"]


@pytest.mark.parametrize("case", STRINGS, ids=[name_of(c["text"]) for c in STRINGS])
def test_golden_strings_as_text_of_a_person(tokenizer: Tokenizer, case: dict[str, Any]) -> None:
    """`encode` gives the published ids with no special token allowed."""
    assert tokenizer.encode(case["text"]) == expected(case, "allowed_none")["ids"]


@pytest.mark.parametrize(
    ("ids", "decoding", "want"),
    [(c["default_allowed_all"]["ids"], d, c[d]) for c in STRINGS for d in DECODINGS if d in c]
    + [(c["ids"], d, c[d]) for c in DECODE_ONLY for d in DECODINGS if d in c],
)
def test_golden_decode(tokenizer: Tokenizer, ids: list[int], decoding: str, want: Any) -> None:
    """Ids become the published text; where the published code finds no pad in a slot, the path."""
    text = tokenizer.decode(ids, **DECODINGS[decoding])
    if isinstance(want, str):
        assert text == want
    else:
        assert want["message"] == NO_PAD
        path = bytes(ids[1:-1]).decode()
        assert text == (path if "skip" in decoding else f"<img>{path}</img>")


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_no_text_becomes_special(tokenizer: Tokenizer, name: str) -> None:
    """The name of any special token, typed by a person, is plain text and comes back as typed."""
    ids = tokenizer.encode(f"a{name}b")
    assert max(ids) < tokenizer.eod_id
    assert tokenizer.decode(ids) == f"a{name}b"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text())
def test_round_trip(text: str) -> None:
    """Any text, encoded and decoded, is its own NFC form."""
    tokenizer = real_tokenizer()
    ids = tokenizer.encode(text)
    assert all(0 <= i < tokenizer.eod_id for i in ids)
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_lone_surrogate_is_replaced(tokenizer: Tokenizer) -> None:
    """Half a UTF-16 pair, as a broken clipboard gives it, becomes U+FFFD and no error."""
    assert tokenizer.decode(tokenizer.encode("a\ud83db")) == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("unit", ["a", " ", "\n", "你", "^", "1", "\u0301", "word ", "👍🏽"])
def test_very_long_text(tokenizer: Tokenizer, unit: str) -> None:
    """A million characters of one kind are encoded, though the pattern alone would overflow a stack."""
    text = unicodedata.normalize("NFC", unit * (1_000_000 // len(unit)))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_cutting_long_text_changes_nothing(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordinary text cut before spaces has the same ids as uncut."""
    text = "The picture shows 3 dogs, 2 cats \n and it's late.  Next line\nnumber 12 一只狗 在草地上 " * 40
    whole = tokenizer.encode(text)
    for longest in (50, 64, 97, 1000):
        monkeypatch.setattr(bellevl.tokenizer, "LONGEST_PIECE", longest)
        assert tokenizer.encode(text) == whole
    assert len(text) < LONGEST_PIECE


def test_ids_without_meaning_decode_to_nothing(tokenizer: Tokenizer) -> None:
    """The spare rows of the embedding (151860 and above) and impossible ids are no text and no error."""
    assert tokenizer.decode([151860, 152063, -1, 10**9, 108386]) == "你好"


@pytest.mark.parametrize(
    ("ids", "want"),
    [
        ([151857, 108386, 151858], "<img>你好</img>"),
        ([151857, 108386, 151859, 151858], "<img>你好<imgpad></img>"),
        ([151857, 151853, 64, 151858], "<img><box>a</img>"),
        ([151857, 97, 98], "<img>\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ([151857, 151858, 108386], "<img></img>你好"),
    ],
)
def test_decode_of_an_image_that_is_no_slot(tokenizer: Tokenizer, ids: list[int], want: str) -> None:
    """Anything else than bytes and pads between image tags, as a model may write it, decodes to its text."""
    assert tokenizer.decode(ids) == want


def test_slot_is_as_long_as_asked(tokenizer: Tokenizer) -> None:
    """A model with 36 queries has slots of 36 ids, and refuses a longer path."""
    ids = tokenizer.encode_with_specials("<img>ab</img>", slot=36)
    assert ids == [151857, 97, 98, *[151859] * 34, 151858]
    with pytest.raises(ValueError, match="37 bytes"):
        tokenizer.encode_with_specials(f"<img>{'p' * 37}</img>", slot=36)


# ---- the stream


def test_stream_holds_every_character_until_it_is_whole() -> None:
    """Each of the 1,110,016 characters of three and four bytes, byte by byte, shows with its last byte."""
    push = StreamDecoder(byte_tokenizer()).push
    for code in range(0x800, 0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        character = chr(code)
        *first, last = character.encode()
        for byte in first:
            assert push(byte) == "", hex(code)
        assert push(last) == character, hex(code)


@pytest.mark.parametrize("character", ["你", "é", "\N{REPLACEMENT CHARACTER}", "𠮷", "👍", "\U0010ffff"])
def test_stream_at_each_cut(character: str) -> None:
    """A character in two pieces, cut at any byte, shows whole with the second, with text around it."""
    data = character.encode()
    for cut in range(1, len(data)):
        ranks = [*(bytes([b]) for b in range(256)), b"x" + data[:cut], data[cut:] + b"y"]
        stream = StreamDecoder(Tokenizer(ranks))
        assert [stream.push(256), stream.push(257), stream.flush()] == ["x", f"{character}y", ""]


def test_stream_passes_a_real_replacement_character(tokenizer: Tokenizer) -> None:
    """U+FFFD that the model wrote is a character like any other."""
    stream = StreamDecoder(tokenizer)
    text = "".join(map(stream.push, tokenizer.encode("a\N{REPLACEMENT CHARACTER}b"))) + stream.flush()
    assert text == "a\N{REPLACEMENT CHARACTER}b"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.integers(0, 400), st.integers(0, 151_935)), max_size=40))
def test_stream_equals_decode(ids: list[int]) -> None:
    """Whatever the ids are, the pieces of the stream joined are the text of all ids at once."""
    tokenizer = real_tokenizer()
    ids = [i for i in ids if i != tokenizer.image_start_id]  # decode would read a path behind it
    stream = StreamDecoder(tokenizer)
    text = "".join(map(stream.push, ids)) + stream.flush()
    assert text == tokenizer.decode(ids, skip_specials=True, keep_grounding=True, errors="ignore")


def test_stream_drops_what_never_became_a_character(tokenizer: Tokenizer) -> None:
    """An answer cut off inside a character ends before it, and the decoder starts clean."""
    stream = StreamDecoder(tokenizer)
    assert stream.push(99168) == ""
    assert stream.flush() == ""
    assert stream.push(108386) == "你好"


def test_stream_keeps_boxes_and_hides_other_specials(tokenizer: Tokenizer) -> None:
    """Of the special tokens only those of boxes are text of an answer."""
    ids = [tokenizer.ref_start_id, 100737, tokenizer.ref_end_id, tokenizer.image_pad_id, tokenizer.im_end_id]
    stream = StreamDecoder(tokenizer)
    assert "".join(map(stream.push, ids)) == "<ref>狗</ref>"


# ---- loading


def lines_of(ranks: list[bytes], end: str = "\n") -> bytes:
    return "".join(f"{base64.b64encode(r).decode()} {i}{end}" for i, r in enumerate(ranks)).encode()


BYTES = [bytes([b]) for b in range(256)]
GOOD = lines_of(BYTES)


def with_line(number: int, line: bytes) -> bytes:
    lines = GOOD.splitlines(keepends=True)
    lines[number - 1] = line + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    """LF and CRLF files (both were published), with or without empty lines, give the same tokenizer."""
    (tmp_path / FILE_NAME).write_bytes(lines_of([*BYTES, b"ab"], end))
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.encode("abc") == [256, 99]
    assert tokenizer.n_vocab == 257 + 217
    assert tokenizer.eod_id == 257


DAMAGED: dict[str, tuple[bytes, int, str]] = {
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", 1, "not base64"),
    "web page": (b"<!DOCTYPE html>\n<html></html>\n", 1, "not base64"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, 1, "not base64"),
    "not base64": (with_line(7, b"!!! 6"), 7, "not base64"),
    "odd base64": (with_line(7, b"QQ= 6"), 7, "not base64"),
    "one field": (with_line(7, b"QQ=="), 7, "two fields"),
    "three fields": (with_line(7, b"QQ== 6 6"), 7, "two fields"),
    "a line is missing": (GOOD.replace(b"CQ== 9\n", b""), 10, "10 where 9"),
    "rank twice": (with_line(9, b"CA== 7"), 9, "7 where 8"),
    "token twice": (with_line(9, b"AA== 8"), 9, "the same token as rank 0"),
    "rank as Python writes numbers": (with_line(17, b"EA== 1_6"), 17, "1_6 where 16"),
    "negative rank": (with_line(1, b"AA== -0"), 1, "-0 where 0"),
    "rank far above": (with_line(3, b"Ag== 99999999999999999999999999"), 3, "where 2"),
    "not a number": (with_line(3, b"Ag== \xff\xfe"), 3, "where 2"),
    "cut in a line": (GOOD[:-6], 256, "two fields"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_file(tmp_path: Path, what: str) -> None:
    """A damaged vocabulary is refused in one line that names the file, the line and the reason."""
    data, line, reason = DAMAGED[what]
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.message == "tokenizer.damaged"
    assert caught.value.facts["line"] == line
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert str(tmp_path / FILE_NAME) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "256 of the 256 single bytes"),
        (b"\n\r\n", "256 of the 256 single bytes"),
        (lines_of(BYTES[:200]), "56 of the 256 single bytes are not in it (first: 0xC8)"),
        (lines_of([b"ab", *BYTES[1:]]), "1 of the 256 single bytes are not in it (first: 0x00)"),
    ],
)
def test_incomplete_file(tmp_path: Path, data: bytes, reason: str) -> None:
    """A vocabulary without every single byte could not encode every text, and is refused."""
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.message == "tokenizer.unusable"
    assert reason in str(caught.value)


def test_empty_token(tmp_path: Path) -> None:
    """A token of no bytes is refused."""
    (tmp_path / FILE_NAME).write_bytes(GOOD + b"= 256\n")
    with pytest.raises(TokenizerError):
        load_tokenizer(tmp_path)


def make_nothing(path: Path) -> None:
    assert not path.exists()


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [make_nothing, Path.mkdir, make_dangling_link])
def test_missing_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Without a file of that name the folder is named, and what to do."""
    make(tmp_path / FILE_NAME)
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.message == "tokenizer.missing"
    assert str(tmp_path) in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is the same error."""
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path / "no such folder")
    assert caught.value.message == "tokenizer.missing"


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says about the file is the reason given."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / FILE_NAME).write_bytes(GOOD)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.message == "tokenizer.unusable"
    assert "Permission denied" in str(caught.value)


def test_file_far_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file much larger than any vocabulary is refused unread."""
    (tmp_path / FILE_NAME).write_bytes(GOOD)
    monkeypatch.setattr(bellevl.tokenizer, "LARGEST_FILE", 100)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("was read"))
    with pytest.raises(TokenizerError, match="too large"):
        load_tokenizer(tmp_path)


def config_of(tmp_path: Path, image_start_id: int | None, vocab_size: int) -> None:
    """A small model's config.json beside a vocabulary of 257 ranks (`<img>` is 471, 474 ids in all)."""
    (tmp_path / FILE_NAME).write_bytes(lines_of([*BYTES, b"ab"]))
    raw = json.loads((Path(__file__).parent / "golden/model/model/config.json").read_text(encoding="utf-8"))
    raw["vocab_size"] = vocab_size
    raw["visual"] = {**raw["visual"], "image_start_id": image_start_id} if image_start_id else None
    (tmp_path / "config.json").write_text(json.dumps(raw), encoding="utf-8")


@pytest.mark.parametrize(("image_start_id", "vocab_size"), [(471, 474), (471, 512), (None, 474)])
def test_vocabulary_of_the_model(tmp_path: Path, image_start_id: int | None, vocab_size: int) -> None:
    """A vocabulary is taken when the config.json beside it has its ids."""
    config_of(tmp_path, image_start_id, vocab_size)
    assert load_tokenizer(tmp_path).image_start_id == 471


@pytest.mark.parametrize(
    ("image_start_id", "vocab_size", "reason"),
    [
        (472, 512, "<img> is 471 with it, config.json says 472"),
        (None, 473, "it has 474 ids, config.json says 473"),
    ],
)
def test_vocabulary_of_another_model(tmp_path: Path, image_start_id: int | None, vocab_size: int, reason: str) -> None:
    """A vocabulary cut at a line end, or of another model, is found out by the config.json beside it."""
    config_of(tmp_path, image_start_id, vocab_size)
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.message == "tokenizer.unusable"
    assert reason in str(caught.value)


OFFLINE = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
from bellevl.tokenizer import load_tokenizer
tokenizer = load_tokenizer(sys.argv[1])
assert tokenizer.decode(tokenizer.encode("你好")) == "你好"
print(*sorted({"requests", "urllib3", "torch", "transformers", "dashscope"} & set(sys.modules)))
"""


def test_loading_needs_no_network() -> None:
    """Loading and encoding open no socket and import neither requests nor torch."""
    command = [sys.executable, "-c", OFFLINE, str(vocabulary_folder())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
