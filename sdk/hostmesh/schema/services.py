"""The differences of services: the protocols that they speak, and their methods. Pure.

A service is its protocol and version where hostmesh's options name them: these are on the wire, its own name is not.
One without them is its full name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from hostmesh.schema.change import Change, Pairing, change
from hostmesh.schema.fields import Relate, Role, limit_changes
from hostmesh.schema.model import MethodType, Service

_OLD_CLIENTS = (Pairing.OLD_CLIENT_NEW_SERVER,)
_REQUESTS = Role(in_requests=True)
_RESPONSES = Role(in_responses=True)

Follower = Callable[[str], str]
"""Returns the full name that something has in the new set, as far as names tell."""


def service_changes(
    old: Mapping[str, Service], new: Mapping[str, Service], follower: Follower, relate: Relate
) -> Iterator[Change]:
    """Yield what changed of the services of two sets.

    A service with a new version beside the old one is none.
    """
    by_protocol: dict[tuple[str, str], Service] = {}
    for service in new.values():
        by_protocol.setdefault((service.protocol, service.version), service)
    for name, service in old.items():
        namesake = new.get(follower(name))
        speaks = (service.protocol, service.version)
        if namesake is not None and speaks in (("", ""), (namesake.protocol, namesake.version)):
            yield from _method_changes(service, namesake, follower, relate)
        elif speaks != ("", "") and speaks in by_protocol:
            other = by_protocol[speaks]
            yield change("SERVICE_RENAMED", name, service.file, was=name, now=other.full_name)
            yield from _method_changes(service, other, follower, relate)
        elif namesake is None:
            yield change(
                "SERVICE_REMOVED", name, service.file, was=_text(service), now="removed", pairings=_OLD_CLIENTS
            )
        else:
            same_name = service.protocol == namesake.protocol
            kind = "PROTOCOL_VERSION_CHANGED" if same_name else "PROTOCOL_RENAMED"
            yield change(kind, name, service.file, was=_text(service), now=_text(namesake))


def _text(service: Service) -> str:
    return f"{service.protocol}/{service.version}" if service.protocol or service.version else "no protocol"


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


def _shape(method: MethodType) -> str:
    """Return a method as in the .proto: ``Run(a.Request) returns (stream a.Response)``."""
    request = f"stream {method.request}" if method.is_client_streaming else method.request
    response = f"stream {method.response}" if method.is_server_streaming else method.response
    return f"{method.name}({request}) returns ({response})"
