"""`bellevl serve` as a program, asked over loopback by the `openai` package and by clients that behave badly."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from conftest import ROOT, Bellevl, program
from PIL import Image

import bellevl as library

LONG = 60_000


class Running:
    """A server that answers with the small checkpoint."""

    def __init__(self, folder: Path, model: Path, *arguments: str) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        environment = {
            **kept, "HOME": str(folder), "PYTHONPATH": str(ROOT), "BELLEVL_LANG": "zh", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [*program(), "serve", "--port", "0", "--model", str(model), *arguments]
        self.notes = (folder / "stderr.txt").open("wb")
        self.child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=self.notes)
        assert self.child.stdout is not None
        self.url = self.child.stdout.readline().decode().strip()
        assert self.url.startswith("http://127.0.0.1:"), (folder / "stderr.txt").read_text()
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def end(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        code = self.child.wait(120)
        assert self.child.stdout is not None
        self.child.stdout.close()
        self.notes.close()
        return code

    def status(self) -> dict[str, Any]:
        result: dict[str, Any] = httpx.get(f"{self.url}api/status", timeout=30).json()
        return result

    def wait(self, seconds: float = 30, **expected: Any) -> None:
        """Until the server's status is as expected."""
        end = time.monotonic() + seconds
        while {name: (now := self.status())[name] for name in expected} != expected:
            assert time.monotonic() < end, f"{now} is not {expected}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("server"), tiny_folder)
    yield running
    assert running.end() == 143


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}v1", api_key="none", max_retries=0, timeout=90)


def address(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def question(text: str, picture: Path | None = None) -> Any:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if picture is not None:
        parts.append({"type": "image_url", "image_url": {"url": address(picture)}})
    return {"role": "user", "content": parts}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": list(messages), "temperature": 0, **more}


def test_openai_s_client_gets_the_terminal_s_answer(client: openai.OpenAI, tiny_folder: Path, picture: Path) -> None:
    """Whole, as a stream and as a dialogue: greedily the same text as the library's own, with usage and reason."""
    session = library.Session(tiny_folder, device="cpu")
    first = "".join(session.ask(picture, "这是什么", greedy=True, max_tokens=9))
    second = "".join(session.ask(None, "还有呢", greedy=True, max_tokens=9))
    whole = client.chat.completions.create(**body(question("这是什么", picture), max_tokens=9))
    assert whole.choices[0].message.content == first and len(first) == 9
    assert whole.choices[0].finish_reason == "length" and whole.model == "tiny"
    assert whole.usage is not None and whole.usage.completion_tokens == 9
    dialogue = [question("这是什么", picture), {"role": "assistant", "content": first}, question("还有呢")]
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**body(*dialogue, max_tokens=9, stream=True, stream_options=options)))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == second
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 9
    assert [model.id for model in client.models.list()] == ["tiny"] and client.models.retrieve("tiny").id == "tiny"


def test_what_the_shape_has_no_place_for_stands_beside_it(client: openai.OpenAI, picture: Path) -> None:
    """Boxes, the picture's size and seconds are under "bellevl"; a seed repeats an answer that was drawn."""
    asked = body(question("q", picture), max_tokens=5, seed=7, stop=None) | {"temperature": 1}
    first, again = (client.chat.completions.create(**asked) for _ in range(2))
    more = first.model_extra or {}
    assert more["bellevl"]["image_size"] == [60, 40] and more["bellevl"]["boxes"] == []
    assert first.choices[0].message.content == again.choices[0].message.content


