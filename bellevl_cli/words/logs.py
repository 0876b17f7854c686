"""Messages about the log of dialogues and about reports."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "log.lost": (
        "提示: 从这里起不再记录: {reason} (回答不受影响；--no-log 不记录)",
        "note: nothing is logged from here on: {reason} (answers go on; --no-log logs nothing)",
    ),
    "log.picture_gone": (
        "提示: 图片 {name} 已不在原处，用记录里的副本",
        "note: the picture {name} is gone; its copy in the log is used",
    ),
    "log.picture_changed": (
        "提示: 图片 {name} 已被改动，用记录里的副本",
        "note: the picture {name} was changed; its copy in the log is used",
    ),
    "logs.is_on": (
        "记录已打开: {path}  (bellevl logs off 关闭)",
        "the log is on: {path}  (bellevl logs off ends it)",
    ),
    "logs.is_off": (
        "记录已关闭，原有内容保留: {path}  (bellevl logs on 打开)",
        "the log is off, what it has stays: {path}  (bellevl logs on resumes it)",
    ),
    "logs.variable": (
        "但环境变量 BELLEVL_NO_LOG 已设置，不会记录",
        "but the environment variable BELLEVL_NO_LOG is set: nothing is logged",
    ),
    "logs.config": (
        "但配置里写了 log = false，不会记录",
        "but the configuration says log = false: nothing is logged",
    ),
    "logs.none": ("还没有记录", "nothing was logged yet"),
    "logs.none_found": ("没有找到: {words}", "nothing found: {words}"),
    "logs.more": ("(只列出 {n} 个，-n 可多列)", "({n} shown, -n shows more)"),
    "logs.no_picture": ("(无图片)", "(no picture)"),
    "logs.unfinished": ("(没有写完: 程序中途结束)", "(not finished: the program ended before)"),
    "logs.interrupted": ("(已中断)", "(interrupted)"),
    "logs.length": ("(未完: 已到长度上限)", "(cut at the longest answer)"),
    "logs.turns": ("{n} 轮", "turns: {n}"),
    "logs.dialogue": ("对话", "dialogue"),
    "logs.picture": ("图片", "picture"),
    "logs.model": ("模型", "model"),
    "logs.system": ("系统提示词", "system prompt"),
    "logs.begun": ("开始", "begun"),
    "logs.question_mark": ("问", "Q"),
    "logs.answer_mark": ("答", "A"),
    "logs.removed": ("已删除 {n} 个对话", "{n} dialogues removed"),
    "logs.age": (
        "{value} 不是时间长度 (写成 30d、12h、2w 这样: 天、小时、周)",
        "{value} is no length of time (write 30d, 12h or 2w: days, hours, weeks)",
    ),
    "logs.nothing_older": ("没有早于 {age} 的对话", "no dialogue is older than {age}"),
    "logs.prune_ask": ("删除 {n} 个早于 {age} 的对话？ [y/N] ", "remove {n} dialogues older than {age}? [y/N] "),
    "logs.prune_yes": (
        "这里没有人可以确认，删除 {n} 个对话请加 --yes",
        "nobody is here to confirm; --yes removes the {n} dialogues",
    ),
    "logs.kept": ("没有删除", "nothing was removed"),
    "logs.number": ("-n 是 {value}，应不小于 1", "-n is {value}, which is less than 1"),
    "export.title": ("看图对话", "A dialogue about pictures"),
    "export.pixels": ("{width}×{height} 像素", "{width}×{height} pixels"),
    "export.made": ("由 bellevl {version} 生成，模型 {model}", "made by bellevl {version}, model {model}"),
    "help.logs": ("查看、搜索、删除对话记录", "List, search and remove logged dialogues"),
    "help.logs_list": ("列出或搜索对话", "List or search dialogues"),
    "help.logs_show": ("显示一个对话", "Show one dialogue"),
    "help.logs_rm": ("删除对话", "Remove dialogues"),
    "help.logs_prune": ("删除很久没用的对话", "Remove dialogues not used for long"),
    "help.logs_on": ("打开记录", "Log from now on"),
    "help.logs_off": ("关闭记录", "Log nothing from now on"),
    "help.logs_words": ("只列出含有这些词的", "only those with these words"),
    "help.logs_number": ("最多列出几个 [20]", "how many at most [20]"),
    "help.logs_yes": ("不询问", "do not ask"),
    "help.logs_age": ("多久没用: 30d 12h 2w", "not used for: 30d 12h 2w"),
    "help.logs_id": ("编号 (开头几位即可) 或名字", "id (its beginning will do) or name"),
    "help.name_id": ("编号", "ID"),
    "help.name_age": ("时长", "AGE"),
    "help.export": ("把对话写成网页或 Markdown 报告", "Write a dialogue as a web page or in Markdown"),
    "help.export_id": ("编号或名字，不写则最近一个", "id or name; the latest one without it"),
    "help.export_output": (".html 文件或 .md 目录 [bellevl-编号.html]", ".html file or .md folder [bellevl-ID.html]"),
}  # fmt: skip
