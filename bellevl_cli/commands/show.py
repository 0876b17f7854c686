"""The options of `bellevl show`."""

from __future__ import annotations

from ..options import Debug, Json, ModelFolder


def show(model: ModelFolder = None, json: Json = False, debug: Debug = False) -> None:
    from ..models.show import run

    run(model, json)
