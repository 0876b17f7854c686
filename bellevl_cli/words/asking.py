"""Messages about one question, one answer."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "default_question": ("描述图片", "Describe the picture."),
    "ask.order": (
        "{name} 写在了问题的位置 (先写一张图片，再写问题)",
        "{name} stands where the question belongs (one picture comes first, then the question)",
    ),
    "ask.default_question": ("没有写问题，就问: {question}", "no question given; asking: {question}"),
    "ask.embedded": (
        "提示: 这是内置的小型演示模型，不是 BELLE-VL-14B。下载 BELLE-VL-14B 后: "
        "bellevl quantize 下载目录 目标目录，再用 --model 目标目录 (或 BELLEVL_MODEL)",
        "note: this is the small embedded demonstration model, not BELLE-VL-14B. Once you have downloaded that: "
        "bellevl quantize ITS_FOLDER NEW_FOLDER, then --model NEW_FOLDER (or BELLEVL_MODEL)",
    ),
    "ask.length": (
        "(未完: 已到 {tokens} 个 token，可加大 --max-tokens)",
        "(cut after {tokens} tokens; a larger --max-tokens lets it go on)",
    ),
    "stage.model": ("载入模型 {name} …", "loading the model {name} …"),
    "stage.answer": ("看图，思考 …", "looking, thinking …"),
    "stage.think": ("思考 …", "thinking …"),
    "memory.said": ("{name} 约需内存 {need}，现有空闲 {free}", "{name} needs about {need}, {free} is free"),
}  # fmt: skip
