"""Messages about writing a model in another form."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "help.convert": ("把模型写成别的格式", "Write a model in another form"),
    "help.gguf": ("语言模型写成 GGUF (Q4_0)，供 llama.cpp 使用", "The language model as GGUF (Q4_0) for llama.cpp"),
    "help.name_gguf": ("文件.gguf", "FILE.gguf"),
    "help.gguf_source": ("对称量化的 int4 模型目录", "folder of a symmetric int4 model"),
    "help.gguf_file": ("要写的文件，已有的不会覆盖", "file to write; an existing one stays"),
    "convert.progress": ("{done}  写入 {name}", "{done}  writing {name}"),
    "convert.done": (
        "完成: {name}，{size} (只有语言模型，不能看图)",
        "done: {name}, {size} (the language model alone; it cannot see)",
    ),
}  # fmt: skip
