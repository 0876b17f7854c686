"""`bellevl chat`: reads a line, does what it means, again. Prints nothing itself: the renderer does.

Ctrl-C during an answer stops it and keeps what there is; twice within two seconds leaves.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bellevl.errors import BellevlError, CheckpointError

from .. import guard
from ..exits import MEMORY, LeaveError, describe, exit_code
from ..options import ModelOptions, SamplingOptions
from ..pictures.asked import AskedPicture, is_picture_path, open_asked, split_picture
from ..pictures.tiles import is_long
from ..running.session import Plan, Session, plan, window
from ..running.starting import settled, start
from ..screen import typeahead
from ..screen.render import Renderer
from ..settings import config_value
from ..words import say
from . import slash
from .bar import Bar, gpu_memory
from .interrupts import Interrupts
from .parameters import Parameters, configured_by

if TYPE_CHECKING:
    from PIL.Image import Image

    from bellevl.grounding import Box
    from bellevl.image import Picture

    from ..log import Log, StoredThread
    from .lines import Lines
    from .threads import Thread


@dataclass(frozen=True)
class ChatOptions:
    """What was asked on the command line. `thread` is a kept dialogue to go on with: its id or name, "" the latest."""

    picture: str | None
    model: ModelOptions
    sampling: SamplingOptions
    log: bool = True
    thread: str | None = None


class ChatLoop:
    """A chat: its session, its threads, and the lines that do something to them."""

    def __init__(
        self, session: Session, sampling: SamplingOptions, renderer: Renderer, lines: Lines, log: Log | None = None
    ) -> None:
        from ..log import Log
        from .answers import Answers
        from .threads import Threads

        self.session, self.chat = session, session.chat
        self.renderer, self.lines, self.log = renderer, lines, log or Log()
        self.interrupts = Interrupts(patient=lines.interactive)
        self.threads = Threads(session.chat)
        self.parameters = Parameters(sampling, session.plan.generation, configured_by())
        self.answers = Answers(session, self.threads, self.parameters, renderer, self.interrupts, self.log)
        self.answers.boxed = self._show_boxes
        self.first_system = session.chat.system
        self.draw_boxes = bool(config_value("draw_boxes"))
        self.editing = False
        self.failure = 0
        self._leaving = False
        self._bar = Bar()

    def run(self) -> None:
        """Until /exit or the end of input. Raises KeyboardInterrupt after two Ctrl-C."""
        self._connect()
        while not self._leaving:
            try:
                self._bar = self.bar()
                text = self.lines.read()
            except EOFError:
                return
            except KeyboardInterrupt:
                self._interrupted_at_prompt()
                continue
            self._survive(text)

    # ---- what lines and commands do

    def handle(self, text: str) -> None:
        """Does what a line means."""
        line = slash.parse(text)
        if line.kind == "command":
            slash.run(self, line)
        elif line.kind == "picture":
            self.attach_and_ask(line.name, line.text)
        elif line.kind == "question":
            self.ask(line.text)

    def attach_and_ask(self, path: str, question: str) -> None:
        """A picture, more of them where several were dropped at once, and a question about the last one."""
        self.attach(path)
        while question and is_picture_path(split_picture(question)[0]):
            path, question = split_picture(question)
            self.attach(path)
        if question:
            self.ask(question)

    def attach(self, path: str) -> None:
        """A picture for the next question; on failure the one before it stays."""
        self.require_vision()
        self.set_picture(open_asked(path))

    def set_picture(self, picture: AskedPicture, whole: Thread | None = None) -> None:
        """A new thread about an open picture."""
        before = self.threads.current if self.chat.turns else None
        thread = self.threads.open(picture, whole)
        self.say_picture(thread)
        if whole is not None:
            self.say("chat.piece", number=whole.number)
        elif before is not None:
            self.say("chat.new_thread", number=before.number)
        if picture.area is None and is_long(picture.picture):
            self.say("chat.long_picture")
        if self.lines.interactive:
            self.draw(picture.picture)

    def say_picture(self, thread: Thread) -> None:
        """The line about a thread's picture."""
        visual = self.session.plan.config.visual
        if thread.picture is None or visual is None:
            self.renderer.say("chat.without_picture")
            return
        width, height = thread.picture.picture.size
        self.renderer.say(
            "chat.picture", number=thread.number, name=thread.title, width=width, height=height,
            seen=visual.image_size, tokens=visual.n_queries,
        )  # fmt: skip

    def draw(self, picture: Picture | Image) -> bool:
        """The picture itself, where the terminal can show one."""
        from ..pictures.terminal import shown

        drawing = shown(picture)
        if drawing is not None:
            self.renderer.drawing(drawing)
        return drawing is not None

    def _show_boxes(self, boxes: list[Box]) -> None:
        from .boxed import show_boxes

        show_boxes(self, boxes)

    def require_vision(self) -> None:
        """Raises CheckpointError where the model sees nothing."""
        if self.session.plan.config.visual is None:
            raise CheckpointError("model.text_only", folder=self.session.plan.choice.folder)

    def ask(self, question: str) -> None:
        """Answers; behind /edit in the last question's place."""
        if self.editing:
            self.answers.undo()
            self.editing = False
        self.answers.ask(question)

    def reset_settings(self) -> None:
        """What /set changed is as the chat began."""
        self.parameters.reset()
        self.chat.system = self.first_system
        self.draw_boxes = bool(config_value("draw_boxes"))

    def leave(self) -> None:
        self._leaving = True

    def tell(self, text: str) -> None:
        self.renderer.note(text)

    def say(self, message: str, **facts: object) -> None:
        self.renderer.say(message, **facts)

    @property
    def columns(self) -> int:
        """Of the terminal."""
        return shutil.get_terminal_size().columns

    def used_tokens(self) -> int:
        """Tokens of the window that the next question finds taken."""
        return self.chat.parts().taken(self.window())

    def window(self) -> int:
        return self.chat.window(**self.parameters.keywords())

    def bar(self) -> Bar:
        """What the line below the prompt says now."""
        thread, parts, window = self.threads.current, self.chat.parts(), self.window()
        return Bar(
            picture="" if thread.picture is None else thread.title,
            used=parts.taken(window),
            window=window,
            forgotten=len(parts.kept(window)) < len(parts.turns),
            gpu=gpu_memory(self.session.device),
            speed=self.answers.speed,
        )

    def resume(self, stored: StoredThread) -> None:
        """Goes on with a kept dialogue. Raises PictureError when its picture is gone."""
        from bellevl.prompt import Turn

        from ..log import reopen

        picture = reopen(stored, self.tell)
        if picture is not None:
            self.require_vision()
        thread = self.threads.open(picture)
        turns = tuple(
            Turn(turn.question, turn.answer or None, pictures=int(picture is not None and at == 0))
            for at, turn in enumerate(stored.turns)
        )
        ended = stored.turns[-1].finish_reason or "interrupted" if turns else None
        self.chat.go_back(replace(self.chat.dialogue(), turns=turns, finish_reason=ended))
        self.chat.system = stored.system or self.first_system
        thread.log_id = stored.id
        self.say_picture(thread)
        self.say("chat.resumed", name=stored.name or stored.id, count=len(turns))
        if turns:
            self.say("chat.last_question", question=turns[-1].question)

    # ---- around a line

    def _survive(self, text: str) -> None:
        """An error a person can cause and a Ctrl-C end the line, not the chat."""
        editing = self.editing
        try:
            self.handle(text)
        except KeyboardInterrupt:
            self.renderer.end_line()
            if not self.lines.interactive or self.interrupts.again():
                raise
            self.renderer.say("chat.interrupted")
        except Exception as error:
            self._tell_failure(error)
        if editing:  # whatever the line was: /edit is over
            self.editing = False

    def _tell_failure(self, error: Exception) -> None:
        """Raises `error` itself where nobody can cause it."""
        if not isinstance(error, BellevlError) and exit_code(error) != MEMORY:
            raise error
        self.renderer.note(describe(error) or "")
        self.failure = self.failure or exit_code(error)

    def _connect(self) -> None:
        from .lines import Hooks

        self.lines.connect(Hooks(self._attach_dropped, self._clipboard, lambda: self._bar.parts()))

    def _attach_dropped(self, path: str) -> None:
        """At the prompt: nothing may leave it but by words."""
        try:
            self.attach(path)
        except Exception as error:
            self._tell_failure(error)
        self._bar = self.bar()

    def _clipboard(self) -> str:
        """Attaches the picture in the clipboard, or gives the text in it."""
        from .on_pictures import paste

        try:
            return paste(self)
        except Exception as error:
            self._tell_failure(error)
            return ""
        finally:
            self._bar = self.bar()

    def _interrupted_at_prompt(self) -> None:
        """Clears the line; on an empty one says how to leave, and leaves the second time."""
        self.editing = False
        if self.lines.interactive and self.lines.pending:
            return
        if not self.lines.interactive or self.interrupts.again():
            raise KeyboardInterrupt
        self.tell(say("chat.press_ctrl_d"))


