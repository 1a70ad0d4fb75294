from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.peer.envelope import make_unsigned, unmarshal_envelope

from hostmesh.errors import RemoteProtocolError
from hostmesh.net.envelope import open_envelope, seal_envelope
from hostmesh.net.peer_key import PeerKey

seeds = st.binary(min_size=32, max_size=32)
domains = st.text(min_size=1, max_size=200)
kinds = st.binary(min_size=1, max_size=200)


@given(seeds, domains, kinds, st.binary(max_size=2000))
def test_libp2p_accepts_whatever_we_seal(seed: bytes, domain: str, kind: bytes, payload: bytes) -> None:
    data = seal_envelope(PeerKey(seed), domain=domain, payload_type=kind, payload=payload)
    unmarshal_envelope(data).validate(domain)
    opened = open_envelope(data, domain=domain, payload_type=kind, max_bytes=len(data))
    assert opened.payload == payload
    assert make_unsigned(domain, kind, payload)


@given(st.binary(max_size=400))
def test_garbage_raises_only_the_remote_family(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        open_envelope(data, domain="d", payload_type=b"t", max_bytes=400)


@given(seeds, domains, domains, kinds)
def test_a_seal_holds_for_its_domain_only(seed: bytes, domain: str, other: str, kind: bytes) -> None:
    data = seal_envelope(PeerKey(seed), domain=domain, payload_type=kind, payload=b"x")
    if domain != other:
        with pytest.raises(RemoteProtocolError):
            open_envelope(data, domain=other, payload_type=kind, max_bytes=len(data))
