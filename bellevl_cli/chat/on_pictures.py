"""Slash commands about pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bellevl.errors import PictureError

from ..pictures.asked import AskedPicture, is_picture_path, split_picture
from ..screen.clean import clean_line, typed_text
from ..words import say
from .registry import COMMANDS, command

if TYPE_CHECKING:
    from bellevl.grounding import Box

    from .repl import ChatLoop
    from .threads import Thread

#: Words that lead back from a piece to the whole picture.
OFF = frozenset({"off", "关", "整图"})


@command("img", "image", "图", "图片", group="pictures", takes="picture")
def _img(loop: ChatLoop, argument: str) -> None:
    if not argument:
        loop.say("chat.usage", usage=COMMANDS["img"].usage)
        return
    path, question = split_picture(argument)
    thread = loop.threads.find(int(path)) if path.isascii() and path.isdigit() else None
    if thread is None or is_picture_path(path):
        loop.attach_and_ask(path, question)
        return
    loop.threads.go(thread)
    loop.say_picture(thread)
    loop.say("chat.back", count=len(loop.chat.turns))
    if question:
        loop.ask(question)


@command("imgs", "图片列表", "列表", group="pictures")
def _imgs(loop: ChatLoop, argument: str) -> None:
    """ "1* cat.jpg (3 turns)", one a line; the star is at the current one."""
    lines = []
    for thread in loop.threads.listed():
        star = "*" if thread is loop.threads.current else " "
        lines.append(
            say("chat.thread", number=thread.number, star=star, name=thread.title, count=len(thread.dialogue.turns))
        )
    loop.tell("\n".join(lines) or say("chat.no_pictures"))


@command("paste", "粘贴", group="pictures")
def _paste(loop: ChatLoop, argument: str) -> None:
    loop.lines.put(paste(loop))


def paste(loop: ChatLoop) -> str:
    """Shows the picture in the clipboard; the text in it where there is no picture. Raises PictureError."""
    from ..pictures.clipboard import read_picture, read_text

    try:
        picture = read_picture()
    except PictureError as error:
        text = "" if error.message != "picture.clipboard_empty" else read_text()
        if not text:
            raise
        return text
    loop.require_vision()
    loop.set_picture(picture)
    return ""


@command("show", "显示", group="pictures", takes="file")
def _show(loop: ChatLoop, argument: str) -> None:
    """The picture with the boxes of the newest answer that has any; into a file where one is named."""
    from ..pictures.boxes import place
    from ..pictures.drawing import draw_placed, drawn
    from ..pictures.terminal import line_width

    picture = _picture(loop)
    if picture is None:
        return
    boxes = place(_boxes(loop), picture.uncut.size, picture.area)
    if argument:
        path = draw_placed(picture.uncut, boxes, Path(argument.strip("\"'“”")).expanduser())
        loop.say("chat.saved", path=clean_line(typed_text(str(path))), count=len(boxes))
    elif not loop.draw(drawn(picture.uncut, boxes, line_width(picture.uncut.image.size)) if boxes else picture.picture):
        loop.say("chat.cannot_show")


@command("crop", "裁剪", group="pictures", takes="place")
def _crop(loop: ChatLoop, argument: str) -> None:
    """A piece of the picture becomes what is asked about, in a thread of its own."""
    from ..pictures.crop import crop_asked

    if not argument:
        loop.say("chat.usage", usage=COMMANDS["crop"].usage)
    elif argument.lower() in OFF:
        _whole(loop)
    elif (picture := _picture(loop)) is not None:
        loop.set_picture(crop_asked(picture, argument), _root(loop.threads.current))


@command("zoom", "放大", group="pictures", takes="text")
def _zoom(loop: ChatLoop, argument: str) -> None:
    """The same for a box of an answer."""
    from ..pictures.crop import zoom

    number = argument.strip("[]")
    if argument.lower() in OFF:
        _whole(loop)
    elif not (number.isdecimal() and len(number) < 9):
        loop.say("chat.usage", usage=COMMANDS["zoom"].usage)
    elif (picture := _picture(loop)) is not None:
        loop.set_picture(zoom(picture, _boxes(loop), int(number)), _root(loop.threads.current))


@command("tiles", "分块", group="pictures", takes="text")
def _tiles(loop: ChatLoop, argument: str) -> None:
    """A question about each piece of a long picture; the answers together are the dialogue's next turn."""
    from ..pictures.tiles import tile_asked, tiles

    picture = _picture(loop)
    if picture is None:
        return
    if not argument:
        loop.say("chat.usage", usage=COMMANDS["tiles"].usage)
        return
    pieces = [tile_asked(picture, tile) for tile in tiles(picture.picture)]
    if len(pieces) == 1:
        loop.say("chat.not_long")
        loop.ask(argument)
    else:
        loop.answers.ask_pieces(argument, pieces)


def _picture(loop: ChatLoop) -> AskedPicture | None:
    """The current picture; says so where there is none."""
    picture = loop.threads.current.picture
    if picture is None:
        loop.say("chat.no_pictures")
    return picture


def _root(thread: Thread) -> Thread:
    """The thread about the whole picture."""
    return thread if thread.whole is None else thread.whole


def _whole(loop: ChatLoop) -> None:
    """Back to the whole picture and its dialogue."""
    thread = loop.threads.current
    whole, piece = thread.whole, thread.picture
    if whole is None and piece is not None and piece.area is not None:  # a kept dialogue about a piece
        loop.set_picture(replace(piece, picture=piece.uncut, area=None, whole=None))
        return
    if whole is None:
        loop.say("chat.is_whole")
        return
    loop.threads.go(whole)
    loop.say_picture(whole)
    loop.say("chat.back", count=len(loop.chat.turns))


def _boxes(loop: ChatLoop) -> list[Box]:
    """Boxes of the newest answer that has any."""
    from ..pictures.boxes import read_boxes

    found = (read_boxes(turn.answer or "").boxes for turn in reversed(loop.chat.turns))
    return next((boxes for boxes in found if boxes), [])
