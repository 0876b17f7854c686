"""Text to ids and back with the vocabulary of a model folder (qwen.tiktoken): byte-pair encoding by tiktoken.

`encode` knows no special tokens: what a person typed stays text, whatever it looks like. Prompts are put
together from its results and the ids of the special tokens (prompt.py). `encode_with_specials` is the other
way, for text that a program wrote: training data and comparisons with the published code.

Knows the published form of a picture inside text (the bytes of its path as ids, then pads), not how a model
sees pictures. Opens one local file and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import tiktoken

from .config import ModelConfig, is_file, read_config
from .errors import TokenizerError

FILE_NAME = "qwen.tiktoken"

#: How text is cut before merging; part of the format.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

GROUNDING_TAGS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
IMAGE_TAGS = (*GROUNDING_TAGS, "<img>", "</img>", "<imgpad>")

#: Special tokens in the order of their ids, which follow the ranks.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{i}|>" for i in range(205)),
    *IMAGE_TAGS,
)

#: The published vocabulary has 2.6 MB; a file far above that is something else.
LARGEST_FILE = 64 * 2**20

#: tiktoken's regular expressions recurse over long runs of one kind of character: longer text goes in pieces.
LONGEST_PIECE = 100_000
_GAP = re.compile(r"(?<=\S) (?=\S)")


class Tokenizer:
    """A vocabulary: `ranks` are the byte strings of ids 0..n-1, the special tokens are ids n..n+216."""

    def __init__(self, ranks: Sequence[bytes]) -> None:
        specials = {name: len(ranks) + i for i, name in enumerate(SPECIAL_TOKENS)}
        mergeable = {token: rank for rank, token in enumerate(ranks)}
        self._encoding = tiktoken.Encoding("qwen", pat_str=PATTERN, mergeable_ranks=mergeable, special_tokens=specials)
        self.ranks = list(ranks)
        self._pieces = [*ranks, *(name.encode() for name in SPECIAL_TOKENS)]
        self.specials = specials
        self.n_vocab = len(self._pieces)
        self.eod_id = specials["<|endoftext|>"]
        self.im_start_id = specials["<|im_start|>"]
        self.im_end_id = specials["<|im_end|>"]
        self.ref_start_id, self.ref_end_id = specials["<ref>"], specials["</ref>"]
        self.box_start_id, self.box_end_id = specials["<box>"], specials["</box>"]
        self.quad_start_id, self.quad_end_id = specials["<quad>"], specials["</quad>"]
        self.image_start_id, self.image_end_id = specials["<img>"], specials["</img>"]
        self.image_pad_id = specials["<imgpad>"]
        self.grounding_ids = frozenset(specials[name] for name in GROUNDING_TAGS)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, normalised to NFC. Never a special token."""
        text = unicodedata.normalize("NFC", text)
        if len(text) <= LONGEST_PIECE:
            return self._encoding.encode_ordinary(text)
        return [i for piece in _cut(text, LONGEST_PIECE) for i in self._encoding.encode_ordinary(piece)]

    def encode_with_specials(self, text: str, allowed: Collection[str] = SPECIAL_TOKENS, slot: int = 256) -> list[int]:
        """Ids of text that a program wrote: the names in `allowed` are special tokens, others plain text.

        With `<img>` allowed, `<img>path</img>` becomes the published slot: `slot` ids, first the path's UTF-8
        bytes as ids 0..255, then pads. Raises ValueError for an image that is not closed, a path of more than
        `slot` bytes, and a special token inside of an image.
        """
        text = unicodedata.normalize("NFC", text)
        ids = self._encoding.encode(text, allowed_special=set(allowed), disallowed_special=())
        return list(self._fill_slots(ids, slot))

    def _fill_slots(self, ids: list[int], slot: int) -> Iterator[int]:
        at = 0
        while self.image_start_id in ids[at:]:
            start = ids.index(self.image_start_id, at)
            if self.image_end_id not in ids[start:]:
                raise ValueError("<img> without </img>")
            end = ids.index(self.image_end_id, start)
            yield from ids[at : start + 1]
            yield from self._slot(ids[start + 1 : end], slot)
            yield self.image_end_id
            at = end + 1
        yield from ids[at:]

    def _slot(self, inside: list[int], slot: int) -> list[int]:
        if any(i >= self.eod_id for i in inside):
            raise ValueError("a special token between <img> and </img>")
        path = b"".join(self._pieces[i] for i in inside)
        if len(path) > slot:
            raise ValueError(f"{len(path)} bytes between <img> and </img>, at most {slot} fit")
        return [*path, *[self.image_pad_id] * (slot - len(path))]

    def decode(
        self,
        ids: Iterable[int],
        *,
        skip_specials: bool = False,
        keep_grounding: bool = False,
        errors: str = "replace",
    ) -> str:
        """Text of `ids`; those beyond the vocabulary are nothing. A published slot becomes `<img>path</img>`.

        `skip_specials` leaves special tokens out (a path stays), `keep_grounding` keeps ref, box and quad.
        `errors` is what to do with bytes that are no UTF-8 ("replace", "ignore").
        """
        keep = self.grounding_ids if keep_grounding else frozenset()
        pieces: list[bytes] = []
        for token, piece in self._with_paths(list(ids)):
            if not skip_specials or token < self.eod_id or token in keep:
                pieces.append(piece)
        return b"".join(pieces).decode("utf-8", errors)

    def _with_paths(self, ids: list[int]) -> Iterator[tuple[int, bytes]]:
        """Each id and its bytes; inside of a published slot the id is the byte, and its pads are left out."""
        slot_end = -1
        for at, token in enumerate(ids):
            if at < slot_end:
                if token != self.image_pad_id:
                    yield token, bytes([token])
                continue
            if token == self.image_start_id:
                slot_end = self._end_of_slot(ids, at)
            yield token, self.piece(token)

    def _end_of_slot(self, ids: list[int], start: int) -> int:
        """Position of `</img>` if all from `start` to it is bytes and pads, else -1."""
        for at in range(start + 1, len(ids)):
            if ids[at] == self.image_end_id:
                return at
            if ids[at] != self.image_pad_id and not 0 <= ids[at] < 256:
                return -1
        return -1

    def piece(self, token: int) -> bytes:
        """The bytes of one id; none for an id that has no meaning (the embedding has spare rows)."""
        return self._pieces[token] if 0 <= token < self.n_vocab else b""


