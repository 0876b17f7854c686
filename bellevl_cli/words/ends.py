"""Messages about errors and ends."""

from __future__ import annotations

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    "error": ("错误: {cause}  试试: {hint}", "error: {cause}. Try: {hint}"),
    "usage": ("错误: {cause}  试试: {command} --help", "error: {cause}. Try: {command} --help"),
    "usage.missing": ("缺少参数 {name}", "{name} is missing"),
    "usage.no_option": ("没有选项 {name}{near}", "there is no option {name}{near}"),
    "usage.no_value": ("{name} 后面没有写值", "{name} needs a value"),
    "usage.a_value": ("{name} 后面不能写值", "{name} takes no value"),
    "usage.value": ("{name} 不能是 {value}，{reason}", "{name} cannot be {value}, {reason}"),
    "usage.extra": (
        "多了参数 {names} (问题和文件名里有空格时要加引号)",
        "there is too much: {names} (a question or name with spaces goes in quotes)",
    ),
    "usage.dash": (
        " (文件名以 - 开头时写成 ./{name})",
        " (a file whose name begins with - is written ./{name})",
    ),
    "usage.no_subcommand": ("缺少命令，可以是: {names}", "a command is missing; it is one of: {names}"),
    "usage.no_command": ("没有命令 {name}{near}", "there is no command {name}{near}"),
    "usage.near": (" (是不是 {name}?)", " (did you mean {name}?)"),
    "unexpected": (
        "错误: 程序出错 ({kind}: {reason})  试试: 加 --debug 再运行一次，查看完整信息",
        "error: something went wrong in this program ({kind}: {reason}). Try: the same with --debug",
    ),
    "system": (
        "错误: 读写失败: {reason}{name}  试试: 检查磁盘空间和权限",
        "error: reading or writing failed: {reason}{name}. Try: check the disk's space and the permissions",
    ),
    "memory.during": (
        "错误: 内存用尽，没有完成  试试: 关闭其他程序；回答时也可减小 --max-tokens",
        "error: memory ran out. Try: close other programs; for an answer also a smaller --max-tokens",
    ),
    "network.refused": (
        "错误: 已阻止网络访问: {target} (来自 {module})  试试: 本程序从不联网，加 --debug 可看到是谁要联网",
        "error: network access refused: {target} (from {module}). Try: --debug shows who asked; nothing here needs it",
    ),
    "interrupted": ("已中断", "interrupted"),
}  # fmt: skip
