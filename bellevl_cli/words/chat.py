"""Messages of the chat. What its slash commands are called and do stands in slash.py."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "chat.welcome": (
        "{name} 已就绪，请提问。/img 图片路径 载入图片，/help 查看命令，Ctrl-D 退出。",
        "{name} is ready. /img PATH shows a picture, /help the commands, Ctrl-D leaves.",
    ),
    "help.chat_continue": ("接着最近的对话", "go on with the latest dialogue"),
    "help.chat_id": ("接着这个对话: 编号或名字", "go on with this dialogue: id or name"),
    "help.chat_no_log": ("不记录这次对话", "log nothing of this chat"),
    "chat.picture_and_thread": (
        "图片和 -c、--id 不能一起写: 旧对话有自己的图片",
        "a picture and -c or --id exclude each other: a kept dialogue has its own picture",
    ),
    "chat.prompt": ("问> ", "> "),
    "chat.press_ctrl_d": ("按 Ctrl-D 退出 (或再按一次 Ctrl-C)", "Ctrl-D leaves (or Ctrl-C once more)"),
    # pictures and their threads
    "chat.picture": (
        "图片 [{number}] {name} {width}×{height} → {seen}×{seen}，{tokens} token",
        "picture [{number}] {name} {width}×{height} → {seen}×{seen}, {tokens} tokens",
    ),
    "chat.without_picture": ("没有图片的对话", "a dialogue without a picture"),
    "chat.new_thread": (
        "(模型一次只看一张图，换图后对话从头开始；/img {number} 回到上一个对话)",
        "(the model sees one picture at a time: the dialogue begins anew; /img {number} goes back to the last one)",
    ),
    "chat.long_picture": (
        "(图片很长，会被压成正方形，小字读不清: /tiles 问题 分块来看)",
        "(a long picture is squeezed into a square, small writing in it is lost: /tiles QUESTION looks piece by piece)",
    ),
    "chat.piece": (
        "(只看这一块，对话从头开始；/crop off 或 /img {number} 回到整图)",
        "(this piece alone, in a dialogue of its own; /crop off or /img {number} goes back to the whole)",
    ),
    "chat.is_whole": ("已经是整张图", "this is the whole picture already"),
    "chat.tile": ("第 {number}/{count} 块", "piece {number} of {count}"),
    "chat.not_long": ("(图片不长，不用分块)", "(the picture is not long: no pieces are needed)"),
    "chat.saved": ("已保存 {path} ({count} 个框)", "saved {path} (boxes: {count})"),
    "chat.boxes_not_kept": ("(画框的图没有保存: {reason})", "(the picture with boxes was not kept: {reason})"),
    "chat.cannot_show": ("这个终端不能显示图片", "this terminal cannot show pictures"),
    "chat.thread": ("{number}{star} {name} ({count} 轮)", "{number}{star} {name} (turns: {count})"),
    "chat.no_picture": ("(无图片)", "(no picture)"),
    "chat.no_pictures": ("还没有图片: /img 图片路径", "no pictures yet: /img PATH"),
    "chat.back": ("回到这个对话，已有 {count} 轮", "back in this dialogue (turns: {count})"),
    # ends of an answer
    "chat.interrupted": ("(已中断)", "(interrupted)"),
    "chat.length": ("(未完，/continue 继续)", "(cut here, /continue goes on)"),
    "chat.cut": ("(未完: 已到长度上限)", "(cut at the longest answer)"),
    "chat.forgotten": ("(上下文已满，忘记第 {turns} 轮)", "(window full: turns {turns} are forgotten)"),
    # questions and answers again
    "chat.nothing_asked": ("还没有问过问题", "nothing was asked yet"),
    "chat.nothing_answered": ("还没有回答", "there is no answer yet"),
    "chat.deterministic": (
        "(回答是确定的，换种子也一样；/set greedy off 可得到不同回答)",
        "(nothing is drawn, so the answer stays the same; /set greedy off allows others)",
    ),
    "chat.complete": ("上一个回答已经完整", "the last answer is complete"),
    "chat.previous": (
        "(第 {number}/{count} 个回答，对话接着它)",
        "(answer {number} of {count}; the dialogue goes on from it)",
    ),
    "chat.no_previous": (
        "只有一个回答，/retry 重新回答后才有上一个",
        "there is only one answer; /retry makes another",
    ),
    "chat.undone": ("已撤销: {question}", "taken back: {question}"),
    "chat.copied": ("已复制 {count} 字 ({program})", "{count} characters copied ({program})"),
    "chat.copy_failed": (
        "不能复制: 没有 wl-copy、xclip、pbcopy 或 clip.exe，终端也不支持",
        "cannot copy: no wl-copy, xclip, pbcopy or clip.exe here, and the terminal cannot take it",
    ),
    # the dialogue
    "chat.cleared": ("对话已清空{picture}", "the dialogue is forgotten{picture}"),
    "chat.kept_picture": ("，图片保留: {name}", ", the picture stays: {name}"),
    "chat.reset": ("对话、图片和设置都已清空", "dialogues, pictures and settings are as at the beginning"),
    "chat.exported": ("报告: {path}", "report: {path}"),
    "chat.not_logged": ("没有记录，不能命名 (记录已关闭)", "nothing is logged here, so nothing can be named"),
    "chat.named": ("已命名: {name}，/load {name} 打开", "named {name}: /load {name} takes it up again"),
    "chat.turns": ("{count} 轮", "turns: {count}"),
    "chat.no_sessions": ("还没有记录", "nothing was logged yet"),
    "chat.resumed": ("接着对话 {name}，已有 {count} 轮", "going on with {name} (turns: {count})"),
    "chat.last_question": ("上一个问题: {question}", "the last question: {question}"),
    "tokens.head": ("上下文 {used}/{window} token，还能放 {left}", "context {used}/{window} tokens, room for {left}"),
    "tokens.system": ("系统提示词", "system prompt"),
    "tokens.picture": ("图片", "picture"),
    "tokens.turn": ("第 {number} 轮", "turn {number}"),
    "tokens.forgotten": ("(已忘记)", "(forgotten)"),
    "tokens.next": ("放满以后先忘记第 {number} 轮", "once full, turn {number} is forgotten first"),
    "tokens.nothing_to_go": ("没有可以忘记的", "nothing would be forgotten"),
    # settings
    "set.value": ("{name} = {value}", "{name} = {value}"),
    "set.wrong": (
        "{name} 不能是 {value}: {reason}；没有改动",
        "{name} cannot be {value}: {reason}; nothing is changed",
    ),
    "set.unknown": ("没有设置 {name}，可以是: {names}", "there is no setting {name}; it is one of: {names}"),
    "set.greedy": (
        "(greedy 是 on，{name} 不起作用；/set greedy off)",
        "(greedy is on, so {name} does nothing; /set greedy off)",
    ),
    "set.all_back": ("设置都已恢复", "all settings are as at the beginning"),
    "set.random": ("随机", "random"),
    "source.default": ("模型默认", "the model's default"),
    "source.config": ("配置文件", "configuration"),
    "source.environment": ("环境变量", "environment"),
    "source.option": ("命令行", "command line"),
    "source.session": ("本次设置", "this session"),
    "stats.on": ("回答后显示用时", "timings are shown after each answer"),
    "stats.off": ("不再显示用时", "timings are no longer shown"),
    "info.model": ("模型", "model"),
    "info.folder": ("位置", "folder"),
    "info.weights": ("权重", "weights"),
    "info.device": ("设备", "device"),
    "info.kernel": ("int4 内核", "int4 kernel"),
    "info.memory": ("内存", "memory"),
    "info.memory_text": ("已用 {used}，共 {total}", "{used} of {total} used"),
    "info.window": ("上下文", "context"),
    "info.window_text": ("{used}/{window} token", "{used}/{window} tokens"),
    "info.picture": ("图片", "picture"),
    "info.file": ("文件", "file"),
    "info.model_sees": ("模型看到", "the model sees"),
    "info.seen": ("{size}×{size}，{tokens} token", "{size}×{size}, {tokens} tokens"),
    # commands
    "chat.unknown": (
        "没有命令 {name}{near}。/help 列出命令；以 / 开头的问题请写成 //",
        "no command {name}{near}. /help lists them; a question that starts with / is written //",
    ),
    "chat.usage": ("用法: {usage}", "usage: {usage}"),
    "chat.aliases": ("也可以写: {aliases}", "also written: {aliases}"),
    "chat.help_end": (
        "/help img 看例子；中文也行: /图 /清空 /重答 /继续 /帮助 /退出；// 提问以 / 开头",
        "/help img shows examples; // asks what begins with /; Alt-Enter adds a line",
    ),
    # the line below the prompt
    "bar.no_picture": ("无图片", "no picture"),
    "bar.context": ("上下文 {used}/{window}", "context {used}/{window}"),
    "bar.gpu": ("GPU {used}/{total} GB", "GPU {used}/{total} GB"),
    "bar.speed": ("{speed} 字/秒", "{speed} characters/s"),
}  # fmt: skip
