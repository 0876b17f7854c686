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
        "提示: 这是内置的小型演示模型，不是 BELLE-VL-14B。下载它: bellevl pull",
        "note: this is the small embedded demonstration model, not BELLE-VL-14B. To get that: bellevl pull",
    ),
    "ask.extra": (
        "多了参数 {name} (问题里有空格时，整句加引号)",
        "{name} is one word too many (put quotes around a question)",
    ),
    "ask.stdin_twice": (
        "标准输入只能读一次: 图片和问题不能都写 -",
        "stdin can be read once only: the picture and the question cannot both be -",
    ),
    "ask.stdin_empty": ("标准输入里没有问题", "there is no question on stdin"),
    "ask.thread_picture": (
        "继续以前的对话时 (-c, --id)，图片就是那次的图片，不能再写",
        "a dialogue that goes on (-c, --id) has its picture; no other can be given",
    ),
    "ask.no_place": (
        "不能写到 {path}: 没有这个目录，或它本身是目录",
        "{path} cannot be written: no such folder, or it is one",
    ),
    "ask.written": ("已写入 {path}", "written to {path}"),
    "ask.header": ("== {name} ==", "== {name} =="),
    "ask.together": (
        "提示: 该模型只按单图训练，几张图一起问，结果不可靠",
        "note: this model was trained on one picture at a time; an answer about several at once is not reliable",
    ),
    "ask.length": (
        "(未完: 已到 {tokens} 个 token，可加大 --max-tokens)",
        "(cut after {tokens} tokens; a larger --max-tokens lets it go on)",
    ),
    "expect.unmet": ("回答不是 {expected}", "the answer is not {expected}"),
    "expect.wrong": (
        "--expect {expected} 不是正则表达式: {reason}",
        "--expect {expected} is no expression: {reason}",
    ),
    "extract.unmet": ("回答里找不到 {what}，原文是:", "there is no {what} in the answer, which is:"),
    "extract.unknown": ("--extract 不能是 {name}，可用: {kinds}", "--extract cannot be {name}; it may be: {kinds}"),
    "schema.unmet": (
        "回答到 {tokens} 个 token 还没写完，不合 schema (可加大 --max-tokens)，原文是:",
        "the answer was cut after {tokens} tokens and does not meet the schema (try a larger --max-tokens); it is:",
    ),
    "schema.name": ("schema 里的 {item} 没有名字或重名", "{item} in the schema has no name, or a name twice"),
    "schema.type": (
        "schema 里的 {item}: 不认识类型 {kind} (可用 str int float bool，a|b|c，以及 str[] 等)",
        "{item} in the schema: {kind} is no type (use str int float bool, a|b|c, str[] and the like)",
    ),
    "schema.empty": ("schema 是空的", "the schema is empty"),
    "schema.instruction": ("只用 JSON 回答，格式: {form}", "Answer with JSON only, in this form: {form}"),
    "schema.string": ("文字", "text"),
    "schema.integer": ("整数", "whole number"),
    "schema.number": ("数", "number"),
    "sure.stage": ("第 {number}/{times} 次回答 …", "answer {number} of {times} …"),
    "sure.agreement": ("一致度 {agree}/{answers}", "agreement {agree}/{answers}"),
    "sure.doubt": ("  仅 {count}/{answers} 次说: {text}", "  in {count} of {answers} only: {text}"),
    "sure.range": ("--sure 应在 {least} 到 {most} 之间", "--sure must be between {least} and {most}"),
    "sure.greedy": (
        "--sure 要比较不同的回答: 去掉 --greedy，或让 --temperature 大于 0",
        "--sure compares answers that are drawn: leave out --greedy, or let --temperature be above 0",
    ),
    "template.describe": (
        "请详细描述这张图片: 主体、颜色、位置、数量、文字和背景。",
        "Describe this picture in detail: its subject, colours, places, numbers, any text, and the background.",
    ),
    "template.ocr": (
        "请逐字写出图片中的全部文字，按阅读顺序，保留换行，不要解释。",
        "Write out all text in the picture word for word, in reading order, with its line breaks and no comment.",
    ),
    "template.table": (
        "请把图片中的表格写成 Markdown 表格，看不清的格子写 ?。",
        "Write the table in the picture as a Markdown table, with ? for what cannot be read.",
    ),
    "template.product": (
        "这是一张商品图片。请写出商品名称、品牌、颜色、材质、规格和卖点，看不出的写“未知”。",
        "This is a picture of a product. Give its name, brand, colour, material, size and selling points; "
        "write unknown for what cannot be seen.",
    ),
    "template.alt": (
        "请为视障读者写一段替代文字，不超过两句，只写看得见的内容，不要以“图片”开头。",
        "Write alternative text for blind readers: at most two sentences, only what can be seen, "
        "not beginning with the word picture.",
    ),
    "template.translate": (
        "请把图片中的文字翻译成{to}，只写译文。",
        "Translate the text in the picture into {to}; write the translation only.",
    ),
    "template.translate_to": ("中文", "English"),
    "template.differences": (
        "请逐条列出这几张图片的不同之处。",
        "List the differences between these pictures, one by one.",
    ),
    "template.none_for_params": ("-p 要与模板 -t 一起用", "-p goes with a template (-t)"),
    "template.missing": ("模板 {name} 还需要 -p {gap}=…", "the template {name} needs -p {gap}=…"),
    "template.no_value": ("-p {given} 应写成 名字=内容", "-p {given} should be name=text"),
    "template.no_gap": ("模板 {name} 没有 {gap}，只有: {known}", "the template {name} has no {gap}, only: {known}"),
    "template.unknown": (
        "没有模板 {name}{near}，现有: {names}",
        "there is no template {name}{near}; there are: {names}",
    ),
    "template.no_file": ("找不到模板文件 {path}", "there is no template file {path}"),
    "template.wrong": (
        "模板 {path} 里的 {key} 不对 (可用 question system schema together 和表 params)",
        "{key} in the template {path} is wrong (use question system schema together and the table params)",
    ),
    "dry.prompt": ("提示词:", "prompt:"),
    "dry.tokens": ("token", "tokens"),
    "dry.tokens_text": (
        "共 {total} (系统 {system}，图片 {pictures}，以前的对话 {before}，问题 {question})，"
        "回答最多 {answer_at_most}，窗口 {window}",
        "{total} in all (system {system}, pictures {pictures}, dialogue before {before}, question {question}), "
        "answer at most {answer_at_most}, window {window}",
    ),
    "dry.picture": ("图片", "picture"),
    "dry.picture_text": ("{name} {width}×{height} → {seen}×{seen}", "{name} {width}×{height} → {seen}×{seen}"),
    "dry.memory": ("内存", "memory"),
    "dry.memory_text": ("需要 {need}，空闲 {free} ({device})", "needs {need}, {free} free ({device})"),
    "dry.unknown": ("未知", "unknown"),
    "dry.time": ("时间", "time"),
    "dry.seconds": ("约 {seconds} 秒 (含载入模型)", "about {seconds} s, loading included"),
    "dry.no_time": ("未知 (回答过几次之后才知道)", "unknown (known after a few answers)"),
    "dry.sampling": ("抽样", "sampling"),
    "stage.model": ("载入模型 {name} …", "loading the model {name} …"),
    "stage.answer": ("看图，思考 …", "looking, thinking …"),
    "stage.think": ("思考 …", "thinking …"),
    "memory.said": ("{name} 约需内存 {need}，现有空闲 {free}", "{name} needs about {need}, {free} is free"),
}  # fmt: skip
