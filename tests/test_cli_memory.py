"""Memory: said before, survived in the middle; a CPU is never a surprise; and what this machine has learned."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import CONFIG

from bellevl.chat import Chat
from bellevl.checkpoint import load_model
from bellevl.config import QuantizationConfig
from bellevl.errors import OutOfMemoryError
from bellevl.tokenizer import load_tokenizer
from bellevl_cli.completing.tree import nodes
from bellevl_cli.options import ModelOptions
from bellevl_cli.running import cpu_speed, memory_users, preflight, session, speeds, surviving
from bellevl_cli.running.preflight import Memory, estimate
from bellevl_cli.running.session import Plan, available_device, load, plan, window
from bellevl_cli.running.surviving import SurvivingChat
from bellevl_cli.words import error_line


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, Chinese."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("BELLEVL_LANG", "zh")
    return tmp_path / "state" / "bellevl"


@pytest.fixture
def tiny_plan(tiny_folder: Path) -> Plan:
    return plan(ModelOptions(tiny_folder))


def refused(plan: Plan, **keywords: object) -> OutOfMemoryError:
    """Why `plan` is not loaded."""
    with pytest.raises(OutOfMemoryError) as caught:
        load(plan, window(plan, None), lambda memory: None, **keywords)  # type: ignore[arg-type]
    return caught.value


# ---- before loading


def test_too_little_memory_names_who_has_it_and_what_would_fit(
    tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal tells need and free, the program with the most memory, and the option that would do."""
    small = estimate(tiny_plan.config, None, 1024 + tiny_plan.generation.max_new_tokens, "cpu").need
    monkeypatch.setattr(preflight, "free_memory", lambda device="cpu": small)
    monkeypatch.setattr(preflight, "largest_user", lambda device: ("chrome", 1_100_000_000))
    line = error_line(refused(tiny_plan))
    assert "(chrome 占 1.1 GB)" in line and "加 --ctx 1024 (省 " in line and ") 就放得下" in line


#: BELLE-VL-14B, as config.json tells it.
LARGE: dict[str, object] = {
    "hidden_size": 5120,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "intermediate_size": 27_392,
    "vocab_size": 152_064,
    "seq_length": 2048,
    "max_position_embeddings": 8192,
    "visual": {"width": 1664, "layers": 48, "heads": 16, "mlp_ratio": 4.9231, "image_size": 448, "patch_size": 14,
               "output_dim": 5120, "image_start_id": 151_857},
}  # fmt: skip


def large_folder(folder: Path, **changes: object) -> Path:
    """A folder that says it is the 14B and has no weights: whoever looks for them gives another error."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **LARGE, **changes}), encoding="utf-8")
    return folder


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """`gpu(12, 64)`: from now on the device has 12 GB free, and the CPU 64."""

    def free(device_gb: float, host_gb: float) -> None:
        sizes = {"mps": int(device_gb * 1e9), "cpu": int(host_gb * 1e9)}
        monkeypatch.setattr(preflight, "free_memory", lambda device="cpu": sizes[device])

    monkeypatch.setattr(preflight, "largest_user", lambda device: None)
    monkeypatch.setattr(session, "_require_device", lambda device: None)
    return free


INT4 = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}


@pytest.mark.parametrize(
    ("device_gb", "host_gb", "tries"),
    [
        # need: 18.94 GB without the embedding, of which the cache takes 5.89, as int8 3.14, and the vision encoder 4.29
        (16.3, 16, "加 --kv int8 (省 2.8 GB) 或 --vision cpu (省 4.3 GB) 或 --ctx 2048 (省 3.6 GB) 就放得下；或关闭"),
        (15.8, 64, "加 --vision cpu (省 4.3 GB) 或 --ctx 2048 (省 3.6 GB) 或 --device cpu 就放得下；或关闭"),
        (15.8, 3, "加 --ctx 2048 (省 3.6 GB) 就放得下；或关闭"),
        (12.3, 16, "加 --kv int8 --vision cpu (省 7.0 GB) 就放得下；或关闭"),
        (10.3, 16, "加 --vision cpu --ctx 1024 (省 8.8 GB) 就放得下；或关闭"),
        (10.0, 14, "加 --kv int8 --vision cpu --ctx 2048 (省 9.0 GB) 就放得下；或关闭"),
        (7.3, 4, "试试: 关闭"),
    ],
)
def test_every_option_that_would_be_enough_is_named_with_what_it_saves(
    tmp_path: Path, gpu: Callable[[float, float], None], device_gb: float, host_gb: float, tries: str
) -> None:
    """One option alone where one is enough, else the fewest together; none that would not help."""
    gpu(device_gb, host_gb)
    line = error_line(refused(replace(plan(ModelOptions(large_folder(tmp_path / "large", **INT4))), device="mps")))
    assert tries in line


def test_what_is_chosen_already_is_not_offered(tmp_path: Path, gpu: Callable[[float, float], None]) -> None:
    """With --kv int8 and --vision cpu the need is that much smaller, and neither is named again."""
    gpu(8.3, 6)
    folder = large_folder(tmp_path / "large", **INT4)
    chosen = replace(plan(ModelOptions(folder, kv="int8", vision="cpu")), device="mps")
    error = refused(chosen)
    assert error.facts["need"] == "11.9 GB" and "--kv" not in error_line(error) and "--vision" not in error_line(error)


@pytest.mark.parametrize("command", ["ask", "chat", "serve", "batch", "watch"])
def test_what_a_refusal_names_is_an_option_of_the_command(command: str) -> None:
    """--kv, --vision, --device and what makes the window shorter are taken by every command that can be refused."""
    shorter = "--ctx" if command in ("chat", "serve") else "--max-tokens"
    taken = {option for node in nodes() if node.path == (command,) for known in node.options for option in known.names}
    assert {"--kv", "--vision", "--device", "--max-memory", shorter} <= taken


def test_the_vision_encoder_needs_room_on_the_cpu(tmp_path: Path, gpu: Callable[[float, float], None]) -> None:
    """What --vision cpu takes from the GPU has to fit into the machine's memory, and its lack is told as such."""
    gpu(24.0, 4)
    chosen = replace(plan(ModelOptions(large_folder(tmp_path / "large", **INT4), vision="cpu")), device="mps")
    error = refused(chosen)
    assert (error.facts["what"], error.facts["need"]) == ("large 的视觉编码器", "4.3 GB")


