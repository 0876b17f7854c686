"""Threads of a chat: a picture and the dialogue about it. The model sees one picture, so there is one at a time.

Knows the chat's dialogue and no terminal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bellevl.chat import Chat, Dialogue

from ..words import say

if TYPE_CHECKING:
    from torch import Tensor

    from ..pictures.asked import AskedPicture


@dataclass
class Thread:
    """A picture, if there is one, and what was said about it when it was last left.

    `whole` is the thread about the picture of which this one is a piece. `log_id` is the log's name for the dialogue,
    once something was asked. `answers` are the dialogue with each answer that the last question had, `at` is the one
    that stands.
    """

    number: int
    picture: AskedPicture | None = None
    dialogue: Dialogue = field(default_factory=Dialogue)
    whole: Thread | None = None
    log_id: str | None = None
    answers: list[Dialogue] = field(default_factory=list)
    at: int = 0

    @property
    def title(self) -> str:
        """What it is called: the picture's name, and where in it the piece lies."""
        if self.picture is None:
            return say("chat.no_picture")
        area = self.picture.area
        return self.picture.name if area is None else f"{self.picture.name}[{','.join(map(str, area))}]"

    def forget_answers(self) -> None:
        self.answers, self.at = [], 0


class Threads:
    """All threads; the dialogue of the current one is the chat's."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self.current = Thread(0)
        self._all = [self.current]

    def open(self, picture: AskedPicture | None, whole: Thread | None = None) -> Thread:
        """A new thread about `picture`; the dialogue begins anew."""
        dialogue = Dialogue()
        if picture is not None:
            dialogue = Dialogue(picture.picture, features=self._features(picture))
        self._keep()
        number = 1 + max(thread.number for thread in self._all)
        self._all.append(thread := Thread(number, picture, dialogue, whole))
        self._enter(thread)
        return thread

    def go(self, thread: Thread) -> None:
        """Back to a thread, with its dialogue."""
        self._keep()
        self._enter(thread)

    def find(self, number: int) -> Thread | None:
        return next((thread for thread in self.listed() if thread.number == number), None)

    def listed(self) -> list[Thread]:
        """Threads with a picture, and the one without where something was said in it."""
        self._keep()
        return [thread for thread in self._all if thread.picture is not None or thread.dialogue.turns]

    def forget(self) -> None:
        """All of them are gone."""
        self.current = Thread(0)
        self._all = [self.current]
        self._chat.go_back(self.current.dialogue)

    def last_question(self) -> str | None:
        """The newest question of this thread, else of the one that was current before it."""
        for thread in (self.current, *reversed(self.listed())):
            if thread.dialogue.turns:
                return thread.dialogue.turns[-1].question
        return None

    def _enter(self, thread: Thread) -> None:
        self.current = thread
        self._chat.go_back(thread.dialogue)

    def _keep(self) -> None:
        self.current.dialogue = self._chat.dialogue()

    def _features(self, picture: AskedPicture) -> Tensor | None:
        """What the model saw in the same picture before, if it did."""
        self._keep()
        for thread in self._all:
            seen = thread.picture
            if seen is not None and (seen.sha256, seen.area) == (picture.sha256, picture.area):
                return thread.dialogue.features
        return None