def test_errors_are_openai_s_own(client: openai.OpenAI, picture: Path, tmp_path: Path) -> None:
    """A client's exceptions are those it has for OpenAI: not found, bad request, with code and parameter."""
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**body(question("q")) | {"model": "gpt-4o"})
    broken = tmp_path / "x.png"
    broken.write_bytes(picture.read_bytes()[:60])
    wrongs = [
        (body(question("q", broken)), "picture"),
        (body(question("q"), top_p=7), "prompt.setting"),
        (body(question("字" * 9000)), "context_length_exceeded"),
        (body(question("字" * 9000), stream=True), "context_length_exceeded"),
        (
            body({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://e/x.png"}}]}),
            "picture_url",
        ),
    ]
    for wrong, code in wrongs:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**wrong)
        assert str(caught.value.code).startswith(code)


def test_an_error_leaves_the_connection_open(server: Running, picture: Path, tmp_path: Path) -> None:
    """After a broken picture, a wrong setting and a prompt too long the next request goes over the same connection."""
    broken = tmp_path / "x.png"
    broken.write_bytes(picture.read_bytes()[:60])
    wrongs = [body(question("q", broken)), body(question("q"), top_p=7), body(question("字" * 9000))]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=90)
    try:
        for asked in wrongs:
            connection.request("POST", "/v1/chat/completions", json.dumps(asked), JSON)
            reply = connection.getresponse()
            assert reply.status == 400 and json.loads(reply.read())["error"]["message"]
            own, held = connection.sock, connection.sock.getsockname()
            own.settimeout(0.3)
            with pytest.raises(TimeoutError):  # closed, it would read as empty at once
                own.recv(1)
            own.settimeout(90)
            assert connection.sock.getsockname() == held
    finally:
        connection.close()


def test_text_of_a_chinese_console_is_understood(server: Running) -> None:
    """A body in GBK is answered as the same one in UTF-8."""
    text = json.dumps(body(question("这是什么动物"), max_tokens=6), ensure_ascii=False)
    answers = [
        httpx.post(f"{server.url}v1/chat/completions", content=text.encode(code), timeout=60, headers=JSON).json()
        for code in ("utf-8", "gbk")
    ]
    assert answers[0]["choices"] == answers[1]["choices"]


JSON = {"Content-Type": "application/json"}


def test_one_is_answered_and_the_others_wait(server: Running) -> None:
    """A second and third request hear their place; who leaves makes room, and leaving stops the running answer."""
    posted = {"method": "POST", "url": f"{server.url}v1/chat/completions", "timeout": 60}
    with httpx.Client() as http:
        long = http.send(
            http.build_request(**posted, json=body(question("一"), stream=True, max_tokens=LONG)), stream=True
        )
        lines = long.iter_lines()
        while '"content":""' in (line := next(lines)) or not line:
            pass
        assert "content" in line
        short = body(question("二"), stream=True, max_tokens=3)
        second = http.send(http.build_request(**posted, json=short), stream=True)
        second_lines = second.iter_lines()  # held: a response whose lines are let go of is closed
        assert [next(second_lines) for _ in range(3)][-1] == ": waiting 1"
        third = http.send(http.build_request(**posted, json=short), stream=True)
        third_lines = third.iter_lines()
        assert [next(third_lines) for _ in range(3)][-1] == ": waiting 2"
        assert server.status()["waiting"] == 2
        second.close()
        server.wait(waiting=1)
        long.close()
        assert "data: [DONE]" in list(third_lines)  # answered, though the first one had minutes to go
    server.wait(busy=False)


