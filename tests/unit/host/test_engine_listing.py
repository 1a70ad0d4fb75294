"""Model lists of each family, engine addresses, requests, weights and the tokenizer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hostmesh import ChatMessage, ChatWork, ConfigError, EngineError, ModelKind, Role
from hostmesh.jobs.parameters import ALLOWED
from hostmesh_host.engines.dialect import PARAMETERS, Dialect, chat_body
from hostmesh_host.engines.endpoint import Endpoint, check_engine_url
from hostmesh_host.engines.listing import read_models, read_ollama_model
from hostmesh_host.engines.minilm.model import build_tokenizer
from hostmesh_host.engines.weights import MINILM, SMOLLM2, check_weights, find_weights

RECORDED = json.loads((Path(__file__).parents[2] / "engines" / "recorded.json").read_text(encoding="utf-8"))


def test_the_list_of_a_real_llama_cpp_server() -> None:
    (model,) = read_models(RECORDED["models"]["body"])
    assert model.model_id == "smollm2-135m-instruct"
    assert (model.dialect, model.context_tokens, model.quantisation) == (Dialect.LLAMA_CPP, 2048, "Q4_1")


def test_the_list_of_vllm() -> None:
    document = {
        "object": "list",
        "data": [{"id": "org/model", "object": "model", "owned_by": "vllm", "root": "/w", "max_model_len": 4096}],
    }
    (model,) = read_models(document)
    assert (model.model_id, model.dialect, model.context_tokens) == ("org/model", Dialect.VLLM, 4096)


def test_the_list_of_ollama_says_little() -> None:
    (model,) = read_models({"data": [{"id": "llama3.2:1b", "object": "model", "owned_by": "library"}]})
    assert (model.dialect, model.context_tokens, model.kind) == (Dialect.OLLAMA, None, None)


@pytest.mark.parametrize(
    ("running", "parameters", "expected"),
    [
        ([{"name": "m", "context_length": 8192}], "num_ctx 2048", 8192),
        ([{"name": "other", "context_length": 8192}], "stop x\nnum_ctx    2048\n", 2048),
        ([], "temperature 0.5", None),
        (None, None, None),
    ],
)
def test_ollamas_context_is_what_it_runs_with(running: object, parameters: object, expected: int | None) -> None:
    shown = {
        "parameters": parameters,
        "capabilities": ["completion", "tools"],
        "details": {"quantization_level": "Q4_K_M"},
        "model_info": {"llama.context_length": 131072},  # what it was trained with: not what it runs with
    }
    model = read_ollama_model(shown, {"models": running}, "m")
    assert (model.context_tokens, model.kind, model.quantisation) == (expected, ModelKind.CHAT, "Q4_K_M")


def test_ollama_says_what_makes_vectors() -> None:
    assert read_ollama_model({"capabilities": ["embedding"]}, {}, "m").kind is ModelKind.EMBEDDING


def test_ollama_names_its_weights_by_their_digest_and_shows_the_template() -> None:
    digest = hashlib.sha256(b"weights").digest()
    blob = f"/root/.ollama/models/blobs/sha256-{digest.hex()}"
    shown = {"modelfile": f"# made by hand\nFROM {blob}\nPARAMETER num_ctx 1\n", "template": "{{ .Prompt }}"}
    model = read_ollama_model(shown, {}, "m")
    assert model.weights_sha256 == digest
    assert model.chat_template_sha256 == hashlib.sha256(b"{{ .Prompt }}").digest()
    for said in ({}, {"modelfile": "FROM llama3", "template": ""}, {"modelfile": 3, "template": 4}):
        model = read_ollama_model(said, {}, "m")
        assert (model.weights_sha256, model.chat_template_sha256) == (None, None)


@pytest.mark.parametrize("document", [{}, {"data": {}}, {"data": [{}] * 1025}])
def test_what_is_no_list_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(EngineError):
        read_models(document)


def test_odd_entries_are_passed_over() -> None:
    entries = [{"id": 7}, 7, {"id": "m", "max_model_len": -1, "owned_by": None, "meta": {"ftype": "x" * 40}}]
    (model,) = read_models({"data": entries})
    assert (model.model_id, model.context_tokens, model.quantisation) == ("m", None, None)


# --- addresses ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("http://127.0.0.1:11434/", "http://127.0.0.1:11434"),
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434"),
        ("http://localhost:8000/v1/", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://127.1.2.3/llm/v1", "http://127.1.2.3/llm"),
    ],
)
def test_loopback_addresses_have_one_form(url: str, expected: str) -> None:
    assert check_engine_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.1.2:11434",
        "http://engine.example",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://0.0.0.0:1",
        "http://[::ffff:8.8.8.8]:1",
        "http://169.254.169.254",
        "http://2130706433:80",
        "https://10.0.0.1",
    ],
)
def test_other_machines_need_leave(url: str) -> None:
    with pytest.raises(ConfigError, match="not on this machine") as caught:
        check_engine_url(url)
    assert "--allow-remote-engine" in caught.value.remedy
    assert check_engine_url(url, allow_remote=True) == url


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:80", "ftp://127.0.0.1", "http://", "http://user:secret@127.0.0.1", "http://127.0.0.1/?key=secret",
     "http://127.0.0.1/#x", "http://127.0.0.1:99999", "http://127.0.0.1/a b", "http://[::1", "file:///etc/passwd"],
)  # fmt: skip
def test_what_is_no_engines_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_engine_url(url, allow_remote=True)
    assert "secret" not in caught.value.message
    assert caught.value.remedy


def test_a_key_is_not_in_the_repr() -> None:
    assert "secret" not in repr(Endpoint(base_url="http://127.0.0.1", api_key="secret"))


# --- requests ---


def work(**parameters: float | tuple[str, ...]) -> ChatWork:
    return ChatWork(
        model_id="m",
        messages=(ChatMessage(role=Role.SYSTEM, content="s"), ChatMessage(role=Role.USER, content="u")),
        max_output_tokens=7,
        parameters=parameters,
    )


def test_every_family_takes_parameters_of_the_allow_list_only() -> None:
    assert set(PARAMETERS) == set(Dialect)
    for names in PARAMETERS.values():
        assert names <= set(ALLOWED)
    assert PARAMETERS[Dialect.LLAMA_CPP] == set(ALLOWED)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_every_family_is_asked_for_usage(dialect: Dialect) -> None:
    body = chat_body(work(temperature=0.0, stop=("END",)), dialect)
    assert body["stream"] is True
    assert body["max_tokens"] == 7
    assert body["stop"] == ["END"]
    assert body["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    options = body["stream_options"]
    assert isinstance(options, dict)
    assert options["include_usage"] is True


def test_top_k_off_is_spelt_as_each_family_does() -> None:
    assert chat_body(work(top_k=0), Dialect.VLLM)["top_k"] == -1
    assert chat_body(work(top_k=0), Dialect.LLAMA_CPP)["top_k"] == 0
    assert chat_body(work(top_k=5), Dialect.VLLM)["top_k"] == 5


# --- weights and tokens ---


def test_the_weights_are_those_that_are_known() -> None:
    for weights in (SMOLLM2, MINILM):
        path = find_weights(weights, None)
        assert check_weights(path, weights).hex() == weights.file_sha256


def test_installed_weights_come_before_a_packages(tmp_path: Path) -> None:
    own = tmp_path / MINILM.package / MINILM.file_name
    own.parent.mkdir()
    own.write_bytes(b"x")
    assert find_weights(MINILM, tmp_path) == own
    with pytest.raises(EngineError, match="is not the all-minilm-l6-v2 that is known") as caught:
        check_weights(own, MINILM)
    assert "models install" in caught.value.remedy


def test_the_hashes_are_those_of_the_lock_file() -> None:
    lock = (Path(__file__).parents[3] / "uv.lock").read_text(encoding="utf-8")
    for weights in (SMOLLM2, MINILM):
        assert f"sha256:{weights.wheel_sha256}" in lock


def test_the_tokenizer_gives_the_reference_ids() -> None:
    reference = json.loads(Path(__file__).with_name("reference_tokens.json").read_text(encoding="utf-8"))
    tokenizer = build_tokenizer()
    assert len(reference["samples"]) >= 15
    for sample in reference["samples"]:
        assert tokenizer.encode(sample["text"]).ids == sample["ids"], sample["text"]
