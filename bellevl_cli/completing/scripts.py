"""The completion script of each shell, written from the tree. File names are completed by the shell itself, with its
own rules for quotes, spaces and `~`; no Python starts while a person types, but for the names of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..pictures.asked import PICTURE_ENDINGS
from .tree import Node, Option, Value, nodes

#: Picture files as a shell's pattern for lower and upper case: "[jJ][pP][gG]".
_ENDINGS = sorted(PICTURE_ENDINGS | {".heic", ".heif"})


def script(shell: str) -> str:
    """The script for "bash", "zsh" or "fish"."""
    return WRITERS[shell](nodes())


def loader(shell: str) -> str:
    """What a shell's settings need: it asks for the script when completion is first wanted, so it is never stale."""
    return LOADERS[shell]


def quoted(text: str) -> str:
    """A word that a POSIX shell takes as it is."""
    return "'" + text.replace("'", "'\\''") + "'"


# ---- bash

_BASH = """# bellevl completion for bash
_bellevl_names() {{ compopt -o filenames 2>/dev/null; local IFS=$'\\n' name
  cur=${{cur#[\\'\\"]}}; cur=${{cur//\\\\/}}
  COMPREPLY=( $(compgen -d -- "$cur") )
  [ "$1" = folders ] && return
  for name in $(compgen -f -- "$cur"); do
    [ -d "$name" ] && continue
    [ "$1" = files ] && {{ COMPREPLY+=("$name"); continue; }}
    case $name in {patterns}) COMPREPLY+=("$name");; esac
  done
}}
_bellevl_fill() {{
  case $1 in
    words:*) COMPREPLY=( $(compgen -W "${{1#words:}}" -- "$cur") );;
    models) _bellevl_names folders
      local IFS=$'\\n'; COMPREPLY+=( $(compgen -W "$(bellevl models --names 2>/dev/null)" -- "$cur") );;
    pictures|files|folders) _bellevl_names "$1";;
  esac
}}
_bellevl() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} path='' word value='' i options='' commands='' argument=nothing
  COMPREPLY=()
  for (( i = 1; i < COMP_CWORD; i++ )); do
    word=${{COMP_WORDS[i]}}
    if [ -n "$value" ]; then value=''; continue; fi
    case "$path:$word" in
{values}
{commands}
    esac
  done
  if [ -n "$value" ]; then _bellevl_fill "$value"; return; fi
  case "$path" in
{places}
  esac
  case $cur in
    -*) COMPREPLY=( $(compgen -W "$options" -- "$cur") );;
    *) if [ -z "$commands" ]; then _bellevl_fill "$argument"; return; fi
      COMPREPLY=( $(compgen -W "$commands" -- "$cur") );;
  esac
}}
complete -F _bellevl bellevl
"""


def bash(tree: list[Node]) -> str:
    values, commands, places = [], [], []
    for node in tree:
        path = " ".join(node.path)
        for option in node.options:
            if option.value is not None:
                keys = "|".join(quoted(f"{path}:{name}") for name in option.names)
                values.append(f"      {keys}) value={quoted(_kind(option.value))};;")
        commands += [f"      {quoted(f'{path}:{name}')}) path={quoted(' '.join((*node.path, name)))};;"
                     for name, _ in node.commands]  # fmt: skip
        options = " ".join(name for option in node.options for name in option.names)
        inside = " ".join(name for name, _ in node.commands)
        places.append(
            f"    {quoted(path)}) options={quoted(options)}; commands={quoted(inside)}; "
            f"argument={quoted(_kind(node.argument))};;"
        )
    patterns = "|".join("*" + _any_case(ending) for ending in _ENDINGS)
    return _BASH.format(patterns=patterns, values=_lines(values), commands=_lines(commands), places=_lines(places))


# ---- zsh

_ZSH = """#compdef bellevl
# bellevl completion for zsh
_bellevl_fill() {{
  case $1 in
    words:*) compadd -- ${{=1#words:}};;
    models) compadd -- ${{(f)"$(bellevl models --names 2>/dev/null)"}}; _files -/;;
    pictures) _files -g '*.({endings})(-.)';;
    files) _files;;
    folders) _files -/;;
  esac
}}
_bellevl() {{
  local path_='' word value='' argument=nothing i
  local -a options commands
  for (( i = 2; i < CURRENT; i++ )); do
    word=${{words[i]}}
    if [[ -n $value ]]; then value=''; continue; fi
    case "$path_:$word" in
{values}
{commands}
    esac
  done
  if [[ -n $value ]]; then _bellevl_fill "$value"; return; fi
  case $path_ in
{places}
  esac
  if [[ $PREFIX == -* ]]; then _describe -o option options
  elif (( $#commands )); then _describe command commands
  else _bellevl_fill "$argument"; fi
}}
compdef _bellevl bellevl
"""


