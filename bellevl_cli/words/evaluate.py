"""Messages about measuring a model."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "help.evaluate": ("衡量模型", "Measure a model"),
    "help.fidelity": ("量化模型与浮点模型的预测差多少 (KL 散度)", "How far int4 predictions are from float ones (KL)"),
    "help.name_float": ("浮点模型", "FLOAT"),
    "help.name_int4": ("量化模型", "INT4"),
    "help.float": ("浮点模型目录", "folder of the float model"),
    "help.int4": ("由它量化得到的模型目录", "folder of what was quantized from it"),
    "help.fidelity_data": (
        "对话: 图片目录，或 .json (默认: 内置的留出对话)",
        "conversations: pictures, or .json (default: a held-out set)",
    ),
    "help.fidelity_samples": ("最多多少个对话 [32]", "conversations at most [32]"),
    "help.fidelity_seqlen": ("每个对话最多多少个 token [1024]", "longest conversation, in tokens [1024]"),
    "help.fidelity_receipt": ("把结果写入量化记录", "write the figures into the receipt of INT4"),
    "fidelity.progress": ("{done}  比较两个模型", "{done}  comparing the models"),
    "fidelity.head": (
        "类别|位置|平均 KL|99% KL|首选一致|困惑度 浮点|困惑度 量化",
        "kind|positions|mean KL|p99 KL|same top|ppl float|ppl int4",
    ),
    "fidelity.all": ("全部", "all"),
    "fidelity.text": ("文字", "text"),
    "fidelity.picture": ("图片", "picture"),
    "fidelity.answer": ("回答", "answer"),
    "fidelity.no_receipt": ("{folder} 没有量化记录，结果未写入", "{folder} has no receipt to write into"),
}  # fmt: skip
