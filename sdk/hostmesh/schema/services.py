"""The differences of services: the protocols that they speak, their limits, and their methods. Pure.

A service is its protocol and versions where hostmesh's options name them: these are on the wire, its own name is not.
One without them is its full name. What speaks a version of an old service from now on, stands in its place: the service
of its name where that still speaks it, else whichever does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from hostmesh.schema.change import Change, Pairing, change
from hostmesh.schema.fields import Relate, Role, limit_changes
from hostmesh.schema.model import SERVER_LIMITS, MethodType, Service

_OLD_CLIENTS = (Pairing.OLD_CLIENT_NEW_SERVER,)
_NEW_CLIENTS = (Pairing.NEW_CLIENT_OLD_SERVER,)
_REQUESTS = Role(in_requests=True)
_RESPONSES = Role(in_responses=True)

Follower = Callable[[str], str]
"""Returns the full name that something has in the new set, as far as names tell."""


def service_changes(
    old: Mapping[str, Service], new: Mapping[str, Service], follower: Follower, relate: Relate
) -> Iterator[Change]:
    """Yield what changed of the services of two sets.

    A service with a new version beside the old one is none, and neither is a range that grows.
    """
    speakers: dict[tuple[str, str], Service] = {}
    for service in new.values():
        for version in service.versions:
            speakers.setdefault((service.protocol, version), service)
    for name, service in old.items():
        namesake = new.get(follower(name))
        places = _in_place_of(service, namesake, speakers)
        if places:
            yield from _version_changes(service, places)
            followers = {each.full_name: each for each in places.values()}
            for other in followers.values():
                if namesake not in places.values():
                    yield change("SERVICE_RENAMED", name, service.file, was=name, now=other.full_name)
                yield from _limit_changes(service, other)
                yield from _method_changes(service, other, follower, relate)
        elif namesake is None:
            yield change(
                "SERVICE_REMOVED", name, service.file, was=_text(service), now="removed", pairings=_OLD_CLIENTS
            )
        else:
            same_name = service.protocol == namesake.protocol
            kind = "PROTOCOL_VERSION_CHANGED" if same_name else "PROTOCOL_RENAMED"
            yield change(kind, name, service.file, was=_text(service), now=_text(namesake))


def _in_place_of(
    service: Service, namesake: Service | None, speakers: Mapping[tuple[str, str], Service]
) -> dict[str, Service]:
    """Return by version who speaks what an old service spoke; what nobody speaks any more is not there."""
    found: dict[str, Service] = {}
    for version in service.versions:
        has_protocol = bool(service.protocol or version)
        if namesake is not None and (
            not has_protocol or (service.protocol == namesake.protocol and version in namesake.versions)
        ):
            found[version] = namesake
        elif has_protocol and (service.protocol, version) in speakers:
            found[version] = speakers[service.protocol, version]
    return found


def _version_changes(old: Service, places: Mapping[str, Service]) -> Iterator[Change]:
    if len(places) < len(old.versions):
        missing = [version for version in old.versions if version not in places]
        yield change(
            "PROTOCOL_VERSION_DROPPED",
            old.full_name,
            old.file,
            was=_text(old),
            now=f"without {', '.join(reversed(missing))}",
            pairings=_OLD_CLIENTS,
        )


def _limit_changes(old: Service, new: Service) -> Iterator[Change]:
    """Yield what became of the limits of calls; what was not stated is what servers have where nothing is."""
    for option, default in (("calls_per_peer", SERVER_LIMITS.per_peer), ("calls_of_all", SERVER_LIMITS.per_service)):
        before, after = getattr(old, option), getattr(new, option)
        for name in ("max_concurrent", "calls_per_s", "burst"):
            limits, own = (getattr(before, name), getattr(after, name)), getattr(default, name)
            if limits[0] == limits[1]:
                continue
            is_narrowed = limits[1] < limits[0]
            kind = "CALL_LIMIT_NARROWED" if is_narrowed else "CALL_LIMIT_WIDENED"
            pairings = _OLD_CLIENTS if is_narrowed else _NEW_CLIENTS
            was, now = (
                f"{option}.{name} {str(limit).removesuffix('.0')}{' (as servers have)' if limit == own else ''}"
                for limit in limits
            )
            yield change(kind, old.full_name, old.file, was=was, now=now, pairings=pairings)


def _timeout_changes(old: MethodType, new: MethodType, place: tuple[str, str]) -> Iterator[Change]:
    before, after = old.default_timeout_ms, new.default_timeout_ms
    if before == after:
        return
    is_shorter = before is None or (after is not None and after < before)
    was, now = (f"default_timeout_ms {each}" if each else "no default_timeout_ms" for each in (before, after))
    if after is None:
        yield change("DEFAULT_TIMEOUT_REMOVED", *place, was=was, now=now, pairings=_NEW_CLIENTS)
    else:
        kind = "DEFAULT_TIMEOUT_SHORTENED" if is_shorter else "DEFAULT_TIMEOUT_LENGTHENED"
        yield change(kind, *place, was=was, now=now, pairings=_OLD_CLIENTS if is_shorter else _NEW_CLIENTS)


def _idempotency_changes(old: MethodType, new: MethodType, place: tuple[str, str]) -> Iterator[Change]:
    """Yield what became of calls with a key that are cut off; only those of unary methods have one."""
    if not (old.is_unary and new.is_unary) or bool(old.idempotency_level) == bool(new.idempotency_level):
        return
    was, now = (
        f"idempotency_level {each}" if each else "no idempotency_level"
        for each in (old.idempotency_level, new.idempotency_level)
    )
    if new.idempotency_level:
        yield change("METHOD_NOW_IDEMPOTENT", *place, was=was, now=now, pairings=_NEW_CLIENTS)
    else:
        yield change("METHOD_NO_LONGER_IDEMPOTENT", *place, was=was, now=now, pairings=_OLD_CLIENTS)


def _text(service: Service) -> str:
    if not service.protocol and not service.versions[0]:
        return "no protocol"
    first, last = service.versions[-1], service.versions[0]
    return f"{service.protocol}/{last}" if first == last else f"{service.protocol}/{first} to {last}"


def _method_changes(old: Service, new: Service, follower: Follower, relate: Relate) -> Iterator[Change]:
    namesakes = {method.name: method for method in new.methods}
    known = {method.name for method in old.methods}
    added: dict[tuple[object, ...], list[str]] = {}
    for method in new.methods:
        if method.name not in known:
            added.setdefault((*_streams(method), method.request, method.response), []).append(method.name)
    for method in old.methods:
        namesake = namesakes.get(method.name)
        if namesake is not None:
            yield from _one_method_changes(method, namesake, old.file, relate)
            continue
        alike = added.get((*_streams(method), follower(method.request), follower(method.response)), [])
        if len(alike) == 1:
            yield change("METHOD_RENAMED", method.full_name, old.file, was=method.name, now=alike[0])
        else:
            yield change(
                "METHOD_REMOVED", method.full_name, old.file, was=_shape(method), now="removed", pairings=_OLD_CLIENTS
            )


def _streams(method: MethodType) -> tuple[object, ...]:
    return method.is_client_streaming, method.is_server_streaming


def _one_method_changes(old: MethodType, new: MethodType, file: str, relate: Relate) -> Iterator[Change]:
    place = old.full_name, file
    if _streams(old) != _streams(new):
        yield change("METHOD_STREAMING_CHANGED", *place, was=_shape(old), now=_shape(new))
    for kind, was, now in (
        ("METHOD_REQUEST_CHANGED", old.request, new.request),
        ("METHOD_RESPONSE_CHANGED", old.response, new.response),
    ):
        if was == now:
            continue
        relation = relate(was, now)
        if relation.difference:
            yield change(kind, *place, was=was, now=f"{now} ({relation.difference})")
        elif not relation.is_same:
            yield change("TYPE_REPLACED", *place, was=was, now=now)
    for name, role in (("max_request_bytes", _REQUESTS), ("max_response_bytes", _RESPONSES)):
        yield from limit_changes(name, (getattr(old, name), getattr(new, name)), place, role)
    yield from _timeout_changes(old, new, place)
    yield from _idempotency_changes(old, new, place)


def _shape(method: MethodType) -> str:
    """Return a method as in the .proto: ``Run(a.Request) returns (stream a.Response)``."""
    request = f"stream {method.request}" if method.is_client_streaming else method.request
    response = f"stream {method.response}" if method.is_server_streaming else method.response
    return f"{method.name}({request}) returns ({response})"
