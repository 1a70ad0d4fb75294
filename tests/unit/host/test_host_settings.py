"""What an operator says, where, and who wins; what a host then offers; what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from hostmesh import ConfigError, StoreError, StoreTooNewError, UsageError
from hostmesh_host.offer import OfferChange, apply_change, describe_host, merge_stored, models_at_url, offered_models
from hostmesh_host.offer_store import OfferStore
from hostmesh_host.settings import HostSettings, LoadedHostSettings, load_host_settings, parse_model


def load(
    tmp_path: Path,
    *,
    toml: str | None = None,
    stored: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    **overrides: object,
) -> LoadedHostSettings:
    if toml is not None:
        (tmp_path / "host.toml").write_text(toml, encoding="utf-8")
    return load_host_settings(overrides, config_dir=tmp_path, stored=stored or {}, env=env or {})


def test_argument_over_environment_over_offer_over_file_over_default(tmp_path: Path) -> None:
    toml = 'currency = "A"\nmax_queued_jobs = 1\nprice = 1\ncapabilities = ["a"]\nthreads = 1'
    loaded = load(
        tmp_path,
        toml=toml,
        stored={"currency": "B", "capabilities": ["b"]},
        env={"HOSTMESH_HOST_CURRENCY": "C", "HOSTMESH_HOST_PRICE": "3"},
        price=4,
    )
    settings = loaded.settings
    assert (settings.price, settings.currency, settings.capabilities) == (4, "C", ("b",))
    assert (settings.max_queued_jobs, settings.threads, settings.drain_timeout_s) == (1, 1, 30)
    assert loaded.origins["price"] == "argument"
    assert loaded.origins["currency"] == "environment HOSTMESH_HOST_CURRENCY"
    assert loaded.origins["capabilities"] == "stored offer"
    assert loaded.origins["threads"] == str(tmp_path / "host.toml")
    assert loaded.origins["engines"] == "default"
    assert loaded.said_now("price")
    assert loaded.said_now("currency")
    assert not loaded.said_now("capabilities")


def test_everything_can_stand_in_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        toml="""
engines = ["http://127.0.0.1:11434", "minilm"]
price = 0
currency = "EUR"
embeddings = ["nomic"]
context_tokens = 8192
engine_key_file = "engine.key"
allow_remote_engine = true
threads = 2
capabilities = ["gpu"]
max_concurrent_jobs = 8
max_queued_jobs = 0
max_output_tokens = 512
drain_timeout_s = 5
[models]
"llama3.2:1b" = 150000
nomic = 0
""",
    ).settings
    assert settings.engines == ("http://127.0.0.1:11434", "minilm")
    assert settings.models == {"llama3.2:1b": 150_000, "nomic": 0}
    assert settings.engine_key_file == tmp_path / "engine.key"
    assert settings.max_output_tokens == 512


def test_everything_can_stand_in_the_environment(tmp_path: Path) -> None:
    env = {
        "HOSTMESH_HOST_ENGINES": "smollm2, minilm",
        "HOSTMESH_HOST_MODELS": "smollm2-135m-instruct=5,all-minilm-l6-v2",
        "HOSTMESH_HOST_ALLOW_REMOTE_ENGINE": "true",
        "HOSTMESH_HOST_MAX_CONCURRENT_JOBS": "3",
        "HOSTMESH_HOST_ENGINE_KEY_FILE": "/k",
        "HOSTMESH_HOST_PRICE": "",
        "P2P_ENABLE_DHT": "1",
        "HOSTMESH_NETWORK": "n",
    }
    settings = load(tmp_path, env=env).settings
    assert settings.models == {"smollm2-135m-instruct": 5, "all-minilm-l6-v2": None}
    assert settings.allow_remote_engine
    assert (settings.max_concurrent_jobs, settings.engine_key_file, settings.price) == (3, Path("/k"), None)


@pytest.mark.parametrize(
    ("toml", "env", "words"),
    [
        ("prize = 5", {}, "unknown setting 'prize'"),
        ("", {"HOSTMESH_HOST_PRIZE": "5"}, "unknown setting 'HOSTMESH_HOST_PRIZE'"),
        ("price = 1.5", {}, "price is 1.5"),
        ("price = -1", {}, "price is -1"),
        ("price = true", {}, "price is True"),
        ("", {"HOSTMESH_HOST_PRICE": "1.5"}, "price is '1.5'"),
        ('engines = ["gpt"]', {}, "engines is"),
        ("engines = []", {}, "engines is"),
        ('models = ["a=1", "a=2"]', {}, "models is"),
        ('models = ["a=x"]', {}, "models is"),
        ("[models]\na = 0.1", {}, "models is"),
        ("allow_remote_engine = 1", {}, "allow_remote_engine is 1"),
        ("max_concurrent_jobs = 0", {}, "max_concurrent_jobs is 0"),
        ("price = ", {}, "is not TOML"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path: Path, toml: str, env: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml=toml, env=env)
    assert words in caught.value.message
    assert caught.value.remedy


def test_a_slip_is_met_with_the_name_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml="prices = 5")
    assert caught.value.remedy == "did you mean price?"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path, env={"HOSTMESH_HOST_CONFIG": str(tmp_path / "none.toml")})


def test_one_engine_elsewhere_at_most() -> None:
    with pytest.raises(ConfigError, match="two engines"):
        HostSettings(engines=("http://127.0.0.1:1", "http://127.0.0.1:2"))


@pytest.mark.parametrize("text", ["", "=5", "a=-1", "a=1.5", "a=x", "a\n=1", "x" * 129])
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises((ConfigError, ValueError)):
        parse_model(text)


# --- the offer ---


URL = "http://127.0.0.1:1"


def test_without_a_price_nothing_is_offered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no price for 'smollm2-135m-instruct'") as caught:
        offered_models(load(tmp_path), {})
    assert "--price" in caught.value.remedy
    assert offered_models(load(tmp_path, price=0), {}) == {"smollm2-135m-instruct": 0}


def test_an_engine_at_a_url_needs_its_models_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model of the engine"):
        offered_models(load(tmp_path, engines=["smollm2", URL], models=["smollm2-135m-instruct=1"]), {})
    loaded = load(tmp_path, engines=["smollm2", URL], models=["smollm2-135m-instruct=1", "a=2"])
    assert models_at_url(loaded.settings) == ("a",)
    assert offered_models(loaded, {}) == {"smollm2-135m-instruct": 1, "a": 2}


def test_a_models_own_price_comes_before_the_common_one(tmp_path: Path) -> None:
    assert offered_models(load(tmp_path, engines=[URL], price=7, models=["a=0", "b"]), {}) == {"a": 0, "b": 7}


def test_what_update_kept_beats_the_file_and_not_the_arguments(tmp_path: Path) -> None:
    kept = {"prices": {"smollm2-135m-instruct": 9, "gone": 1}, "removed": ["all-minilm-l6-v2"]}
    toml = 'engines = ["smollm2", "minilm"]\nprice = 5'
    assert offered_models(load(tmp_path, toml=toml), kept) == {"smollm2-135m-instruct": 9}
    assert offered_models(load(tmp_path, price=6), kept) == {"smollm2-135m-instruct": 6}
    said = {"smollm2-135m-instruct": 1, "all-minilm-l6-v2": 2}
    assert offered_models(load(tmp_path, models=[f"{name}={price}" for name, price in said.items()]), kept) == said


def test_kept_prices_do_not_change_currency(tmp_path: Path) -> None:
    kept = {"prices": {"smollm2-135m-instruct": 9}, "currency": "EUR"}
    assert offered_models(load(tmp_path, toml="price = 5"), kept) == {"smollm2-135m-instruct": 5}


def test_a_model_that_no_engine_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has the model 'x'") as caught:
        offered_models(load(tmp_path, models=["x=1"]), {})
    assert "smollm2-135m-instruct" in caught.value.remedy


def test_changes_are_made_to_a_copy() -> None:
    before = describe_host({"a": 1, "b": 2}, currency="USD", location="US", capabilities=["x"])
    after = apply_change(before, OfferChange(models={"c": 3, "a": 5}, remove_models=["b"], location="DE/hesse"))
    assert {offer.model_id: offer.price.micros_per_mtok for offer in after.models if offer.price} == {"a": 5, "c": 3}
    assert (after.location, after.capabilities) == ("DE/hesse", ("x",))
    assert before.model_ids == ("a", "b")
    euro = apply_change(before, OfferChange(currency="EUR"))
    assert {offer.price.currency for offer in euro.models if offer.price} == {"EUR"}
    assert apply_change(before, OfferChange()) == before


@pytest.mark.parametrize(
    "change", [OfferChange(remove_models=["x"]), OfferChange(remove_models=["a"]), OfferChange(location="nowhere")]
)
def test_changes_that_cannot_be_are_refused(change: OfferChange) -> None:
    with pytest.raises(ConfigError):
        apply_change(describe_host({"a": 1}, currency="USD", location=None, capabilities=[]), change)


def test_an_unknown_change_is_refused() -> None:
    with pytest.raises(UsageError):
        OfferChange.from_dict({"colour": "red"})


def test_what_is_kept_adds_up() -> None:
    kept = merge_stored({}, OfferChange(models={"a": 1, "b": 2}, currency="EUR"))
    kept = merge_stored(kept, OfferChange(remove_models=["a"], location="US", capabilities=["gpu"]))
    assert kept == {"prices": {"b": 2}, "removed": ["a"], "currency": "EUR", "location": "US", "capabilities": ["gpu"]}
    assert merge_stored(kept, OfferChange(models={"a": 3}))["removed"] == []


def test_the_store_is_whole_or_absent_and_the_owners_alone(tmp_path: Path) -> None:
    store = OfferStore(tmp_path / "host" / "offer.json")
    assert store.read() == {}
    store.write({"prices": {"a": 1}})
    store.write({"prices": {"a": 2}})
    assert OfferStore(store.path).read() == {"prices": {"a": 2}}
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in store.path.parent.iterdir()] == ["offer.json"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", StoreError),
        (b"[]", StoreError),
        (b'{"version": 1}', StoreError),
        (b'{"version": "1", "offer": {}}', StoreError),
        (b'{"version": 1, "offer": []}', StoreError),
        (b'{"version": 2, "offer": {}}', StoreTooNewError),
        (b" " * 300_000, StoreError),
    ],
)
def test_a_store_that_is_none_is_refused_unchanged(tmp_path: Path, content: bytes, kind: type[StoreError]) -> None:
    path = tmp_path / "offer.json"
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        OfferStore(path).read()
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert path.read_bytes() == content
