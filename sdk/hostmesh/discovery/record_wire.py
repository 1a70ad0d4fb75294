"""The parts of a host record on the wire, each way. Pure.

Zero and empty mean "not said". What a stranger signed is checked by the value types themselves; the errors name the
record's field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hostmesh.discovery.description import Gpu, Hardware, HostState, ModelOffer, Reachability
from hostmesh.discovery.terms import ModelKind, Place, Price
from hostmesh.errors import ConfigError, InvalidAddressError, RecordInvalidError
from hostmesh.net.address_bytes import address_from_bytes, address_to_bytes
from hostmesh.v1 import discovery_pb2 as pb

KINDS = {
    None: pb.MODEL_KIND_UNSPECIFIED,
    ModelKind.CHAT: pb.MODEL_KIND_CHAT,
    ModelKind.EMBEDDING: pb.MODEL_KIND_EMBEDDING,
}
STATES = {
    HostState.AVAILABLE: pb.HOST_STATE_AVAILABLE,
    HostState.DRAINING: pb.HOST_STATE_DRAINING,
    HostState.WITHDRAWN: pb.HOST_STATE_WITHDRAWN,
}
REACHABILITIES = {
    None: pb.REACHABILITY_UNSPECIFIED,
    Reachability.PUBLIC: pb.REACHABILITY_PUBLIC,
    Reachability.MAPPED: pb.REACHABILITY_MAPPED,
    Reachability.RELAYED: pb.REACHABILITY_RELAYED,
    Reachability.UNREACHABLE: pb.REACHABILITY_UNREACHABLE,
}
KIND_OF = {number: kind for kind, number in KINDS.items()}
STATE_OF = {number: state for state, number in STATES.items()}
REACHABILITY_OF = {number: reachability for reachability, number in REACHABILITIES.items()}


def offer_to_wire(offer: ModelOffer) -> pb.ModelOffer:
    """Return the message of an offer."""
    message = pb.ModelOffer(
        model_id=offer.model_id,
        kind=KINDS[offer.kind],
        context_tokens=offer.context_tokens or 0,
        max_output_tokens=offer.max_output_tokens or 0,
        quantisation=offer.quantisation or "",
        weights_sha256=offer.weights_sha256 or b"",
        engine=offer.engine or "",
        parameters=offer.parameters,
        tokenizer_sha256=offer.tokenizer_sha256 or b"",
        chat_template_sha256=offer.chat_template_sha256 or b"",
        engine_version=offer.engine_version or "",
        output_millitokens_per_s=offer.output_millitokens_per_s or 0,
    )
    if offer.price is not None:
        message.price.price_micros_per_mtok = offer.price.micros_per_mtok
        message.price.currency = offer.price.currency
    return message


def offer_from_wire(message: pb.ModelOffer, index: int) -> ModelOffer:
    """Return the offer of a message, the ``index``-th of its record.

    Raises:
        RecordInvalidError: a value out of its bounds.
    """
    try:
        return ModelOffer(
            model_id=message.model_id,
            kind=KIND_OF.get(message.kind),
            price=(
                Price(micros_per_mtok=message.price.price_micros_per_mtok, currency=message.price.currency)
                if message.HasField("price")
                else None
            ),
            context_tokens=message.context_tokens or None,
            max_output_tokens=message.max_output_tokens or None,
            quantisation=message.quantisation or None,
            weights_sha256=message.weights_sha256 or None,
            engine=message.engine or None,
            parameters=tuple(name for name in message.parameters if name),
            tokenizer_sha256=message.tokenizer_sha256 or None,
            chat_template_sha256=message.chat_template_sha256 or None,
            engine_version=message.engine_version or None,
            output_millitokens_per_s=message.output_millitokens_per_s or None,
        )
    except ConfigError as error:
        field = f"models[{index}].{error.name}"
        raise RecordInvalidError(f"the record's offer is wrong: {error}", field=field) from error


def place_to_wire(place: Place | None) -> pb.Location | None:
    """Return the message of a place."""
    return None if place is None else pb.Location(country_code=place.country_code, region=place.region or "")


def place_from_wire(record: pb.HostRecord) -> Place | None:
    """Return the place that a record claims.

    Raises:
        RecordInvalidError: it is none.
    """
    if not record.HasField("location"):
        return None
    try:
        return Place(country_code=record.location.country_code, region=record.location.region or None)
    except ConfigError as error:
        raise RecordInvalidError("the record's location is wrong", field="location") from error


def hardware_to_wire(hardware: Hardware | None) -> pb.Hardware | None:
    """Return the message of hardware."""
    if hardware is None:
        return None
    return pb.Hardware(
        cpu_model=hardware.cpu_model or "",
        cpu_cores=hardware.cpu_cores or 0,
        memory_mib=hardware.memory_mib or 0,
        gpus=[pb.Gpu(model=gpu.model, memory_mib=gpu.memory_mib or 0, count=gpu.count or 0) for gpu in hardware.gpus],
    )


def hardware_from_wire(record: pb.HostRecord) -> Hardware | None:
    """Return the hardware that a record claims; its bounds are those of the message, checked before."""
    if not record.HasField("hardware"):
        return None
    message = record.hardware
    return Hardware(
        cpu_model=message.cpu_model or None,
        cpu_cores=message.cpu_cores or None,
        memory_mib=message.memory_mib or None,
        gpus=[Gpu(model=gpu.model, memory_mib=gpu.memory_mib or None, count=gpu.count or None) for gpu in message.gpus],
    )


def addresses_to_wire(addresses: Sequence[str]) -> list[bytes]:
    """Return addresses as a record carries them.

    Raises:
        ConfigError: one is malformed.
    """
    try:
        return [address_to_bytes(address) for address in addresses]
    except InvalidAddressError as error:
        raise ConfigError(str(error), name="announce_addresses", source="argument", remedy=error.remedy) from error


def addresses_from_wire(raw: Iterable[bytes]) -> tuple[tuple[str, ...], int]:
    """Return the addresses that can be read, each once, and how many of them cannot."""
    good: dict[str, None] = {}
    dropped = 0
    for item in raw:
        try:
            address = address_from_bytes(item)
        except InvalidAddressError:
            dropped += 1
            continue
        if "/p2p/" in address:
            dropped += 1  # a record names one peer, and it is not for an address to name another
        else:
            good[address] = None
    return tuple(good), dropped
