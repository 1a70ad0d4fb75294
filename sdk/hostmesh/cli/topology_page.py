"""One HTML page with a picture of the network as a node sees it. Pure.

The page needs nothing but itself and has no script; its content security policy names its style by its hash and forbids
everything else. What peers said stands in it as text: control characters and bidi marks are shown by their escapes, the
rest is escaped for HTML, and no name becomes an id or a class.

The picture: this node in the middle, around it a ring of connected peers, one of hosts that are known, and one of peers
that others told of. The same topology gives the same page.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape as escape_html
from importlib import resources

from hostmesh.cli.terminal import escape, field
from hostmesh.discovery.topology import NetworkTopology, PeerKind, RelationKind, TopologyHost, TopologyPeer

MAX_DRAWN = 600
"""Circles in the picture, this node among them; what is left out is told, and stands in the tables."""
MAX_DRAWN_RELATIONS = 1500
MAX_ROWS = 2000
"""Of each table."""
_RING_GAP = 190.0
"""From ring to ring: room for a label."""
_ARC = 17.0
"""Along a ring, from label to label."""
_LABEL_CHARS = 24
_SHORT_CHARS = 8
_LEGEND = (
    ("self", "this node"),
    ("bootstrap", "bootstrap node"),
    ("host", "host"),
    ("node", "other node"),
    ("named", "told of by others"),
    ("other", "speaks nothing of this network, or has not said so"),
)


@dataclass(frozen=True, slots=True)
class _Dot:
    """A circle of the picture."""

    number: int
    x: float
    y: float
    angle: float
    look: str
    label: str
    title: str


def topology_page(topology: NetworkTopology) -> str:
    """Return a self-contained HTML page that draws a topology.

    Cost: linear in the topology; its size is bounded by the topology's bounds.
    """
    style = _part("topology_page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
    rings = _rings(topology)
    dots = _place(topology, rings)
    drawn = sum(map(len, rings)) + 1
    named = sum(each.kind is RelationKind.NAMED for each in topology.relations)
    facts = {
        "node": topology.peer_id,
        "at": datetime.fromtimestamp(topology.at_unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "addresses": ", ".join(topology.addresses) or "none",
        "reachability": topology.reachability or "not known",
        "connected peers": len(topology.peers),
        "hosts": len(topology.hosts),
        "relations": f"{named} named, {len(topology.relations) - named} introduced",
        "drawn": drawn,
        "left out": topology.left_out,
    }
    return _part("topology_page.html").format(
        title=f"The network as {_text(_short(topology.peer_id))} sees it",
        policy=policy,
        style=style,
        about="".join(
            f"<div><dt>{_text(name)}</dt><dd>{_text(field(str(value), max_chars=2000))}</dd></div>"
            for name, value in facts.items()
        ),
        legend="".join(f'<span class="{look}">{_text(words)}</span>' for look, words in _LEGEND)
        + " Line: this node dialled; dashed: the peer did; thin: who told of whom.",
        picture=_picture(topology, dots),
        tables="\n".join(_tables(topology, dots)),
    )


# --- the picture ---


def _rings(topology: NetworkTopology) -> list[list[str]]:
    """Return who stands in which ring, each near the one that told of it."""
    connected: list[str] = [each.peer_id for each in topology.peers]
    place = {peer_id: number for number, peer_id in enumerate(connected)}
    teller: dict[str, int] = {}
    others: dict[str, None] = {}
    for each in topology.relations:
        teller[each.of] = min(teller.get(each.of, len(place)), place.get(each.by, len(place)))
        others[each.of] = others[each.by] = None

    def near(peer_id: str) -> tuple[int, str]:
        return teller.get(peer_id, len(place)), peer_id

    hosts: list[str] = sorted((each.peer_id for each in topology.hosts if each.peer_id not in place), key=near)
    known = {topology.peer_id, *connected, *hosts}
    heard_of = sorted((peer_id for peer_id in others if peer_id not in known), key=near)
    rings: list[list[str]] = []
    room = MAX_DRAWN - 1
    for ring in (connected, hosts, heard_of):
        rings.append(ring[:room])
        room -= len(rings[-1])
    return rings


def _place(topology: NetworkTopology, rings: Sequence[Sequence[str]]) -> dict[str, _Dot]:
    peers: dict[str, TopologyPeer] = {each.peer_id: each for each in topology.peers}
    hosts: dict[str, TopologyHost] = {each.peer_id: each for each in topology.hosts}
    own = _Dot(0, 0.0, 0.0, 0.0, "self", "", f"this node\n{topology.peer_id}")
    dots = {str(topology.peer_id): own}
    radius = 0.0
    for ring in rings:
        if not ring:
            continue
        radius = max(radius + _RING_GAP, len(ring) * _ARC / math.tau)
        for index, peer_id in enumerate(ring):
            angle = math.tau * index / len(ring)
            peer, host = peers.get(peer_id), hosts.get(peer_id)
            dots[peer_id] = _Dot(
                len(dots),
                radius * math.cos(angle),
                radius * math.sin(angle),
                angle,
                _look(peer, host),
                _label(peer_id, host),
                _title(peer_id, peer, host),
            )
    return dots


def _look(peer: TopologyPeer | None, host: TopologyHost | None) -> str:
    if peer is not None and peer.is_bootstrap:
        return "bootstrap"
    if host is not None or (peer is not None and PeerKind.HOST in peer.kinds):
        return "host"
    if peer is None:
        return "named"
    return "node" if peer.kinds else "other"


def _label(peer_id: str, host: TopologyHost | None) -> str:
    model = f" {host.models[0]}" if host is not None and host.models else ""
    return field(_short(peer_id) + model, max_chars=_LABEL_CHARS)


def _title(peer_id: str, peer: TopologyPeer | None, host: TopologyHost | None) -> str:
    lines = [peer_id]
    if peer is not None:
        lines += [f"{_way(each.is_outbound)} {each.address or '?'}" for each in peer.connections]
        lines.append(f"round trip {_ms(peer.rtt_ms)}")
    if host is not None:
        lines.append(f"host, {host.state}, {host.place or 'place not said'}: {', '.join(host.models)}")
        lines.append(f"heard of by {', '.join(host.sources) or 'itself'}")
    return "\n".join(map(field, lines))


def _picture(topology: NetworkTopology, dots: dict[str, _Dot]) -> str:
    reach = max((math.hypot(dot.x, dot.y) for dot in dots.values()), default=0.0) + _RING_GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="this node, its peers, and the hosts it knows" '
        f'width="{2 * reach:.0f}" height="{2 * reach:.0f}" '
        f'viewBox="{-reach:.0f} {-reach:.0f} {2 * reach:.0f} {2 * reach:.0f}">'
    )
    parts = [head]
    for relation in topology.relations[:MAX_DRAWN_RELATIONS]:
        by, of = dots.get(relation.by), dots.get(relation.of)
        if by is not None and of is not None:
            # Bent towards the middle, so that two in one ring are joined within it.
            bend_x, bend_y = (by.x + of.x) / 3, (by.y + of.y) / 3
            parts.append(
                f'<path class="relation-{relation.kind.value}" '
                f'd="M{by.x:.1f} {by.y:.1f}Q{bend_x:.1f} {bend_y:.1f} {of.x:.1f} {of.y:.1f}"/>'
            )
    for peer in topology.peers:
        dot = dots.get(peer.peer_id)
        if dot is not None:
            way = "outbound" if peer.connections[0].is_outbound else "inbound"
            parts.append(f'<line class="{way}" x1="0" y1="0" x2="{dot.x:.1f}" y2="{dot.y:.1f}"/>')
    parts += [_circle(dot) for dot in dots.values()]
    parts.append("</svg>")
    return "\n".join(parts)


def _circle(dot: _Dot) -> str:
    # Of the left half, labels are turned so that nobody reads upside down.
    is_left = math.cos(dot.angle) < -1e-9
    turn = math.degrees(dot.angle) + (180 if is_left else 0)
    at_x, anchor = (-11, "end") if is_left else (11, "start")
    return (
        f'<g id="p{dot.number}" transform="translate({dot.x:.1f} {dot.y:.1f})"><title>{_text(dot.title)}</title>'
        f'<circle class="{dot.look}" r="{9 if dot.look == "self" else 6}"/>'
        f'<text x="{at_x}" y="4" text-anchor="{anchor}" transform="rotate({turn:.2f})">{_text(dot.label)}</text></g>'
    )


# --- the tables ---


def _tables(topology: NetworkTopology, dots: dict[str, _Dot]) -> Iterable[str]:
    def peer_cell(peer_id: str | None) -> str:
        if peer_id is None:
            return ""
        dot = dots.get(peer_id)
        text = f"<bdi>{_text(field(peer_id))}</bdi>"
        return text if dot is None else f'<a href="#p{dot.number}">{text}</a>'

    yield _table(
        "Connected peers",
        ("peer", "dialled by", "address", "round trip", "is", "protocols"),
        [
            (
                peer_cell(each.peer_id),
                _cell(_way(connection.is_outbound)),
                _cell(connection.address or "?"),
                _cell(_ms(connection.rtt_ms)),
                _cell(", ".join([*(["bootstrap"] if each.is_bootstrap else []), *(kind.value for kind in each.kinds)])),
                _cell(len(each.protocols)),
            )
            for each in topology.peers
            for connection in each.connections
        ],
    )
    yield _table(
        "Hosts known",
        ("host", "state", "models", "place (claimed)", "operator", "heard of by", "record from"),
        [
            (
                peer_cell(each.peer_id),
                _cell(each.state),
                _cell(", ".join(each.models)),
                _cell(each.place),
                _cell(each.operator),
                _cell(", ".join(each.sources)),
                peer_cell(each.introducer) or "itself",
            )
            for each in topology.hosts
        ],
    )
    yield _table(
        "Who told of whom",
        ("teller", "told of", "how", "heard by"),
        [
            (peer_cell(each.by), peer_cell(each.of), _cell(each.kind.value), _cell(each.source))
            for each in topology.relations
        ],
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows[:MAX_ROWS])
    more = f", the first {MAX_ROWS} of them" if len(rows) > MAX_ROWS else ""
    columns = "".join(f"<th>{_text(each)}</th>" for each in head)
    return (
        f"<table><caption>{_text(caption)}: {len(rows)}{more}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>\n{body}\n</tbody></table>"
    )


def _cell(value: object) -> str:
    return f"<bdi>{_text(field(str(value)))}</bdi>"


def _way(is_outbound: bool) -> str:
    return "us" if is_outbound else "the peer"


def _ms(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f} ms"


def _short(peer_id: str) -> str:
    return peer_id[-_SHORT_CHARS:]


def _text(value: object) -> str:
    return escape_html(escape(str(value), keep_layout=True))


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