def test_a_client_that_leaves_stops_its_answer(server: Running) -> None:
    """Also one that waits for the whole answer: the model is free again soon after."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}v1/chat/completions",
            json=body(question("长"), max_tokens=LONG),
            timeout=httpx.Timeout(30, read=2),
        )
    server.wait(busy=False)


def test_other_sites_and_forms_are_refused(server: Running) -> None:
    """A rebound name, another page's origin, a form's content type, other methods and paths out of the folder."""
    url = f"{server.url}v1/chat/completions"
    good = body(question("q"), max_tokens=1)
    assert httpx.post(url, json=good, headers={"Host": f"evil.example:{server.port}"}).status_code == 403
    assert httpx.post(url, json=good, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx.get(f"{server.url}api/status", headers={"Origin": "null"}).status_code == 403
    assert httpx.post(url, content=json.dumps(good), headers={"Content-Type": "text/plain"}).status_code == 415
    assert httpx.options(url, headers={"Origin": "http://evil.example"}).status_code == 403
    refused = httpx.get(url)
    assert refused.status_code == 405 and refused.json()["error"]["code"] == "method_not_allowed"
    for path in ("app.py", "..%2fapp.py", "page/index.html", "%00", "index.html%00.png"):
        assert httpx.get(f"{server.url}{path}").status_code == 404
    page = httpx.get(server.url)
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    assert "access-control-allow-origin" not in page.headers


def test_a_request_too_large_is_refused_at_its_head(server: Running) -> None:
    """A body of a gigabyte is not waited for, and rubbish in place of HTTP ends nothing."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    for request, status in (
        (f"{head}Content-Length: 1000000000\r\n\r\n", b"413"),
        ("\x00\x01 nonsense\r\n\r\n", b"400"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(request.encode())
            assert connection.recv(4096).split()[1] == status
    assert server.status()["busy"] is False


def test_a_browser_s_unknown_pictures_are_made_readable(server: Running, tmp_path: Path) -> None:
    """What a browser cannot show (TIFF, HEIC) comes back upright as JPEG; what is no picture is a 400."""
    Image.new("RGB", (3000, 1500), "red").save(tmp_path / "x.tiff")
    made = httpx.post(f"{server.url}api/preview", content=(tmp_path / "x.tiff").read_bytes(), timeout=60)
    (tmp_path / "x.jpg").write_bytes(made.content)
    with Image.open(tmp_path / "x.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (1600, 800))
    assert httpx.post(f"{server.url}api/preview", content=b"no picture", timeout=60).status_code == 400


def test_a_port_in_use_and_an_open_host_are_told_at_once(bellevl: Bellevl, server: Running, tiny_folder: Path) -> None:
    """One line each, before any model is loaded: exit 1 for the port, exit 2 for other machines without a token."""
    taken = bellevl("serve", "--port", str(server.port), "--model", tiny_folder)
    assert taken.returncode == 1 and taken.stderr.count(b"\n") == 1 and str(server.port) in taken.stderr.decode()
    opened = bellevl("serve", "--host", "0.0.0.0", "--model", tiny_folder)
    assert opened.returncode == 2 and "--token" in opened.stderr.decode() and opened.stdout == b""


def test_a_token_is_asked_for_and_ctrl_c_ends_it(tmp_path: Path, tiny_folder: Path) -> None:
    """With --token the API wants it, the page does not; Ctrl-C ends an answer in its midst and exits 130."""
    running = Running(tmp_path, tiny_folder, "--token", "correct-horse")
    client = openai.OpenAI(base_url=f"{running.url}v1", api_key="correct-horse", max_retries=0, timeout=90)
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    assert httpx.get(running.url).status_code == 200 and httpx.get(f"{running.url}api/status").status_code == 401
    pieces = iter(client.chat.completions.create(**body(question("长"), stream=True, max_tokens=LONG)))
    next(pieces)
    began = time.monotonic()
    assert running.end(signal.SIGINT) == 130
    assert time.monotonic() - began < 60  # not the minutes that the answer would have taken
    assert "correct-horse" not in (tmp_path / "stderr.txt").read_text()


def test_pictures_seen_lately_are_not_looked_at_again(tiny_folder: Path, picture: Path) -> None:
    """The second question about a picture runs without the vision encoder, whatever was asked between."""
    code = f"""
import asyncio, base64, sys
from bellevl_cli.options import ModelOptions
from bellevl_cli.running.session import load, plan
from bellevl_cli.serve.engine import Engine, End
from bellevl_cli.serve.requests import ChatRequest
from pathlib import Path
session = load(plan(ModelOptions(Path({str(tiny_folder)!r}), "cpu")), 512, lambda memory: None)
seen, encode = [], session.chat.model.encode_images
session.chat.model.encode_images = lambda *a, **k: (seen.append(1), encode(*a, **k))[1]
data = Path({str(picture)!r}).read_bytes()
async def ask(engine, question, picture):
    job = await engine.submit(ChatRequest(question, picture=picture, sampling={{"max_tokens": 3, "greedy": True}}))
    return [event async for event in engine.events(job) if isinstance(event, End)][0].text
async def main():
    engine = Engine(session)
    texts = [await ask(engine, q, p) for q, p in (("a", data), ("b", None), ("a", data))]
    assert texts[0] == texts[2] and len(seen) == 1, (texts, seen)
    engine.close()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=600)
    assert done.returncode == 0
