"""The real vocabulary and the golden cases of tokenizer, prompt, labels and boxes; shared by their tests."""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from bellevl.tokenizer import Tokenizer, load_tokenizer

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "tokenizer.json").read_text(encoding="utf-8"))


def vocabulary_folder() -> Path:
    """The folder of qwen.tiktoken in the package dashscope, which is found but not imported."""
    spec = importlib.util.find_spec("dashscope")
    assert spec is not None and spec.submodule_search_locations, "pip install '.[test]' brings dashscope"
    return Path(spec.submodule_search_locations[0]) / "resources"


@lru_cache(maxsize=1)
def real_tokenizer() -> Tokenizer:
    return load_tokenizer(vocabulary_folder())


@lru_cache(maxsize=1)
def byte_tokenizer() -> Tokenizer:
    """The smallest vocabulary there is: the id of a byte is its value, `<|endoftext|>` is 256."""
    return Tokenizer([bytes([b]) for b in range(256)])
