"""BELLE-VL's two stages: what is trained in each (models/Belle-VL/README.md and train.png of LianjiaTech/BELLE).

    stage 1  multimodal pre-training        224 px   resampler and its queries
    stage 2  multimodal instruction tuning  448 px   resampler, queries and the language model

The vision encoder's blocks are frozen in both. `ln_post` and `proj` stand behind the resampler at its width; BELLE-VL's
width differs from the 7B model's, so they cannot have been taken over and are trained with it.
"""

from __future__ import annotations

from ..model import BelleVL

RESAMPLER = ("transformer.visual.attn_pool.", "transformer.visual.ln_post.", "transformer.visual.proj")
VISION = "transformer.visual."


def freeze_for_stage(model: BelleVL, stage: int) -> BelleVL:
    """Sets requires_grad as stage 1 or 2 has it; the resampler's sin-cos table is never trained."""
    assert stage in (1, 2), f"there are stages 1 and 2, not {stage}"
    for name, parameter in model.named_parameters():
        resampler = name.startswith(RESAMPLER)
        language = stage == 2 and not name.startswith(VISION)
        parameter.requires_grad = (resampler or language) and not name.endswith("pos_embed")
    return model
