"""The DHT keys under which the hosts of a model are found. Pure; ``unix_s`` is the wall clock.

A model has :data:`SHARDS` keys at a time, each in a neighbourhood of the DHT of its own, and others in each epoch: who
would hide a model has to sit at all of them, and anew every six hours. The epochs of models turn at different times of
the day, so that the hosts of all models do not tell the DHT at once.
"""

from __future__ import annotations

import hashlib

from hostmesh.net.dht_message import content_key

SHARDS = 4
"""Keys of a model at a time. 4 keys of up to 256 records each name about 1,000 hosts a model. All hosts and clients of
a network use the same number."""
ANY_MODEL = "*"
EPOCH_S = 6 * 3600
"""How long a model keeps its keys. Hosts and clients use the same number."""
MAX_CLOCK_ERROR_S = 60.0
"""So near to a turn both epochs are asked: a host's clock and ours may each be 30 s off."""
MIN_LEAD_S = 900.0
"""A host provides under the next epoch's keys so long before the turn at least, so that a round may fail; ..."""
MAX_LEAD_S = 1800.0
"""... and so long at most: each draws its own lead."""


def model_key(network: str, model_id: str, shard: int, *, epoch: int, country_code: str | None = None) -> bytes:
    """Return the DHT key of a model's shard in an epoch, anywhere or in one country.

    >>> model_key("hostmesh", "*", 0, epoch=0).hex()[:4]
    '1220'
    """
    place = f"model-country/{country_code}" if country_code else "model"
    return content_key(f"hostmesh/{network}/{place}/{model_id}/{epoch}/{shard}")


def epoch_of(model_id: str, unix_s: float) -> int:
    """Return the number of a model's epoch at a time.

    >>> epoch_of("llama", 1_700_000_000.0) == epoch_of("llama", 1_700_000_000.0 + EPOCH_S) - 1
    True
    """
    return int((unix_s + _offset_s(model_id)) // EPOCH_S)


def next_turn_s(model_id: str, unix_s: float) -> float:
    """Return how many seconds after a time the model's next epoch begins, above 0.

    >>> epoch_of("llama", 5.0 + next_turn_s("llama", 5.0)) - epoch_of("llama", 5.0)
    1
    """
    return EPOCH_S - (unix_s + _offset_s(model_id)) % EPOCH_S


def asked_epochs(model_id: str, unix_s: float) -> list[int]:
    """Return the epochs under whose keys hosts of a model are to be sought, one or two."""
    epochs = {epoch_of(model_id, unix_s + error_s) for error_s in (-MAX_CLOCK_ERROR_S, MAX_CLOCK_ERROR_S)}
    return sorted(epochs)


def provided_epochs(model_id: str, unix_s: float, lead_s: float) -> list[int]:
    """Return the epochs under whose keys a host is to be found, one or two."""
    return sorted({epoch_of(model_id, unix_s), epoch_of(model_id, unix_s + lead_s)})


def _offset_s(model_id: str) -> int:
    return int.from_bytes(hashlib.sha256(model_id.encode("utf-8")).digest()[:4], "big") % EPOCH_S