class StreamDecoder:
    """Ids of an answer to text as they come. Bytes wait until they are whole characters.

    Special tokens are left out but for ref, box and quad; so are bytes that can be no character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")("ignore")

    def push(self, token: int) -> str:
        """The characters that are whole with this id; often one, sometimes none."""
        tokenizer = self._tokenizer
        if token >= tokenizer.eod_id and token not in tokenizer.grounding_ids:
            return ""
        return self._bytes.decode(tokenizer.piece(token))

    def flush(self) -> str:
        """What is left at the end. The start of a character that never came whole is dropped."""
        text = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return text


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises TokenizerError when its qwen.tiktoken is missing, damaged or not that of the config.json beside it.
    """
    path = Path(folder) / FILE_NAME
    if not is_file(path):
        raise TokenizerError("tokenizer.missing", folder=folder)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= LARGEST_FILE else b""
    except OSError as error:
        raise TokenizerError("tokenizer.unusable", path=path, reason=error.strerror or error) from error
    if size > LARGEST_FILE:
        raise TokenizerError("tokenizer.unusable", path=path, reason=f"{size >> 20} MB is too large for it")
    tokenizer = Tokenizer(_read_ranks(data, path))
    if is_file(path.parent / "config.json"):
        _check_model(tokenizer, read_config(folder)[0], path)
    return tokenizer


def _check_model(tokenizer: Tokenizer, config: ModelConfig, path: Path) -> None:
    """A file cut at a line end looks whole, but its special tokens are not those that the model learned."""
    reason = ""
    image_start_id = config.visual.image_start_id if config.visual else tokenizer.image_start_id
    if image_start_id != tokenizer.image_start_id:
        reason = f"<img> is {tokenizer.image_start_id} with it, config.json says {image_start_id}"
    elif tokenizer.n_vocab > config.vocab_size:
        reason = f"it has {tokenizer.n_vocab} ids, config.json says {config.vocab_size}"
    if reason:
        raise TokenizerError("tokenizer.unusable", path=path, reason=reason)


def _read_ranks(data: bytes, path: Path) -> list[bytes]:
    """The byte strings in order of rank. Lines are "base64 rank" and count up from 0, with LF or CRLF."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        fields = line.split()
        if not fields:
            continue
        token, reason = _read_line(fields, len(ranks))
        if token in ranks:
            reason = f"the same token as rank {ranks[token]}"
        if reason:
            raise TokenizerError("tokenizer.damaged", path=path, line=number, reason=reason)
        ranks[token] = len(ranks)
    _check_bytes(ranks, path)
    return list(ranks)


def _read_line(fields: list[bytes], rank: int) -> tuple[bytes, str]:
    """The token of a line and what is wrong with it ("": nothing)."""
    if len(fields) != 2:
        return b"", "not two fields (base64, rank)"
    try:
        token = base64.b64decode(fields[0], validate=True)
    except (binascii.Error, ValueError):
        return b"", "not base64"
    if fields[1] != b"%d" % rank:
        return b"", f"rank {fields[1][:20].decode(errors='replace')} where {rank} belongs"
    return token, "" if token else "an empty token"


def _check_bytes(ranks: dict[bytes, int], path: Path) -> None:
    """Every text can be encoded only if every single byte is a token."""
    absent = [b for b in range(256) if bytes([b]) not in ranks]
    if absent:
        reason = f"{len(absent)} of the 256 single bytes are not in it (first: 0x{absent[0]:02X})"
        raise TokenizerError("tokenizer.unusable", path=path, reason=reason)


def _cut(text: str, longest: int) -> Iterator[str]:
    """`text` in pieces of at most `longest` characters, cut between words where there are any.

    There, before a single space, the pattern cuts too, so the ids are those of the whole text.
    """
    at = 0
    while len(text) - at > longest:
        middle, end = at + longest // 2, at + longest
        cut = max((gap.start() for gap in _GAP.finditer(text, middle, end)), default=end)
        yield text[at:cut]
        at = cut
    yield text[at:]
