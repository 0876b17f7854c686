"""The table of slash commands, filled by `command`. /help, completion, documentation and tests read it.

Knows what a command is called and takes, not what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..words import say

if TYPE_CHECKING:
    from .repl import ChatLoop

#: A handler gets the chat and what follows the command.
Handler = Callable[["ChatLoop", str], None]

#: In the order of /help.
GROUPS = ("pictures", "answers", "dialogue", "settings")


@dataclass(frozen=True)
class SlashCommand:
    """A row of the table. `takes` is what completion offers behind it: "" nothing, "text" anything, else a kind of
    completing.py."""

    name: str
    aliases: tuple[str, ...]
    handler: Handler
    group: str
    takes: str = ""

    @property
    def usage(self) -> str:
        """In the person's language."""
        return say(f"usage.{self.name}") if self.takes else f"/{self.name}"

    @property
    def summary(self) -> str:
        return say(f"command.{self.name}")

    @property
    def examples(self) -> list[str]:
        """Lines that can be typed as they stand; the shortest comes first."""
        return say(f"example.{self.name}").splitlines() if self.takes else [f"/{self.name}"]


#: Commands by name; their aliases lead to the same rows.
COMMANDS: dict[str, SlashCommand] = {}


def command(name: str, *aliases: str, group: str, takes: str = "") -> Callable[[Handler], Handler]:
    """Puts a handler into the table under `name` and `aliases`."""
    assert group in GROUPS

    def register(handler: Handler) -> Handler:
        COMMANDS[name] = SlashCommand(name, aliases, handler, group, takes)
        return handler

    return register


def find(name: str) -> SlashCommand | None:
    """The row of a name or an alias."""
    return next((row for row in COMMANDS.values() if name == row.name or name in row.aliases), None)


def all_names() -> list[str]:
    """Every name and alias."""
    return [name for row in COMMANDS.values() for name in (row.name, *row.aliases)]
