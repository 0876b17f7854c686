"""BELLE-VL: pictures and text in, text out. The public names, each imported when it is first used.

Importing this package costs nothing: `bellevl --help` and a missing picture are answered without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat import Chat as Chat
    from .chat import Piece as Piece
    from .checkpoint import Checkpoint as Checkpoint
    from .checkpoint import load_model as load_model
    from .config import GenerationConfig as GenerationConfig
    from .config import ModelConfig as ModelConfig
    from .config import QuantizationConfig as QuantizationConfig
    from .config import read_config as read_config
    from .config import read_generation_config as read_generation_config
    from .errors import BellevlError as BellevlError
    from .errors import CheckpointError as CheckpointError
    from .errors import DeviceError as DeviceError
    from .errors import LogError as LogError
    from .errors import OutOfMemoryError as OutOfMemoryError
    from .errors import PictureError as PictureError
    from .errors import PromptError as PromptError
    from .errors import QuantizeError as QuantizeError
    from .errors import TokenizerError as TokenizerError
    from .image import Picture as Picture
    from .image import open_picture as open_picture
    from .image import preprocess as preprocess
    from .model import BelleVL as BelleVL
    from .session import Session as Session
    from .tokenizer import StreamDecoder as StreamDecoder
    from .tokenizer import Tokenizer as Tokenizer
    from .tokenizer import load_tokenizer as load_tokenizer

__version__ = "0.1.0"

#: public name -> the module that defines it
_HOMES = {
    "BelleVL": "model",
    "BellevlError": "errors",
    "Chat": "chat",
    "Checkpoint": "checkpoint",
    "CheckpointError": "errors",
    "DeviceError": "errors",
    "GenerationConfig": "config",
    "LogError": "errors",
    "ModelConfig": "config",
    "OutOfMemoryError": "errors",
    "Picture": "image",
    "PictureError": "errors",
    "Piece": "chat",
    "PromptError": "errors",
    "QuantizationConfig": "config",
    "QuantizeError": "errors",
    "Session": "session",
    "StreamDecoder": "tokenizer",
    "Tokenizer": "tokenizer",
    "TokenizerError": "errors",
    "load_model": "checkpoint",
    "load_tokenizer": "tokenizer",
    "open_picture": "image",
    "preprocess": "image",
    "read_config": "config",
    "read_generation_config": "config",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
