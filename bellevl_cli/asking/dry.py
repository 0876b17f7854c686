"""`ask --dry-run`: what the model would be given, and what that would take. Loads the tokenizer and no weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bellevl.prompt import DEFAULT_SYSTEM, Conversation, Prompt, Turn, build_prompt, count_parts
from bellevl.tokenizer import Tokenizer, load_tokenizer

from ..pictures.asked import AskedPicture
from ..running import speeds
from ..running.preflight import readable_bytes
from ..running.session import Plan, answer_tokens, available_device
from ..running.starting import settled
from ..screen.clean import clean, clean_line, json_line
from ..screen.render import Renderer
from ..screen.table import table_lines
from ..words import say
from .looking import Opener
from .request import Request
from .wishes import AskOptions

if TYPE_CHECKING:
    from ..log import StoredThread


def show(
    options: AskOptions,
    request: Request,
    openers: list[Opener],
    stored: StoredThread | None,
    chosen: Plan,
    renderer: Renderer,
) -> None:
    """To stdout, a report for each answer that there would be. Raises PromptError where the question does not fit."""
    tokenizer = load_tokenizer(chosen.choice.folder)
    groups = [openers] if request.together or not openers else [[opener] for opener in openers]
    for group in groups:
        pictures = [opener() for opener in group]
        report = _report(tokenizer, options, request, pictures, stored, chosen)
        if options.output.records:
            renderer.line(json_line(report))
        else:
            _print(report, renderer)


def _report(
    tokenizer: Tokenizer,
    options: AskOptions,
    request: Request,
    pictures: list[AskedPicture],
    stored: StoredThread | None,
    chosen: Plan,
) -> dict[str, Any]:
    visual = chosen.config.visual
    settings = settled(options.sampling, chosen)
    queries = 0 if visual is None else visual.n_queries
    conversation = _conversation(request.question, options.model.system, len(pictures), stored)
    window = max(min(chosen.generation.max_window_size, chosen.config.max_position_embeddings - settings.max_tokens), 1)
    prompt = build_prompt(tokenizer, conversation, queries, window)
    device = chosen.device or available_device()
    tokens = answer_tokens(chosen, options.sampling.max_tokens) * max(len(pictures), 1)
    memory = chosen.memory(tokens, device)
    expected = speeds.estimate(chosen.speed_row)
    return {
        "prompt": readable(tokenizer, prompt, queries),
        "tokens": _tokens(tokenizer, conversation, prompt, queries, settings.max_tokens, window),
        "images": [
            {"name": one.name, "size": list(one.picture.size), "seen": [visual.image_size] * 2 if visual else None}
            for one in pictures
        ],
        "memory": {"need_bytes": memory.need, "free_bytes": memory.free, "device": device},
        "seconds": None if expected is None else round(expected.seconds, 1),
        "model": chosen.choice.name,
        "params": {name: value for name, value in vars(settings).items() if name != "seed"},
        "seed": options.sampling.seed,
    }


def _conversation(question: str, system: str | None, pictures: int, stored: StoredThread | None) -> Conversation:
    turns = [turn for turn in (stored.turns if stored else ()) if turn.answer]
    before = [Turn(turn.question, turn.answer, pictures=pictures if at == 0 else 0) for at, turn in enumerate(turns)]
    last = Turn(question, pictures=0 if before else pictures)
    return Conversation((*before, last), DEFAULT_SYSTEM if system is None else system)


def _tokens(
    tokenizer: Tokenizer, conversation: Conversation, prompt: Prompt, queries: int, answer: int, window: int
) -> dict[str, Any]:
    """Tokens by part; "question" counts the last one with the marks around it and without its pictures."""
    parts = count_parts(tokenizer, conversation, queries)
    pictures = prompt.pictures * (queries + 2)
    last = len(conversation.turns) - 1
    before = sum(parts.turns[at] - parts.pictures[at] for at in range(last) if at not in prompt.forgotten)
    return {
        "total": len(prompt.ids),
        "system": parts.system,
        "pictures": pictures,
        "before": before,
        "question": len(prompt.ids) - parts.system - pictures - before,
        "answer_at_most": answer,
        "window": window,
        "forgotten_turns": list(prompt.forgotten),
    }


def readable(tokenizer: Tokenizer, prompt: Prompt, queries: int) -> str:
    """The prompt as text, special tokens by their names, a picture's slot as `<img>[256]</img>`."""
    pieces = []
    for token in prompt.ids:
        if token == tokenizer.image_end_id:
            pieces.append(f"[{queries}]".encode())
        if token != tokenizer.image_pad_id:
            pieces.append(tokenizer.piece(token))
    return b"".join(pieces).decode("utf-8", "replace")


def _print(report: dict[str, Any], renderer: Renderer) -> None:
    renderer.line(say("dry.prompt"))
    renderer.line(clean(report["prompt"]) + "\n")
    for line in table_lines(list(_rows(report))):
        renderer.line(line)


def _rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    memory, seconds = report["memory"], report["seconds"]
    free = say("dry.unknown") if memory["free_bytes"] is None else readable_bytes(memory["free_bytes"])
    need = readable_bytes(memory["need_bytes"])
    yield say("dry.tokens"), say("dry.tokens_text", **report["tokens"])
    for one in report["images"]:
        width, height = one["size"]
        yield (
            say("dry.picture"),
            say("dry.picture_text", name=clean_line(one["name"]), width=width, height=height, seen=one["seen"][0]),
        )
    yield say("dry.memory"), say("dry.memory_text", need=need, free=free, device=memory["device"])
    yield say("dry.time"), say("dry.no_time") if seconds is None else say("dry.seconds", seconds=seconds)
    yield say("dry.sampling"), " ".join(f"{name}={value}" for name, value in report["params"].items())
