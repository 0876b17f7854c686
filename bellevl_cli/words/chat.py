"""Messages about the chat and its slash commands."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "chat.welcome": (
        "{name} 已就绪，请提问。/img 图片路径 载入图片，/help 查看命令，Ctrl-D 退出。",
        "{name} is ready. /img PATH shows a picture, /help the commands, Ctrl-D leaves.",
    ),
    "chat.picture": (
        "图片 {name} {width}×{height} → {seen}×{seen}，{tokens} token",
        "picture {name} {width}×{height} → {seen}×{seen}, {tokens} tokens",
    ),
    "chat.new_thread": (
        "(模型一次只看一张图，换图后对话从头开始)",
        "(the model sees one picture at a time: it no longer knows what was said before)",
    ),
    "chat.interrupted": ("(已中断)", "(interrupted)"),
    "chat.length": (
        "(未完: 已到 {tokens} 个 token，启动时可加大 --max-tokens)",
        "(cut after {tokens} tokens; start the chat with a larger --max-tokens for more)",
    ),
    "chat.forgotten": ("(上下文已满，忘记了前面 {count} 轮)", "(window full: {count} earlier turns are forgotten)"),
    "chat.cleared": ("对话已清空{picture}", "the dialogue is forgotten{picture}"),
    "chat.kept_picture": ("，图片保留: {name}", ", the picture stays: {name}"),
    "chat.nothing_to_retry": ("还没有可以重答的问题", "there is no question to answer again yet"),
    "chat.unknown": (
        "没有命令 {name}{near}。/help 列出命令；以 / 开头的问题请写成 //",
        "no command {name}{near}. /help lists them; a question that starts with / is written //",
    ),
    "chat.img_usage": ("用法: {usage}", "usage: {usage}"),
    "chat.press_ctrl_d": ("按 Ctrl-D 退出 (或再按一次 Ctrl-C)", "Ctrl-D leaves (or Ctrl-C once more)"),
    "chat.prompt": ("问> ", "> "),
    "command.img": ("载入或换一张图片，可接着提问", "show a picture, ask about it"),
    "command.clear": ("清空对话，保留图片", "forget the dialogue, keep the picture"),
    "command.retry": ("重新回答上一个问题", "answer the last question again"),
    "command.help": ("列出命令", "list the commands"),
    "command.exit": ("退出", "leave"),
    "usage.img": ("/img 图片路径 [问题]", "/img PATH [question]"),
}  # fmt: skip
