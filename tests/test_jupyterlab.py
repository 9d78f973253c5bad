"""A real JupyterLab runs a notebook as it lies in notebooks/, through the interface that its page uses."""

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import nbformat
import pytest
import websocket
from conftest import set_own_folders
from processes import free_port

from lib.storage import PROJECT_ROOT

TOKEN = "a-token-of-enough-characters"
NOTEBOOK = "01_embedding.ipynb"
PATIENCE = 120  # seconds that a cell may take


class Lab:
    """A running JupyterLab."""

    def __init__(self, port: int):
        self.address = f"127.0.0.1:{port}"

    def ask(self, path: str, body: dict | None = None) -> dict:
        """The JSON that the server answers; a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}/{path}", data, {"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def is_there(self) -> bool:
        """Whether it answers yet; it tells its address before it does."""
        try:
            return bool(self.ask("api"))
        except OSError:
            return False

    def run(self, sources: list[str], kernel: str) -> list[dict]:
        """Execute cells one after the other, as the page does: every message of output."""
        url = f"ws://{self.address}/api/kernels/{kernel}/channels"
        channel = websocket.create_connection(url, timeout=PATIENCE, header=[f"Authorization: token {TOKEN}"])
        outputs = []
        try:
            for source in sources:
                outputs += _execute(channel, source)
        finally:
            channel.close()
        return outputs


def _execute(channel: websocket.WebSocket, source: str) -> list[dict]:
    """Execute one cell: its output, once the kernel is idle again; AssertionError for one that fails."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "version": "5.3",
        "session": "t",
        "username": "",
    }
    content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    channel.send(
        json.dumps({"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content})
    )
    outputs = []
    while True:
        message = json.loads(channel.recv())
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        kind, content = message["msg_type"], message["content"]
        assert kind != "error", "\n".join(content["traceback"])
        if kind in ("stream", "display_data", "execute_result"):
            outputs.append(content)
        if kind == "status" and content["execution_state"] == "idle":
            return outputs


@pytest.fixture
def lab(tmp_path):
    """JupyterLab as README starts it, on a free port."""
    port, environment = free_port(), dict(os.environ)
    set_own_folders(environment, tmp_path)
    environment["HOME"] = environment["JUPYTER_CONFIG_DIR"] = str(tmp_path / "home")
    (tmp_path / "home").mkdir()
    command = [Path(sys.executable).with_name("jupyter"), "lab", "notebooks", "--no-browser", f"--port={port}",
               f"--IdentityProvider.token={TOKEN}", "--allow-root"]  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as file, subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment, stdout=file, stderr=file
    ) as process:  # fmt: skip
        lab, until = Lab(port), time.monotonic() + PATIENCE
        while not lab.is_there():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield lab
        process.terminate()


def test_the_first_notebook_runs_cell_by_cell(lab, tmp_path):
    listed = {entry["name"] for entry in lab.ask("api/contents/")["content"]}
    assert NOTEBOOK in listed
    notebook = nbformat.from_dict(lab.ask(f"api/contents/{NOTEBOOK}")["content"])
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    session = lab.ask("api/sessions", {"path": NOTEBOOK, "name": "", "type": "notebook", "kernel": {"name": "python3"}})
    outputs = lab.run(sources, session["kernel"]["id"])
    told = json.dumps(outputs)
    assert "1,500 images" in told
    assert "image/png" in told
    assert (tmp_path / "artifacts" / "sample" / "manifest.parquet").exists()