def run(options: ChatOptions) -> None:
    """The command. A picture that cannot be opened ends it before any model is loaded."""
    with typeahead.kept():
        loop = _open_loop(options)
        with loop.log:
            loop.run()
    if loop.failure and not loop.lines.interactive:
        raise LeaveError(loop.failure)


def _open_loop(options: ChatOptions) -> ChatLoop:
    guard.install()
    renderer = Renderer()
    asked = None if options.picture is None else open_asked(options.picture)
    stored = None if options.thread is None else _stored(options.thread or None)
    chosen = plan(options.model)
    if asked is not None and chosen.config.visual is None:
        raise CheckpointError("model.text_only", folder=chosen.choice.folder)
    loop = _load(chosen, options, renderer)
    if stored is not None:
        loop.resume(stored)
    if asked is not None:
        loop.set_picture(asked)
    return loop


def _stored(which: str | None) -> StoredThread:
    """A kept dialogue. Raises LogError."""
    from ..log import open_kept

    with open_kept() as log:
        return log.thread(which)


def _load(chosen: Plan, options: ChatOptions, renderer: Renderer) -> ChatLoop:
    from ..log import open_log
    from .lines import open_lines

    if chosen.choice.embedded:
        renderer.say("ask.embedded")
    lines = open_lines(plain=renderer.err_look.plain)
    settled(options.sampling, chosen)
    session = start(chosen, window(chosen, options.sampling.max_tokens), renderer)
    if lines.interactive:
        renderer.say("chat.welcome", name=chosen.choice.name)
    return ChatLoop(session, options.sampling, renderer, lines, open_log(options.log, renderer.note))
