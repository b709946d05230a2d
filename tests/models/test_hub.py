"""Hub ids against a hub on this machine: what is there is fetched, what is not is one sentence."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import transformers
from huggingface_hub import constants, file_download

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import load_model
from pytest_sparsity.models.prepare import prepare_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Repository -> what the hub says of it, as the header of its answer, and with which status.
REFUSED = {"org/none": (401, "RepoNotFound"), "org/busy": (503, "")}


class FakeHub:
    """Answers as the hub does.

    Attributes:
        files: by repository and path.
        asked: paths, in the order in which they were asked for.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content for a path."""
        self.asked.append(path)
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name in REFUSED:
            status, code = REFUSED[name]
            return status, {"X-Error-Code": code}, b"{}"
        files = self.files[name]
        if parts[0] == "api" and "tree" not in parts:
            siblings = [{"rfilename": each} for each in files]
            about = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
            return 200, {}, json.dumps(about).encode()
        if parts[0] == "api":
            tree = [
                {"type": "file", "path": each, "size": len(content), "oid": "0" * 40}
                for each, content in files.items()
            ]
            return 200, {}, json.dumps(tree).encode()
        if name == "org/gated":
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        content = files["/".join(parts[4:])]
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{len(content)}"'}, content


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, and an empty cache."""
    fake = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self, body: bool = True) -> None:
            status, headers, content = fake.answer(self.path.partition("?")[0])
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    at = f"http://127.0.0.1:{server.server_port}"
    files = f"{at}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", at)
    for module in (constants, file_download):  # which it is read from differs by version
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", files, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that nobody answers for, and an empty cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def said(name: str) -> str:
    """The sentence with which a model is refused."""
    with pytest.raises(SparsityError) as caught:
        prepare_model(name)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"--sparsity-model {name}")
    return sentence


def test_a_model_is_loaded_from_its_files(hub: FakeHub, model_folder: Path) -> None:
    hub.files["org/small"] = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    hub.files["org/small"]["consolidated.safetensors"] = b"the same weights once more"
    loaded = load_model("org/small")
    assert (loaded.name, loaded.source) == ("small", "org/small")
    assert loaded.weights_hash == load_model(str(model_folder)).weights_hash
    assert not any("consolidated" in path for path in hub.asked)


def test_only_the_configuration_of_a_twin_is_fetched(hub: FakeHub) -> None:
    config = transformers.LlamaConfig(architectures=["LlamaForCausalLM"]).to_json_string()
    hub.files["org/large"] = {"config.json": config.encode(), "model.safetensors": b"large"}
    model = load_model("tiny:org/large")
    assert (model.name, model.source) == ("tiny-large", "tiny:org/large")
    assert not any(path.endswith("model.safetensors") for path in hub.asked)


def test_a_repository_without_a_configuration_is_one_sentence(hub: FakeHub) -> None:
    hub.files["org/data"] = {"README.md": b"no model"}
    assert "org/data has no config.json" in said("tiny:org/data")


@pytest.mark.parametrize("name", ["org/none", "tiny:org/none"])
def test_an_id_that_is_not_there_is_one_sentence(hub: FakeHub, name: str) -> None:
    assert "the hub has no model org/none, or does not show it to you; check the" in said(name)


@pytest.mark.parametrize("name", ["org/gated", "tiny:org/gated"])
def test_a_gated_id_is_one_sentence(hub: FakeHub, name: str) -> None:
    hub.files["org/gated"] = {"config.json": b"{}", "model.safetensors": b""}
    assert "is gated: its terms must be accepted; accept them on the model's page" in said(name)


@pytest.mark.parametrize("name", ["org/busy", "tiny:org/busy"])
def test_a_hub_that_cannot_answer_is_asked_once(hub: FakeHub, name: str) -> None:
    assert "is not to be had from the hub: " in said(name)
    assert len(hub.asked) == 1


@pytest.mark.parametrize("name", ["org/name", "tiny:org/name"])
def test_without_network_it_is_tried_once_and_told_in_one_sentence(
    no_network: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(f"waits for {seconds} seconds")

    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", sleep)
    with caplog.at_level(logging.INFO):
        sentence = said(name)
    assert "nor in the cache of the hub's client, and there is no connection to the hub (" in (
        sentence
    )
    otherwise = "give tiny:FOLDER" if name.startswith("tiny:") else "pass a local folder"
    assert f"check the name, connect to the network once, or {otherwise}" in sentence
    assert not capfd.readouterr().err


def test_what_was_fetched_before_is_enough_without_network(
    hub: FakeHub, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files["org/small"] = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    fetched = prepare_model("org/small").folder
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert prepare_model("org/small").folder == fetched
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert prepare_model("org/small").folder == fetched


def test_an_id_off_line_says_what_makes_it_so(
    no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in said("org/name")
