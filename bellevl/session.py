"""A model in three lines, for programs: the same core as the terminal, typed.

    session = Session()                               # the embedded model; Session("folder") any other one
    for piece in session.ask("cat.jpg", "这是什么？"):
        print(piece, end="")
    print("".join(session.ask(None, "什么颜色？")))    # about the same picture

Knows no terminal and no configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat import Chat, ImageSource


class Session:
    """A loaded model and the dialogue about the latest picture.

    `model` is a folder, None the embedded model. `device` is "cpu", "cuda", "cuda:1" or "mps"; None: a GPU where torch
    sees one. `vision_device` "cpu" keeps the vision encoder out of a GPU's memory, `kv` "int8" halves the KV cache.
    Raises CheckpointError, DeviceError and OutOfMemoryError when made.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        system: str | None = None,
        vision_device: str | None = None,
        kv: str = "float",
    ) -> None:
        from .chat import Chat
        from .checkpoint import load_model
        from .nano import folder as embedded
        from .tokenizer import load_tokenizer

        folder = embedded() if model is None else Path(model).expanduser()
        tokenizer = load_tokenizer(folder)
        loaded = load_model(folder, device=device or _best_device(), vision_device=vision_device)
        named: dict[str, Any] = {} if system is None else {"system": system}
        #: the dialogue itself: its turns and picture, retry, undo, clear
        self.chat: Chat = Chat(loaded, tokenizer, **named)
        self.chat.kv = kv

    def ask(self, picture: ImageSource | None, question: str, **sampling: Any) -> Iterator[str]:
        """The answer in pieces of whole characters, while the model writes it.

        `picture` is a path, a binary stream, a PIL image or a Picture, and begins a new dialogue; None goes on with the
        one before. `sampling`: max_tokens, temperature, top_p, top_k, repetition_penalty, greedy, seed. Raises at once:
        PictureError, PromptError, and CheckpointError for a picture shown to a text-only model.
        """
        return self.chat.ask(question, picture, **sampling)


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