@pytest.mark.parametrize("command", ["ask", "chat", "batch"])
def test_a_refusal_loads_nothing(tmp_path: Path, environment: dict[str, str], picture: Path, command: str) -> None:
    """A model that will not fit is refused with exit code 5 before torch, a vocabulary or a weight is read."""
    words = {"ask": [str(picture), "这是什么"], "chat": [], "batch": [str(picture), "这是什么", "-o", "out.jsonl"]}[
        command
    ]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bellevl_cli", command, *words,
         "--model", str(large_folder(tmp_path / "large")), "--device", "cpu", "--max-memory", "8G"],
        env=environment, cwd=tmp_path, input=b"", capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    said = done.stderr.decode()
    loaded = {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}
    assert done.returncode == 5, said[-2000:]
    assert ("需要内存 40.8 GB" if command == "chat" else "需要内存 36.0 GB") in said and "空闲 8.0 GB" in said
    assert "bellevl_cli.running.preflight" in loaded
    assert not {name.split(".")[0] for name in loaded} & {"torch", "safetensors", "tiktoken", "transformers"}


def test_a_limit_of_memory_counts_as_what_is_free(tiny_folder: Path) -> None:
    """--max-memory refuses a model that needs more, whatever is free."""
    error = refused(plan(ModelOptions(tiny_folder, max_memory=1000)))
    assert error.facts["free"] == "1 kB"


def test_a_smaller_window_needs_less(tiny_folder: Path) -> None:
    """--ctx makes the window of a dialogue, and with it the cache that is reckoned with, that small."""
    whole, less = plan(ModelOptions(tiny_folder)), plan(ModelOptions(tiny_folder, context=600))
    assert less.generation.max_window_size == 600 and window(less, 100) == 700 < window(whole, 100)


PROCESSES = {"1": ("init", 9000), "77": ("chrome", 900_000), "78": ("chrome", 300_000), "12": ("python3", 700_000)}


