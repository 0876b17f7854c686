"""Who may import whom, and what is not imported before it is needed. CONTRIBUTING.md draws the same house."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bellevl

ROOT = Path(__file__).parents[1]
PACKAGES = ("bellevl", "bellevl_cli", "quantize")

#: module -> what of bellevl it may import; what is in OPEN all may. Only these have a rule of their own.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "fields": {"errors"},
    "quantization": {"errors", "fields", "nf4_state"},
    "config": {"errors", "fields", "quantization"},
    "sizes": {"config", "nf4_state"},
    "packing": set(),
    "int8_product": set(),
    "kernels": {"packing", "int8_product"},
    "packed_linear": {"kernels"},
    "qlinear": {"packing", "kernels", "packed_linear"},
    "nf4_state": set(),
    "nf4": {"nf4_state"},
    "nf4_linear": {"nf4", "nf4_state", "kernels", "packed_linear"},
    "layers": set(),
    "cache": {"layers"},
    "vision": {"layers", "resampler"},
    "resampler": {"layers"},
    "text": {"layers", "cache", "qlinear"},
    "embedding": set(),
    "plain_reads": set(),
    "shard": {"plain_reads"},
    "model": {"vision", "resampler", "text", "layers", "cache", "qlinear", "nf4_linear", "embedding"},
    "checkpoint": {"model", "packed_linear", "qlinear", "nf4_linear", "sizes", "embedding", "shard"},
    "tokenizer": set(),
    "prompt": {"tokenizer"},
    "picture_files": set(),
    "image": {"picture_files"},
    "sampling": set(),
    "choosing": {"sampling"},
    "generate": {"model", "cache", "sampling", "choosing", "prompt", "tokenizer", "layers"},
    "chat": {"generate", "model", "sampling", "prompt", "tokenizer", "image", "cache"},
}
#: room of the pipeline -> rooms and modules of `quantize` that it does not import, not even later.
PIPELINE = {
    "solver": {"storage", "spending", "record", "task", "job", "pipeline", "blocks", "calibration"},
    "storage": {"spending", "record", "task", "job", "pipeline", "blocks", "calibration"},
    "blocks": {"spending", "record", "task", "job", "pipeline", "calibration"},
    "spending": {"record", "task", "job", "pipeline"},
    "record": {"pipeline"},
}
OPEN = {"errors", "config", "fields", "quantization"}

#: Importing these takes long; `bellevl --help` and a missing picture do without them.
HEAVY = ("torch", "numpy", "transformers", "tiktoken", "safetensors", "prompt_toolkit", "rich", "PIL")


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def dotted(path: Path) -> str:
    """bellevl/nano/__init__.py -> bellevl.nano"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, typing_too: bool = False) -> set[str]:
    """Absolute names of what a file imports, wherever in it; those for type checkers only when asked for."""
    name = dotted(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), typing_too):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{_base(node, package)}.{alias.name}" for alias in node.names}
    return found


def _base(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
    return ".".join(part for part in (above, node.module) if part)


def _nodes(tree: ast.AST, typing_too: bool) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test) and not typing_too:
            continue
        nodes += [child, *_nodes(child, typing_too)]
    return nodes


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_nothing_goes_back(path: Path) -> None:
    """bellevl imports neither the terminal nor quantize, and quantize not the terminal."""
    package = dotted(path).split(".")[0]
    above = {"bellevl": {"bellevl_cli", "quantize"}, "quantize": {"bellevl_cli"}, "bellevl_cli": set()}[package]
    assert not roots(path) & above


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_the_terminal_s_libraries_stay_in_the_terminal(path: Path) -> None:
    """typer, prompt_toolkit, rich and platformdirs are imported in bellevl_cli only."""
    if dotted(path).split(".")[0] != "bellevl_cli":
        assert not roots(path) & {"typer", "click", "prompt_toolkit", "rich", "platformdirs"}


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_transformers_has_two_rooms(path: Path) -> None:
    """transformers is imported in bellevl/hf.py and bellevl/training only."""
    name = dotted(path)
    if name != "bellevl.hf" and not name.startswith("bellevl.training"):
        assert "transformers" not in roots(path)


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_rooms_of_the_model_keep_their_doors(name: str) -> None:
    """A module of the model imports only those below it."""
    path = ROOT / "bellevl" / f"{name}.py"
    inside = {i.split(".")[1] for i in imports(path, typing_too=True) if i.startswith("bellevl.")}
    assert inside - {name} <= ROOMS[name] | (OPEN if name not in OPEN else set())


@pytest.mark.parametrize("room", sorted(PIPELINE))
def test_rooms_of_the_pipeline_keep_their_doors(room: str) -> None:
    """Solving knows no file, files know no job, a block knows no calibration set, spending knows no pipeline, and the
    pipeline writes the record."""
    for path in sorted((ROOT / "quantize" / room).glob("*.py")):
        inside = {i.split(".")[1] for i in imports(path) if i.startswith("quantize.")}
        assert not inside & PIPELINE[room], path


def test_every_public_name_is_there() -> None:
    """What `bellevl` offers can be had, and it offers what dir() says."""
    for name in bellevl.__all__:
        assert getattr(bellevl, name) is not None
    assert set(bellevl.__all__) <= set(dir(bellevl))
    with pytest.raises(AttributeError):
        bellevl.nonsense  # noqa: B018 - the access is the test


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are loaded after `code` ran in a new interpreter."""
    child = f"import sys\n{code}\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, env=environment, check=True)
    return set(done.stdout.decode().splitlines()[-1].split())


def test_help_imports_nothing_heavy() -> None:
    """`bellevl --help` is written without torch, rich, prompt_toolkit, Pillow or numpy."""
    code = "from bellevl_cli import app, exits\nsys.argv = ['bellevl', '--help']\nexits.run(app._invoke, bool)"
    assert not loaded_by(code) & set(HEAVY)


def test_importing_the_library_costs_nothing() -> None:
    """`import bellevl` loads neither torch nor numpy; its names come when they are used."""
    assert not loaded_by("import bellevl") & set(HEAVY)
    assert "torch" in loaded_by("import bellevl\nbellevl.BelleVL")


def test_an_answer_does_not_load_the_compiler() -> None:
    """Loading the embedded model and answering leave torch's compiler alone: sympy comes with it, and a second."""
    code = (
        "import bellevl\nfrom bellevl.nano import folder\n"
        "chat = bellevl.Chat(bellevl.load_model(folder()), bellevl.load_tokenizer(folder()))\n"
        "assert ''.join(chat.ask('图里有什么', 'examples/cat.png', max_tokens=4))"
    )
    assert "sympy" not in loaded_by(code)


def test_no_module_runs_remote_code() -> None:
    """Nobody asks for code out of a model folder, and every pickle is read as weights only."""
    for path in modules():
        source = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in source
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