def zsh(tree: list[Node]) -> str:
    values, commands, places = [], [], []
    for node in tree:
        path = " ".join(node.path)
        for option in node.options:
            if option.value is not None:
                keys = "|".join(quoted(f"{path}:{name}") for name in option.names)
                values.append(f"      ({keys}) value={quoted(_kind(option.value))};;")
        commands += [f"      ({quoted(f'{path}:{name}')}) path_={quoted(' '.join((*node.path, name)))};;"
                     for name, _ in node.commands]  # fmt: skip
        options = " ".join(_described(name, option.help) for option in node.options for name in option.names)
        inside = " ".join(_described(name, help) for name, help in node.commands)
        places.append(
            f"    ({quoted(path)}) options=({options}); commands=({inside}); argument={quoted(_kind(node.argument))};;"
        )
    endings = "|".join(_any_case(ending[1:]) for ending in _ENDINGS)
    return _ZSH.format(endings=endings, values=_lines(values), commands=_lines(commands), places=_lines(places))


# ---- fish

_FISH = """# bellevl completion for fish
function __bellevl_at --description 'the command that is being typed'
  set -l path
  for word in (commandline -opc)[2..-1]
    switch "$path:$word"
{commands}
    end
  end
  test "$path" = "$argv[1]"
end
function __bellevl_pictures --description 'folders and pictures'
  __fish_complete_path (commandline -ct) | string match -rie '(?:/|\\.(?:{endings}))(?:\\t.*)?$'
end
complete -c bellevl -f
{lines}
"""


def fish(tree: list[Node]) -> str:
    commands, lines = [], []
    for node in tree:
        path = " ".join(node.path)
        at = f"complete -c bellevl -n {_fished(f'__bellevl_at {_fished(path)}')}"
        commands += [f"      case {_fished(f'{path}:{name}')}; set path {_fished(' '.join((*node.path, name)))}"
                     for name, _ in node.commands]  # fmt: skip
        lines += [f"{at} -a {name} -d {_fished(help)}" for name, help in node.commands]
        lines += [f"{at} {_fish_option(option)}" for option in node.options]
        lines += [f"{at} {filled}" for filled in _fish_value(node.argument)]
    endings = "|".join(ending[1:] for ending in _ENDINGS)
    return _FISH.format(commands=_lines(commands), endings=endings, lines=_lines(lines))


def _fish_option(option: Option) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    value = [] if option.value is None else ["-x", *_fish_value(option.value)]
    return " ".join([*names, *value, f"-d {_fished(option.help)}"])


def _fish_value(value: Value) -> list[str]:
    given = {
        "words": _fished(" ".join(value.words)),
        "models": "'(bellevl models --names 2>/dev/null; __fish_complete_directories)'",
        "pictures": "'(__bellevl_pictures)'",
        "files": "'(__fish_complete_path (commandline -ct))'",
        "folders": "'(__fish_complete_directories)'",
    }
    return [f"-a {given[value.kind]}"] if value.kind in given else []


def _fished(text: str) -> str:
    """A word in fish's single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ---- what they share


def _kind(value: Value) -> str:
    return f"words:{' '.join(value.words)}" if value.kind == "words" else value.kind


def _any_case(ending: str) -> str:
    return "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in ending)


def _described(name: str, help: str) -> str:
    """A word with its explanation, as zsh's _describe wants it."""
    return quoted(f"{name}:{help}")


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


WRITERS: dict[str, Callable[[list[Node]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}

LOADERS = {
    "bash": '_bellevl_load() { eval "$(bellevl completion bash 2>/dev/null)" && return 124; }\n'
    "complete -F _bellevl_load bellevl\n",
    "zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n"
    '_bellevl_load() { eval "$(bellevl completion zsh 2>/dev/null)" && _bellevl "$@"; }\n'
    "compdef _bellevl_load bellevl\n",
    "fish": "bellevl completion fish 2>/dev/null | source\n",
}