def test_the_largest_user_of_memory_is_summed_by_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of one name count together; this one does not; little is not worth naming."""
    for number, (name, kilobytes) in {**PROCESSES, str(os.getpid()): ("self", 9_000_000)}.items():
        (tmp_path / number).mkdir()
        (tmp_path / number / "status").write_text(f"Name:\t{name}\nVmRSS:\t  {kilobytes} kB\n")
    (tmp_path / "self").mkdir()
    assert memory_users._host_users(tmp_path).most_common(2) == [
        ("chrome", 1_200_000 * 1024),
        ("python3", 700_000 * 1024),
    ]
    assert not memory_users._host_users(tmp_path / "nothing")


def test_the_largest_user_of_a_gpu_comes_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi's list is read by program; without the program, or where it fails, nobody is named."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '11, /usr/lib/chrome, 1050'\necho '{os.getpid()}, python, 9000'\necho nonsense\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert memory_users.largest_user("cuda:0") == ("chrome", 1050 << 20)
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert memory_users.largest_user("cuda:0") is None
    tool.unlink()
    assert memory_users.largest_user("cuda") is None


def test_a_large_model_on_the_cpu_needs_a_yes(tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody chose the CPU a large model is refused with the speed to expect; --device cpu or a yes load it."""
    monkeypatch.setattr(preflight, "is_small", lambda config: False)
    monkeypatch.setattr(session, "available_device", lambda: "cpu")
    error = refused(tiny_plan)
    assert error.message == "memory.cpu" and float(str(error.facts["speed"])) > 0
    heard: list[float] = []
    assert refused(tiny_plan, accepted=lambda speed: heard.append(speed) is not None).message == "memory.cpu"
    assert heard[0] > 0
    assert load(tiny_plan, 100, lambda memory: None, accepted=lambda speed: True).device == "cpu"
    assert load(replace(tiny_plan, device="cpu"), 100, lambda memory: None).device == "cpu"


