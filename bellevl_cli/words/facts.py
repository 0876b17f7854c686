"""Messages about what a model and a machine are: show, doctor."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "show.name": ("名称", "name"),
    "show.folder": ("目录", "folder"),
    "show.architecture": ("结构", "architecture"),
    "show.sizes": ("尺寸", "sizes"),
    "show.sizes_text": (
        "{layers} 层，宽 {hidden}，{heads} 头，MLP {mlp}，词表 {vocabulary}",
        "{layers} blocks, {hidden} wide, {heads} heads, MLP {mlp}, vocabulary {vocabulary}",
    ),
    "show.parameters": ("参数", "parameters"),
    "show.parameters_text": (
        "{total} (语言 {language}，视觉 {vision})",
        "{total} (language {language}, vision {vision})",
    ),
    "show.quantization": ("量化", "quantization"),
    "show.float": ("无 ({dtype})", "none ({dtype})"),
    "show.disk": ("磁盘", "on disk"),
    "show.memory": ("内存", "memory"),
    "show.memory_text": (
        "权重 {weights}，另加每千 token {cache}",
        "weights {weights}, and {cache} for every thousand tokens",
    ),
    "show.window": ("上下文", "context"),
    "show.window_text": ("{window} token (训练长度 {trained})", "{window} tokens (trained on {trained})"),
    "show.vision": ("视觉", "vision"),
    "show.vision_text": (
        "{image}×{image} 像素，{patch} 像素一块，每张图 {tokens} token，一次一张图",
        "{image}×{image} pixels, patches of {patch}, {tokens} tokens a picture, one picture at a time",
    ),
    "show.text_only": ("无 (纯文本模型)", "none (a text-only model)"),
    "show.files": ("文件", "files"),
    "doctor.ok": ("正常", "ok"),
    "doctor.warning": ("注意", "note"),
    "doctor.error": ("错误", "error"),
    "doctor.python": ("Python", "Python"),
    "doctor.torch": ("torch", "torch"),
    "doctor.torch_text": ("{version}，{threads} 线程", "{version}, {threads} threads"),
    "doctor.memory": ("内存", "memory"),
    "doctor.memory_text": ("空闲 {free}，共 {total}", "{free} free of {total}"),
    "doctor.memory_unknown": ("本系统无法读取", "cannot be read on this system"),
    "doctor.device": ("设备 {name}", "device {name}"),
    "doctor.no_gpu": ("未发现 GPU，用 CPU 回答", "no GPU found; the CPU answers"),
    "doctor.int4": ("int4 乘法 {device}", "int4 product {device}"),
    "doctor.model": ("模型", "model"),
    "doctor.state": ("记录目录", "state folder"),
    "doctor.not_writable": ("{folder} 不可写: {reason}", "{folder} cannot be written: {reason}"),
    "doctor.heic": ("HEIC 图片", "HEIC pictures"),
    "doctor.heic_missing": ("需要 pip install pillow-heif", "needs pip install pillow-heif"),
    "doctor.terminal": ("终端", "terminal"),
    "doctor.terminal_text": ("编码 {encoding}，语言 {language}", "encoding {encoding}, language {language}"),
    "doctor.answer": ("试答", "answer"),
    "doctor.answer_text": ("\"{text}\" ({seconds} 秒，{tokens} token)", "\"{text}\" ({seconds} s, {tokens} tokens)"),
    "doctor.network": ("网络连接: {count}", "network connections: {count}"),
}  # fmt: skip
