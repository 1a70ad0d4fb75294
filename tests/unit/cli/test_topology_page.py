"""The page with a picture of the network: parsed as a browser would, and fed with what peers could say to break it."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

from hostmesh.cli.topology_page import MAX_DRAWN, topology_page
from hostmesh.discovery.topology import (
    NetworkTopology,
    PeerKind,
    Relation,
    RelationKind,
    TopologyHost,
    TopologyPeer,
)
from hostmesh.net.connection_view import ConnectionView
from hostmesh.net.peer_id import PeerId

HOSTILE = (
    "</title></svg></style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{style}{0.__class__}",
    "\u202egnp.exe\u2066",
    "a\x1b]0;title\x07\r\nb",
    "<!--",
    "]]>",
    "\ud800",
    "x" * 100_000,
)
VOID = {"meta", "circle", "line", "path"}


class Page(HTMLParser):
    """What elements a page has, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def peer_id(number: int) -> PeerId:
    return PeerId(f"12D3KooW{number:044d}")


def a_peer(number: int, **changes: object) -> TopologyPeer:
    view = ConnectionView(
        peer_id=peer_id(number), is_outbound=number % 2 == 0, address=f"/ip4/8.8.8.{number % 250}/tcp/1", rtt_ms=12.34,
        lasted_s=5.0,
    )  # fmt: skip
    usual = TopologyPeer(
        peer_id=peer_id(number), connections=(view,), kinds=(PeerKind.NODE,), protocols=("/a/1",), is_bootstrap=False
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def a_host(number: int, **changes: object) -> TopologyHost:
    usual = TopologyHost(
        peer_id=peer_id(number), operator="0x00", state="available", models=("m",), place="DE", addresses=(),
        sources=("dht",), introducer=None,
    )  # fmt: skip
    return replace(usual, **changes)  # type: ignore[arg-type]


def a_topology(**changes: object) -> NetworkTopology:
    usual = NetworkTopology(
        peer_id=peer_id(0), addresses=("/ip4/8.8.8.8/tcp/1",), reachability=None, peers=(), hosts=(), relations=(),
        left_out=0, at_unix_s=1_790_000_000.0,
    )  # fmt: skip
    return replace(usual, **changes)  # type: ignore[arg-type]


def of_200() -> NetworkTopology:
    """60 peers, 100 hosts, some of them peers, and 60 that were named only."""
    told = [
        Relation(kind=RelationKind.NAMED, by=peer_id(1 + each % 60), of=peer_id(140 + each), source="dht")
        for each in range(60)
    ]
    return a_topology(
        peers=tuple(map(a_peer, range(1, 61))), hosts=tuple(map(a_host, range(40, 140))), relations=tuple(told)
    )


def circles(page: Page) -> list[dict[str, str | None]]:
    return page.all("circle")


def test_a_lone_node() -> None:
    page = Page(topology_page(a_topology()))
    assert [each["class"] for each in circles(page)] == ["self"]
    assert ("title", "this node\n" + peer_id(0)) in page.texts


def test_each_has_one_circle_of_its_kind() -> None:
    page = Page(
        topology_page(
            a_topology(
                peers=(
                    a_peer(1, is_bootstrap=True),
                    a_peer(2),
                    a_peer(3, kinds=()),
                    a_peer(4, kinds=(PeerKind.HOST, PeerKind.NODE)),
                ),
                hosts=(a_host(4), a_host(5, introducer=peer_id(2))),
                relations=(
                    Relation(kind=RelationKind.INTRODUCED, by=peer_id(2), of=peer_id(5), source="announce"),
                    Relation(kind=RelationKind.NAMED, by=peer_id(1), of=peer_id(6), source="dht"),
                ),
            )
        )
    )
    looks = [each["class"] for each in circles(page)]
    assert looks == ["self", "bootstrap", "node", "other", "host", "host", "named"]
    assert [each["class"] for each in page.all("line")] == ["inbound", "outbound", "inbound", "outbound"]
    assert [each["class"] for each in page.all("path")] == ["relation-introduced", "relation-named"]


def test_tables_say_what_the_picture_shows() -> None:
    page = Page(topology_page(of_200()))
    cells = {text for tag, text in page.texts if tag == "bdi"}
    assert {peer_id(1), peer_id(40), peer_id(199), "12.3 ms", "/ip4/8.8.8.7/tcp/1", "dht", "DE"} <= cells
    targets = {f"#{each['id']}" for each in page.all("g")}
    assert {each["href"] for each in page.all("a")} <= targets


def test_200_nodes_can_be_told_apart() -> None:
    page = Page(topology_page(of_200()))
    places = []
    for group in page.all("g"):
        numbers = re.fullmatch(r"translate\((-?[0-9.]+) (-?[0-9.]+)\)", str(group["transform"]))
        assert numbers is not None
        places.append((float(numbers[1]), float(numbers[2])))
    assert len(places) == 200
    # Labels are turned along the radius, each 11 px high: nobody is nearer than that.
    nearest = min(math.dist(one, other) for index, one in enumerate(places) for other in places[:index])
    assert nearest >= 14
    (svg,) = page.all("svg")
    left, top, width, height = (float(each) for each in str(svg["viewbox"]).split())
    assert all(left < x < left + width and top < y < top + height for x, y in places)


def test_the_same_topology_gives_the_same_page() -> None:
    assert topology_page(of_200()) == topology_page(of_200())


def test_what_peers_say_stays_text() -> None:
    for text in HOSTILE:
        bad = a_topology(
            addresses=(text,),
            reachability=text,
            peers=(
                a_peer(
                    1,
                    protocols=(text,),
                    connections=(
                        ConnectionView(peer_id=peer_id(1), is_outbound=False, address=text, rtt_ms=None, lasted_s=0.0),
                    ),
                ),
            ),
            hosts=(a_host(2, models=(text, text), place=text, operator=text, state=text, sources=(text,)),),
            relations=(Relation(kind=RelationKind.NAMED, by=PeerId(text), of=PeerId(text + "2"), source=text),),
        )
        raw = topology_page(bad)
        page = Page(raw)
        usual = Page(
            topology_page(
                a_topology(
                    peers=(a_peer(1),),
                    hosts=(a_host(2),),
                    relations=(Relation(kind=RelationKind.NAMED, by=peer_id(3), of=peer_id(4), source="dht"),),
                )
            )
        )
        assert [tag for tag, _ in page.elements] == [tag for tag, _ in usual.elements], text[:40]
        allowed = {"id", "class", "href"}
        for (_, attributes), (_, expected) in zip(page.elements, usual.elements, strict=True):
            assert attributes.keys() == expected.keys()
            assert all(attributes[name] == expected[name] for name in allowed & attributes.keys())
        assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f]", raw)
        raw.encode("utf-8")
        assert len(raw) < 100_000


def test_the_page_loads_and_runs_nothing() -> None:
    raw = topology_page(of_200())
    page = Page(raw)
    policy = str(next(each["content"] for each in page.all("meta") if each.get("http-equiv")))
    style = raw.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "image", "use", "foreignobject"}
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "style", "xlink:href")}
    assert all(str(each["href"]).startswith("#") for each in page.all("a"))
    assert "url(" not in style
    assert "@import" not in style


def test_a_huge_network_is_bounded_and_says_so() -> None:
    many = a_topology(hosts=tuple(map(a_host, range(1, 1500))), left_out=7)
    raw = topology_page(many)
    assert len(circles(Page(raw))) == MAX_DRAWN
    assert "Hosts known: 1499" in raw
    assert len(raw) < 1_500_000
