"""Every message in Chinese and English, by id. Which language is a person's environment's business.

`TEXTS` are the terminal's own messages; bellevl's errors are English in `bellevl.errors.MESSAGES` and Chinese in
words_errors.py. JSON keys and exit codes are the same in both languages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from bellevl.errors import MESSAGES, BellevlError, one_line

from .clean import typed_text
from .words_errors import ERRORS, REASONS

#: Looked at in this order; the first that says anything decides.
VARIABLES = ("BELLEVL_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")

#: Settings whose option is called otherwise or that a person knows by their option.
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in ("max_tokens", "temperature", "top_p", "seed")}
OPTIONS |= {"group_size": "--group-size", "damp_percent": "--damp", "nsamples": "--samples", "seqlen": "--seqlen"}

#: id -> (Chinese, English)
TEXTS: dict[str, tuple[str, str]] = {
    # errors and ends
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
    # asking
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
    # chat
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
    # quantize
    "quantize.start": (
        "{source} → {target}: {blocks} 层，约 {size}",
        "{source} → {target}: {blocks} blocks, about {size}",
    ),
    "quantize.prepare": ("准备校准数据 …", "preparing the calibration set …"),
    "quantize.copy": ("复制不量化的部分", "copying what stays as it is"),
    "quantize.embed": ("校准数据进入第 1 层", "calibration set to block 1"),
    "quantize.finish": ("完成文件", "finishing the files"),
    "quantize.stage": ("{done}  {stage}  剩余 {left}", "{done}  {stage}  {left} left"),
    "quantize.layer": (
        "{done}  第 {block}/{blocks} 层 {layer}  剩余 {left}",
        "{done}  block {block}/{blocks} {layer}  {left} left",
    ),
    "quantize.block": (
        "{done}  第 {block}/{blocks} 层完成  最大相对误差 {loss}  剩余 {left}",
        "{done}  block {block}/{blocks} done  greatest relative error {loss}  {left} left",
    ),
    "quantize.done": ("完成: {target}，{size}，用时 {time}", "done: {target}, {size}, {time}"),
    "quantize.resume": (
        "已中断: 完成的层都已保存，重新运行同一条命令即可继续",
        "interrupted: the finished blocks are kept, the same command goes on from there",
    ),
    # show and doctor
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
    # help
    "help.program": ("离线看图问答: BELLE-VL-14B, GPTQ int4", "Talk about pictures, offline: BELLE-VL-14B, GPTQ int4"),
    "help.exit_codes": (
        "\b\n退出码: 0 已回答，1 其他，2 用法，3 图片，4 模型，5 内存\n        130 Ctrl-C，141 管道断开，143 TERM",
        "\b\nExit codes: 0 answered, 1 other, 2 usage, 3 picture, 4 model, 5 memory\n"
        "            130 Ctrl-C, 141 broken pipe, 143 TERM",
    ),
    "help.ask": ("就一张图片提一个问题", "Ask one question about one picture"),
    "help.chat": ("对话，可随时换图片", "A dialogue about pictures"),
    "help.quantize": ("把浮点模型量化为 GPTQ int4", "Make GPTQ int4 weights of a float model"),
    "help.show": ("显示模型信息，不载入权重", "What a model is, without loading it"),
    "help.doctor": ("检查本机环境并试答一次", "What this machine can run, and how"),
    "help.name_picture": ("图片", "PICTURE"),
    "help.name_question": ("问题", "QUESTION"),
    "help.name_source": ("来源", "SRC"),
    "help.name_target": ("目标", "DST"),
    "help.picture": ("图片文件，- 表示标准输入", "picture file, - is stdin"),
    "help.chat_picture": ("开始时载入的图片", "picture to begin with"),
    "help.question": ("要问的话，不写就描述图片", "question; describes the picture without one"),
    "help.model": ("模型目录 (BELLEVL_MODEL)，不写用内置模型", "model folder (BELLEVL_MODEL); else the embedded one"),
    "help.device": ("cpu, cuda, cuda:1, mps (BELLEVL_DEVICE)", "cpu, cuda, cuda:1, mps (BELLEVL_DEVICE)"),
    "help.max_tokens": ("回答最多多少个 token", "longest answer, in tokens"),
    "help.greedy": ("每步取最可能的词，答案固定", "always take the likeliest token"),
    "help.seed": ("随机种子，相同则答案相同", "seed of the random draw: the same answer again"),
    "help.temperature": ("温度，越高越随机，0 同 --greedy", "temperature; 0 is --greedy"),
    "help.top_p": ("核采样概率，0 到 1", "nucleus sampling, 0 to 1"),
    "help.system": ("系统提示词", "system prompt"),
    "help.json": ("输出一个 JSON 对象", "print one JSON object"),
    "help.debug": ("出错时显示完整信息", "show the traceback of an error"),
    "help.version": ("显示版本", "show the version"),
    "help.source": ("浮点模型目录", "folder of the float model"),
    "help.target": ("新目录", "new folder"),
    "help.group_size": ("分组大小: 32 64 128，-1 不分组 [128]", "inputs in a group: 32 64 128, -1 for all [128]"),
    "help.asym": ("非对称量化 (默认对称)", "asymmetric (symmetric is the default)"),
    "help.act_order": ("按激活大小排序，静态分组", "act order with static groups"),
    "help.damp": ("Hessian 阻尼，0 到 1 [0.01]", "damping of the Hessian, 0 to 1 [0.01]"),
    "help.seqlen": ("每个样本最多多少个 token [2048]", "longest sample, in tokens [2048]"),
    "help.samples": ("校准样本数 [128]", "calibration samples [128]"),
    "help.sample_seed": ("抽取校准样本的随机种子 [0]", "seed of the draw of samples [0]"),
    "help.calibration": ("校准数据: 图片目录，或 .json 对话", "folder of pictures, or dialogues in .json"),
    "help.net": ("报告试答时的网络连接数", "count network connections while answering"),
    "help.help": ("显示帮助", "Show this message and exit."),
    "help.required": ("(必填)", "(required)"),
    "help.slot_options": ("[选项]", "[OPTIONS]"),
    "help.slot_command": ("命令 [参数]...", "COMMAND [ARGS]..."),
    "help.arguments": ("参数", "Arguments"),
    "help.options": ("选项", "Options"),
    "help.commands": ("命令", "Commands"),
    "help.usage": ("用法", "Usage"),
}  # fmt: skip


def language(environ: Mapping[str, str] = os.environ) -> str:
    """ "zh" or "en": the first of `VARIABLES` that is set says which; anything but Chinese is English."""
    for name in VARIABLES:
        value = environ.get(name, "").strip().lower()
        if value:
            return "zh" if value.startswith(("zh", "chinese")) else "en"
    return "en"


def say(message: str, **facts: object) -> str:
    """The text of `message` in the person's language."""
    chinese, english = TEXTS[message]
    return (chinese if language() == "zh" else english).format(**facts)


