"""Addresses and hashes, against the vectors of EIP-55 and of Keccak's authors."""

import pytest

from hostmesh.errors import UsageError
from hostmesh.identity.address import address_to_text, keccak256, parse_address

# EIP-55, "Test Cases".
CHECKSUMMED = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("text", CHECKSUMMED)
def test_the_checksum_is_that_of_eip_55(text: str) -> None:
    raw = bytes.fromhex(text[2:])
    assert address_to_text(raw) == text
    assert parse_address(text) == raw
    assert parse_address(text.lower()) == raw
    assert parse_address("0X" + text[2:].upper()) == raw


@pytest.mark.parametrize("text", CHECKSUMMED[4:])
def test_one_letter_in_the_wrong_case_is_a_typing_error(text: str) -> None:
    at = next(index for index in range(2, 42) if text[index].isalpha())
    with pytest.raises(UsageError, match="checksum"):
        parse_address(text[:at] + text[at].swapcase() + text[at + 1 :])


@pytest.mark.parametrize(
    "text", ["", "0x", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x" + "1" * 39, "0x" + "1" * 41, "0x" + "g" * 40]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


@pytest.mark.parametrize("size", [0, 19, 21])
def test_an_address_has_20_bytes(size: int) -> None:
    with pytest.raises(UsageError):
        address_to_text(bytes(size))


def test_the_hash_is_keccak_and_not_sha3() -> None:
    # Ethereum yellow paper: KEC(()); Keccak team, KAT of Keccak-256 for "abc".
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
