"""Messages about how things are shown: stages, timings, memory, speed, language of an answer."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "help.color": ("颜色: auto always never", "colours: auto always never"),
    "help.plain": ("无颜色无光标移动，整句输出 (读屏软件)", "no colours, whole sentences (screen readers)"),
    "help.format": ("回答的排版: auto raw markdown", "form of an answer: auto raw markdown"),
    "help.raw": ("原样输出回答，同 --format raw", "the answer as the model gave it"),
    "help.stats": ("回答后显示用时", "show the timings after an answer"),
    "help.lang": ("回答的语言: zh en auto (同问题)", "language of an answer: zh en auto (the question's)"),
    "help.script": ("回答转为简体或繁体: hans hant", "convert an answer to Chinese script: hans hant"),
    "help.encoding": ("标准输入的编码，如 gbk", "encoding of stdin, as in gbk"),
    "help.context": ("上下文最多多少个 token", "longest context, in tokens"),
    "help.max_memory": ("最多使用多少内存，如 10G", "most memory to use, as in 10G"),
    "help.kv": ("KV 缓存: float int8 (内存减半)", "KV cache: float int8 (half the memory)"),
    "help.vision": ("视觉编码器的位置: auto cpu (省显存)", "place of the vision encoder: auto cpu"),
    "usage.choice": ("{name} 不能是 {value}，可以是: {choices}", "{name} cannot be {value}, it is one of: {choices}"),
    "usage.least": ("{name} 不能是 {value}，至少 {least}", "{name} cannot be {value}, it is {least} at least"),
    "usage.encoding": (
        "没有编码 {value} (可以是 gbk, utf-8, big5)",
        "there is no encoding {value} (try gbk, utf-8, big5)",
    ),
    "usage.bytes": ("{name} 不能是 {value}，要写成 10G 或 800M", "{name} cannot be {value}, write it as 10G or 800M"),
    "usage.opencc": ("--script 需要 pip install opencc", "--script needs pip install opencc"),
    "language.wrong": (
        "(两次回答都不是所要的语言: {wanted})",
        "(neither of two answers was in the language asked for: {wanted})",
    ),
    "stage.start": ("准备 …", "getting ready …"),
    "stage.seen": ("看图 {seconds}s · 思考 …", "looked for {seconds}s · thinking …"),
    "stats.load": ("载入 {seconds}s", "load {seconds}s"),
    "stats.vision": ("看图 {seconds}s", "look {seconds}s"),
    "stats.first": ("首字 {seconds}s", "first token {seconds}s"),
    "stats.tokens": ("{prompt}+{new} token", "{prompt}+{new} tokens"),
    "stats.peak": ("内存峰值 {peak}", "peak memory {peak}"),
    "stats.peak_gpu": ("显存峰值 {peak}", "peak GPU memory {peak}"),
    "memory.user": (" ({name} 占 {taken})", " ({name} has {taken})"),
    "memory.choice": ("加 {options} 就放得下；或", "{options}, with which it fits; or "),
    "memory.choice_or": (" 或 ", " or "),
    "memory.saves": ("{options} (省 {saved})", "{options} (saves {saved})"),
    "memory.vision": ("{name} 的视觉编码器", "the vision encoder of {name}"),
    "memory.retrying": (
        "内存不足，改为分段读入，再试一次",
        "out of memory: once more, with the prompt in pieces",
    ),
    "memory.cpu": (
        "没有可用的 GPU: 用 CPU 运行 {name}，每秒约 {speed} 个 token",
        "no GPU can be used: on the CPU {name} gives about {speed} tokens a second",
    ),
    "memory.cpu_ask": ("继续吗? [y/N] ", "Go on? [y/N] "),
    "estimate.said": (
        "预计 {seconds} 秒 (载入 {load}，看图 {vision}，约 {characters} 字)",
        "about {seconds} s (load {load}, look {vision}, some {characters} characters)",
    ),
    "speeds.title": ("用时记录", "speeds"),
    "speeds.text": (
        "{name}: {runs} 次，载入 {load} 秒，看图 {vision} 秒，{speed} token/s",
        "{name}: {runs} runs, load {load} s, look {vision} s, {speed} token/s",
    ),
    "speeds.none": ("还没有 (回答 {enough} 次以后)", "none yet (after {enough} answers)"),
    "kernel.text": ("{product} ({reason})", "{product} ({reason})"),
    "kernel.checked": (
        "{product} ({reason}；自检 {seconds} s 通过)",
        "{product} ({reason}; self-check passed in {seconds} s)",
    ),
    "kernel.slow": (
        "注意: 这里用较慢的 int4 内核 {product}，每个 token 比 16 位权重慢约 {times} 倍: {reason}",
        "note: the slow int4 kernel {product} is used here, about {times} times as slow as 16-bit weights: {reason}",
    ),
}  # fmt: skip
