"""Slash commands about settings and facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..running.preflight import free_memory, readable_bytes, total_memory
from ..screen.clean import clean_line, typed_text
from ..screen.table import table_lines
from ..settings import config_value, sourced
from ..words import reason, say
from .bar import gpu_memory
from .parameters import NO, PARAMETERS, YES, WrongValueError, find_parameter
from .registry import COMMANDS, command

if TYPE_CHECKING:
    from .parameters import Parameter
    from .repl import ChatLoop

#: Characters of the system prompt that /set shows.
LONGEST_SYSTEM = 40

#: What takes a value back, and all of them.
BACK = frozenset({"default", "默认"})
ALL_BACK = frozenset({"reset", "重置"})
SYSTEM = frozenset({"system", "系统提示词", "系统"})
BOXES = frozenset({"draw_boxes", "draw-boxes", "boxes", "画框"})


@command("set", "设置", group="settings", takes="parameter")
def _set(loop: ChatLoop, argument: str) -> None:
    name, _, value = argument.replace("=", " ", 1).partition(" ")
    value, parameter = value.strip(), find_parameter(name)
    if not name:
        loop.tell("\n".join(_rows(loop)))
    elif name.lower() in ALL_BACK:
        loop.reset_settings()
        loop.say("set.all_back")
    elif name.lower() in SYSTEM:
        _set_system(loop, value)
    elif name.lower() in BOXES:
        _set_boxes(loop, value.lower())
    elif parameter is None:
        names = " ".join([*(p.name for p in PARAMETERS), "draw_boxes", "system"])
        loop.say("set.unknown", name=clean_line(name)[:40], names=names)
    elif not value:
        loop.say("set.value", name=parameter.name, value=_shown(getattr(loop.parameters.settled(), parameter.name)))
    else:
        _set_parameter(loop, parameter, value)


def _set_parameter(loop: ChatLoop, parameter: Parameter, text: str) -> None:
    if text.lower() in BACK:
        loop.parameters.reset(parameter)
    else:
        try:
            loop.parameters.set(parameter, text)
        except WrongValueError as error:
            loop.say("set.wrong", name=parameter.name, value=clean_line(text)[:40], reason=error.reason)
            return
    settled = loop.parameters.settled()
    loop.say("set.value", name=parameter.name, value=_shown(getattr(settled, parameter.name)))
    if settled.greedy and parameter.name in ("temperature", "top_p", "top_k", "seed"):
        loop.say("set.greedy", name=parameter.name)


def _set_system(loop: ChatLoop, text: str) -> None:
    if text:
        loop.chat.system = loop.first_system if text.lower() in BACK else text
    loop.say("set.value", name="system", value=clean_line(loop.chat.system))


def _set_boxes(loop: ChatLoop, word: str) -> None:
    """Whether an answer's boxes are drawn without /show."""
    if word in BACK:
        loop.draw_boxes = bool(config_value("draw_boxes"))
    elif word in YES | NO:
        loop.draw_boxes = word in YES
    elif word:
        loop.say("set.wrong", name="draw_boxes", value=clean_line(word)[:40], reason=reason("not true or false"))
        return
    loop.say("set.value", name="draw_boxes", value=_shown(loop.draw_boxes))


def _rows(loop: ChatLoop) -> list[str]:
    """Every setting, its value and who gave it."""
    rows = [(f"  {name}", _shown(value), say(f"source.{source}")) for name, value, source in loop.parameters.rows()]
    rows.append(("  draw_boxes", _shown(loop.draw_boxes), _boxes_source(loop)))
    changed = loop.chat.system != loop.first_system
    system = clean_line(loop.chat.system)
    system = system if len(system) <= LONGEST_SYSTEM else system[: LONGEST_SYSTEM - 1] + "…"
    rows.append(("  system", system, say("source.session") if changed else ""))
    return [line.rstrip() for line in table_lines(rows)]


def _boxes_source(loop: ChatLoop) -> str:
    configured, source = sourced("draw_boxes")
    if loop.draw_boxes != configured:
        return say("source.session")
    return say("config.from_default" if source == "default" else f"source.{source}")


def _shown(value: object) -> str:
    if value is None:
        return say("set.random")
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


@command("stats", "统计", group="settings", takes="switch")
def _stats(loop: ChatLoop, argument: str) -> None:
    word = argument.lower()
    if word in YES | NO:
        loop.answers.show_stats = word in YES
        loop.say("stats.on" if word in YES else "stats.off")
    elif word:
        loop.say("chat.usage", usage=COMMANDS["stats"].usage)
    elif (line := loop.answers.stats_line()) is None:
        loop.say("chat.nothing_answered")
    else:
        loop.tell(line)


@command("info", "信息", group="settings")
def _info(loop: ChatLoop, argument: str) -> None:
    """The model, where and how it runs, and the picture."""
    loop.tell("\n".join(table_lines([*_model_rows(loop), *_picture_rows(loop)])))


def _model_rows(loop: ChatLoop) -> list[tuple[str, str]]:
    from ..running.int4_kernel import int4_kernel

    plan = loop.session.plan
    kernel = int4_kernel(loop.chat.model)
    memory = _memory(loop.session.device)
    rows = [
        (say("info.model"), clean_line(plan.choice.name)),
        (say("info.folder"), clean_line(typed_text(str(plan.choice.folder)))),
        (say("info.weights"), plan.quantization_name or str(loop.chat.model.dtype).removeprefix("torch.")),
        (say("info.device"), loop.session.device),
    ]
    if kernel is not None:
        rows.append((say("info.kernel"), kernel.text))
    if memory is not None:
        used, total = map(readable_bytes, memory)
        rows.append((say("info.memory"), say("info.memory_text", used=used, total=total)))
    return [*rows, (say("info.window"), say("info.window_text", used=loop.used_tokens(), window=loop.window()))]


def _memory(device: str) -> tuple[int, int] | None:
    """(used, total) bytes of a GPU, else of this machine."""
    if (memory := gpu_memory(device)) is not None:
        return memory
    free, total = free_memory(), total_memory()
    return None if free is None or total is None else (total - free, total)


def _picture_rows(loop: ChatLoop) -> list[tuple[str, str]]:
    from ..pictures.told import facts

    thread, visual = loop.threads.current, loop.session.plan.config.visual
    if visual is None or thread.picture is None:
        return [(say("info.picture"), say("show.text_only") if visual is None else say("chat.no_picture"))]
    path = thread.picture.picture.path
    seen = say("info.seen", size=visual.image_size, tokens=visual.n_queries)
    rows = [(say("info.picture"), f"{thread.title}  {facts(thread.picture.picture)}"), (say("info.model_sees"), seen)]
    if path is not None:
        rows.append((say("info.file"), clean_line(typed_text(str(path.absolute())))))
    return rows
