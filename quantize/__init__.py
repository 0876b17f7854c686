"""GPTQ int4 of a checkpoint on disk, one block at a time. The public names, each imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration import Example as Example
    from .job import LayerReport as LayerReport
    from .pipeline import quantize as quantize
    from .progress import Progress as Progress
    from .recipe import Recipe as Recipe
    from .solver.gptq import QuantizedWeight as QuantizedWeight
    from .solver.gptq import quantize_weight as quantize_weight

#: public name -> the module that defines it
_HOMES = {
    "Example": "calibration",
    "LayerReport": "job",
    "Progress": "progress",
    "QuantizedWeight": "solver.gptq",
    "Recipe": "recipe",
    "quantize": "pipeline",
    "quantize_weight": "solver.gptq",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