def error_line(error: BellevlError) -> str:
    """Cause and cure in one line."""
    return say("error", cause=cause(error), hint=hint(error))


def cause(error: BellevlError) -> str:
    """What happened."""
    return one_line(_templates(error)[0].format(**_facts(error)))


def hint(error: BellevlError) -> str:
    """What to try."""
    return one_line(_templates(error)[1].format(**_facts(error)))


def _templates(error: BellevlError) -> tuple[str, str]:
    return (ERRORS if language() == "zh" else MESSAGES)[error.message]


def _facts(error: BellevlError) -> dict[str, str]:
    """The error's facts as they can be shown: names readable, settings as the option that was typed, phrases in Chinese
    where the table has them."""
    facts = {name: typed_text(str(fact)) for name, fact in error.facts.items()}
    if error.message in ("prompt.setting", "quantize.option"):
        facts["name"] = OPTIONS.get(facts["name"], facts["name"])
    if "reason" in facts:
        facts["reason"] = reason(facts["reason"])
    return facts


def reason(text: str) -> str:
    """A phrase of bellevl or of the system in the person's language, where the table has it."""
    text = re.sub(r"^\[Errno \d+\] ([^:]+)(: .*)?$", r"\1", text)
    if language() != "zh":
        return text
    for pattern, chinese in REASONS:
        found = re.fullmatch(pattern, text)
        if found:
            return found.expand(chinese)
    if found := re.fullmatch(r"conversation (\d+): (.+)", text):
        return f"第 {found[1]} 个对话: {reason(found[2])}"
    first, mark, rest = text.partition("; ")
    return f"{reason(first)}；{reason(rest)}" if mark else text