def test_a_small_model_takes_the_cpu_without_a_word(tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model and its like run on any machine."""
    monkeypatch.setattr(session, "available_device", lambda: "cpu")
    assert load(tiny_plan, 100, lambda memory: None).device == "cpu"


def test_the_speed_to_expect_is_measured(tiny_plan: Plan) -> None:
    """A layer of the model's size is timed: more layers are slower in proportion, and int4 has a speed, too."""
    config = replace(tiny_plan.config, visual=None, hidden_size=256, num_attention_heads=2, intermediate_size=1024)
    few = cpu_speed.tokens_a_second(replace(config, num_hidden_layers=2), None)
    many = cpu_speed.tokens_a_second(replace(config, num_hidden_layers=2000), None)
    assert 20 < few / many < 5000
    assert cpu_speed.tokens_a_second(config, QuantizationConfig()) > 0
    assert cpu_speed.tokens_a_second(config, QuantizationConfig(lm_head=True)) > 0


def test_loading_tells_how_far_it_is(tiny_plan: Plan) -> None:
    """The share that is read only grows and ends at all of it."""
    parts: list[float] = []
    load(tiny_plan, 100, lambda memory: None, parts.append)
    assert parts == sorted(parts) and parts[-1] == 1.0 and len(parts) > 5 and parts[0] < 0.5


def test_a_device_is_found_without_torch_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux without a driver the CPU is known at once; with one torch is asked."""
    monkeypatch.setattr(session, "best_device", lambda: "asked torch")
    monkeypatch.setattr(session.sys, "platform", "linux")
    monkeypatch.setattr(session.os.path, "exists", lambda path: False)
    assert available_device() == "cpu"
    monkeypatch.setattr(session.os.path, "exists", lambda path: path == "/dev/nvidiactl")
    assert available_device() == "asked torch"


# ---- in the middle of an answer


@pytest.fixture
def chat(tiny_folder: Path) -> SurvivingChat:
    return SurvivingChat(load_model(tiny_folder), load_tokenizer(tiny_folder))


def scarce(chat: Chat, monkeypatch: pytest.MonkeyPatch, most: int) -> Iterator[int]:
    """From now on a pass of more than `most` tokens runs out of memory. The lengths of the passes."""
    whole, passes = chat.model.decode_hidden, []

    def decode_hidden(x: torch.Tensor, **keywords: object) -> torch.Tensor:
        passes.append(x.shape[1])
        if x.shape[1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(x, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(chat.model, "decode_hidden", decode_hidden)
    return passes  # type: ignore[return-value]


def test_memory_that_runs_out_before_the_first_token_is_survived(
    chat: SurvivingChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question goes through once more in pieces and gets the answer it would have had; so do later ones."""
    expected = ["".join(chat.ask(question, greedy=True, max_tokens=8)) for question in ("这是什么", "那颜色呢")]
    chat.clear()
    monkeypatch.setattr(surviving, "RETRY_CHUNK", 8)
    passes, told = scarce(chat, monkeypatch, 8), []
    chat.retrying = lambda: told.append(1)
    assert ["".join(chat.ask(q, greedy=True, max_tokens=8)) for q in ("这是什么", "那颜色呢")] == expected
    assert told == [1] and len(chat.turns) == 2
    assert max(list(passes)[1:]) == 8


def test_memory_that_runs_out_twice_is_told_with_numbers(chat: SurvivingChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the second time there is an error with the device and what is free; the dialogue can go on."""
    list(chat.ask("这是什么", greedy=True, max_tokens=4))
    before = chat.dialogue()
    passes = scarce(chat, monkeypatch, 0)
    with pytest.raises(OutOfMemoryError) as caught:
        list(chat.ask("那颜色呢", greedy=True, max_tokens=4))
    assert caught.value.message == "memory.exhausted" and "cpu" in error_line(caught.value)
    assert len(list(passes)) == 2
    monkeypatch.undo()
    chat.go_back(before)
    assert "".join(chat.ask("那颜色呢", greedy=True, max_tokens=4)) and len(chat.turns) == 2


def test_other_errors_are_not_memory(chat: SurvivingChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of another kind is raised as it is, and nothing is tried again."""
    calls = []

    def broken(*arguments: object, **keywords: object) -> None:
        calls.append(1)
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(chat.model, "decode_hidden", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(chat.ask("这是什么"))
    assert calls == [1]


def test_the_picture_s_seconds_are_heard_once(chat: SurvivingChat, picture: Path) -> None:
    """What looking took is told when it is done, and not again for a follow-up."""
    heard: list[float] = []
    chat.seen = heard.append
    list(chat.ask("这是什么", image=picture, max_tokens=2))
    list(chat.ask("那颜色呢", max_tokens=2))
    assert len(heard) == 1 and heard[0] > 0


# ---- what is learned


def a_run(**changed: float | None) -> speeds.Run:
    return replace(speeds.Run(4.0, 0.4, 0.6, 3.0, 300, 61, 100), **changed)  # type: ignore[arg-type]


def test_after_three_runs_there_is_an_estimate(state: Path) -> None:
    """Before three runs nothing is foretold; then the middle of the last ones, whatever one odd run was."""
    for run in (a_run(), a_run(load_seconds=None, characters=120)):
        speeds.learn("x", run)
    assert speeds.estimate("x") is None
    speeds.learn("x", a_run(decode_seconds=900.0, characters=140))
    expected = speeds.estimate("x")
    assert expected is not None
    assert (expected.load_seconds, expected.vision_seconds, expected.answer_seconds) == (4.0, 0.4, 3.6)
    assert (expected.characters, expected.speed, expected.runs, expected.seconds) == (120, 20.0, 3, 8.0)
    assert speeds.estimate("y") is None
    assert stat.S_IMODE((state / "speeds.json").stat().st_mode) == 0o600


def test_the_record_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each row the last runs are kept, and of all rows the ones used last."""
    monkeypatch.setattr(speeds, "RUNS", 4)
    monkeypatch.setattr(speeds, "ROWS", 2)
    for name in "abca":
        for _ in range(6):
            speeds.learn(name, a_run())
    kept = json.loads(speeds.path().read_text())
    assert list(kept) == ["c", "a"] and len(kept["a"]) == 4


@pytest.mark.parametrize("text", ["", "[1]", '{"x": 3}', '{"x": [1, {"load_seconds": 2}, null]}', "{" * 9000, "\x00"])
def test_a_damaged_record_is_none(text: str) -> None:
    """A record that was cut or edited foretells nothing and does not stop the next one."""
    speeds.path().write_text(text)
    assert speeds.estimate("x") is None
    for _ in range(3):
        speeds.learn("x", a_run())
    assert speeds.estimate("x") is not None


def test_a_folder_that_cannot_be_written_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place for the record answers are given all the same."""
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    speeds.learn("x", a_run())
    assert speeds.estimate("x") is None and speeds.names() == []


def test_an_answer_is_learned(chat: SurvivingChat, picture: Path) -> None:
    """Each whole answer adds a run with its figures; the load counts for the first; a stopped one adds none."""
    chat.row, chat.load_seconds = speeds.row_name("tiny", None, "cpu"), 1.5
    list(chat.ask("这是什么", image=picture, greedy=True, max_tokens=5))
    list(chat.ask("那颜色呢", greedy=True, max_tokens=5))
    list(chat.stream("停", stop=lambda: True, max_tokens=5))
    runs = json.loads(speeds.path().read_text())[chat.row]
    assert [run["load_seconds"] for run in runs] == [1.5, None]
    assert runs[0]["vision_seconds"] > 0 and runs[0]["characters"] == len(chat.turns[0].answer or "")
    assert [name for name in speeds.names() if "tiny" in name] == [chat.row]


def test_memory_that_is_unknown_refuses_nothing() -> None:
    """Where the system does not say what is free, the model is loaded."""
    assert preflight.fits(Memory(10**15, None))
