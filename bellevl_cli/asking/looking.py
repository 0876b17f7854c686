"""The pictures of a command: all of them are looked at before any model is thought of, then opened one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..pictures.asked import STDIN, AskedPicture
from ..pictures.wishes import PictureWishes

#: Opens a picture, again if need be.
Opener = Callable[[], AskedPicture]


def first_look(names: Sequence[str], wishes: PictureWishes) -> list[Opener]:
    """An opener for each picture, the clipboard's first. Raises PictureError for the first one that cannot be read.

    Of several pictures none is kept open: a hundred photos do not fit into memory, one does.
    """
    wishes.check()
    openers: list[Opener] = []
    if wishes.clip:
        from ..pictures.clipboard import read_picture

        openers.append(_kept(wishes.cut(read_picture())))
    for name in names:
        asked = wishes.open(name)
        again = len(names) > 1 and name != STDIN and asked.picture.path is not None
        openers.append(_named(name, wishes) if again else _kept(asked))
    return openers


def _kept(asked: AskedPicture) -> Opener:
    return lambda: asked


def _named(name: str, wishes: PictureWishes) -> Opener:
    return lambda: wishes.open(name)
