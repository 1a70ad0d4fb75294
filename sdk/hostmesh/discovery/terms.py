"""Values that both a host's record and a client's criteria speak of: price, kind of model, place. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hostmesh.errors import ConfigError
from hostmesh.model_kind import ModelKind as ModelKind

MAX_UINT64 = 2**64 - 1
MAX_REGION_BYTES = 64
_CURRENCY = re.compile(r"[A-Za-z0-9._-]{1,16}\Z")
_COUNTRY = re.compile(r"[A-Z]{2}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price per million tokens, prompt plus completion, in integer micro-units of a named currency.

    0 is free. "No price" is None, never a Price.

    Raises:
        ConfigError: a float, a negative or too great a number, or no currency.

    >>> str(Price(micros_per_mtok=150_000, currency="USD"))
    '0.15 USD/Mtok'
    >>> str(Price(micros_per_mtok=0, currency="USD"))
    'free'
    """

    micros_per_mtok: int
    currency: str

    def __post_init__(self) -> None:
        check_integer(self.micros_per_mtok, name="price", least=0, most=MAX_UINT64)
        if not isinstance(self.currency, str) or not _CURRENCY.match(self.currency):
            raise ConfigError(
                "currency is not 1 to 16 letters, digits or ._-",
                name="currency",
                source="argument",
                remedy='name one currency, such as "USD"',
            )

    def __str__(self) -> str:
        if self.micros_per_mtok == 0:
            return "free"
        whole, micros = divmod(self.micros_per_mtok, 1_000_000)
        fraction = f"{micros:06d}".rstrip("0")
        return f"{whole}{'.' + fraction if fraction else ''} {self.currency}/Mtok"

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON takes them."""
        return {"price_micros_per_mtok": self.micros_per_mtok, "currency": self.currency}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A country and, optionally, a region in it. Always a claim: a round-trip time can refute it, never prove it."""

    country_code: str
    """ISO 3166-1 alpha-2, upper case."""
    region: str | None = None
    """As written; compared without regard to case and surrounding space."""

    def __post_init__(self) -> None:
        if not _COUNTRY.match(self.country_code):
            raise ConfigError(
                f"not a country code: {self.country_code!r}",
                name="location",
                source="argument",
                remedy="two letters after ISO 3166-1, such as US, and optionally a region: US/california",
            )
        if self.region is not None:
            check_text(self.region, name="location", most_bytes=MAX_REGION_BYTES)

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read ``US`` or ``US/california``; the country may be in either case.

        Raises:
            ConfigError: neither.

        >>> Place.parse("us/California")
        Place(country_code='US', region='California')
        """
        if not isinstance(text, str):
            raise ConfigError("location is not a string", name="location", source="argument")
        country, slash, region = text.strip().partition("/")
        return cls(country_code=country.strip().upper(), region=region.strip() if slash else None)

    def lies_in(self, wanted: Place) -> bool:
        """Tell whether this place is ``wanted`` or, where that names no region, anywhere in its country."""
        if self.country_code != wanted.country_code:
            return False
        if wanted.region is None:
            return True
        return self.region is not None and self.region.strip().casefold() == wanted.region.strip().casefold()

    def __str__(self) -> str:
        return self.country_code if self.region is None else f"{self.country_code}/{self.region}"


def check_integer(value: object, *, name: str, least: int, most: int) -> int:
    """Return ``value`` if it is an integer in the range; a bool or float is none.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(
            f"{name} is {value!r}", name=name, source="argument", remedy=f"give an integer from {least} to {most}"
        )
    return value


def check_names(values: object, *, name: str, most_items: int, most_bytes: int) -> tuple[str, ...]:
    """Return the strings as a tuple, duplicates removed, order kept.

    Raises:
        ConfigError: a single string, something that is no string, an empty one, or too many or too long.
    """
    remedy = f"give a list of at most {most_items} names of 1 to {most_bytes} bytes"
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise ConfigError(f"{name} is not a list", name=name, source="argument", remedy=remedy)
    names = tuple(dict.fromkeys(values))
    if len(names) > most_items:
        raise ConfigError(f"{name} has {len(names)} items", name=name, source="argument", remedy=remedy)
    for item in names:
        check_text(item, name=name, most_bytes=most_bytes)
    return names


def check_text(value: object, *, name: str, most_bytes: int) -> str:
    """Return ``value`` if it is a string of 1 to ``most_bytes`` bytes in UTF-8.

    Raises:
        ConfigError: it is not.
    """
    try:
        size = len(value.encode()) if isinstance(value, str) else 0
    except UnicodeEncodeError:
        size = 0  # a lone surrogate, which no protobuf string can carry
    if not 1 <= size <= most_bytes:
        raise ConfigError(
            f"{name} holds {value!r}", name=name, source="argument", remedy=f"give 1 to {most_bytes} bytes of text"
        )
    assert isinstance(value, str)
    return value
