"""A difference between two sets of .proto files, and the rules by which it breaks what it breaks. Pure.

The rules are those of protobuf's "Updating a Message Type" and of ``buf breaking`` at its WIRE level, and those that
hostmesh adds: bounds, protocol names and versions. The page ``docs/protocols/compatibility.md`` lists each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple


class Severity(Enum):
    """Whether peers of both sides still understand each other."""

    BREAKING = "breaking"
    """They do not, or a later change would break them unseen."""
    WARNING = "warning"
    """They do; but an order has to be kept, or code or JSON breaks."""


class Layer(Enum):
    """What a change breaks."""

    WIRE = "wire"
    JSON = "JSON"
    SOURCE = "source code"


class Pairing(Enum):
    """Two peers of different age."""

    OLD_CLIENT_NEW_SERVER = "old clients with new servers"
    NEW_CLIENT_OLD_SERVER = "new clients with old servers"


class Rule(NamedTuple):
    """What holds for all changes of a kind."""

    severity: Severity
    layers: tuple[Layer, ...]
    why: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference that matters."""

    kind: str
    """The stable code, a key of :data:`RULES`."""
    place: str
    """Full name of what changed, as the old set has it; of what is new, as the new one has it."""
    file: str
    was: str
    now: str
    pairings: tuple[Pairing, ...]
    """Which peers do not understand each other, or, of a warning, may not when the order is not kept; empty: none."""
    remedy: str

    @property
    def severity(self) -> Severity:
        """Whether it is refused."""
        return RULES[self.kind].severity

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What it breaks."""
        return RULES[self.kind].layers

    @property
    def why(self) -> str:
        """What happens to whom, in a sentence."""
        return RULES[self.kind].why

    @property
    def is_breaking(self) -> bool:
        """Whether the check refuses it."""
        return self.severity is Severity.BREAKING

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "kind": self.kind,
            "severity": self.severity.value,
            "place": self.place,
            "file": self.file,
            "was": self.was,
            "now": self.now,
            "layers": [layer.name for layer in self.layers],
            "pairings": [pairing.name for pairing in self.pairings],
            "why": self.why,
            "remedy": self.remedy,
        }


BOTH = (Pairing.OLD_CLIENT_NEW_SERVER, Pairing.NEW_CLIENT_OLD_SERVER)

_ALL = (Layer.WIRE, Layer.JSON, Layer.SOURCE)
_WIRE = (Layer.WIRE,)
_CODE = (Layer.SOURCE,)
_NAMES = (Layer.JSON, Layer.SOURCE)

_NEW_NUMBER = "keep the field as it is and add another under a new number and name"
_BESIDE = "keep it, and put what is new beside it under another name"
_NARROW = "keep the limit as it was, or give the new one to a new protocol version beside the old"


def _breaking(layers: tuple[Layer, ...], why: str, remedy: str) -> Rule:
    return Rule(Severity.BREAKING, layers, why, remedy)


def _warning(layers: tuple[Layer, ...], why: str, remedy: str) -> Rule:
    return Rule(Severity.WARNING, layers, why, remedy)


RULES = MappingProxyType(
    {
        # --- fields ---
        "FIELD_RENUMBERED": _breaking(
            _WIRE,
            "the number is the field's name on the wire: the other side finds nothing, or another field",
            _NEW_NUMBER,
        ),
        "FIELD_TYPE_CHANGED": _breaking(
            _ALL,
            "the other side loses the field, refuses the message, or reads another value out of the same bytes",
            _NEW_NUMBER,
        ),
        "FIELD_TYPE_NARROWED": _breaking(
            _ALL, "values that the new type cannot hold are read as others without a word, or refused", _NEW_NUMBER
        ),
        "FIELD_TYPE_WIDENED": _warning(
            (Layer.JSON, Layer.SOURCE),
            "who knows the old type only reads values beyond it as others, or refuses them",
            "",
        ),
        "FIELD_CARDINALITY_CHANGED": _breaking(
            _ALL,
            "one value and many are read differently: all but the last are dropped, or packed numbers are lost",
            _NEW_NUMBER,
        ),
        "FIELD_ONEOF_CHANGED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "one side may set fields together of which the other keeps the last only",
            "leave the oneof as it is, and check in the handler which fields come together",
        ),
        "FIELD_ONEOF_OF_ONE": _warning(
            _CODE, "a oneof with one field of the old ones reads as before; generated code changes", "adapt the code"
        ),
        "FIELD_DEFAULT_CHANGED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "an absent field means one value to one side and another to the other",
            "keep the default",
        ),
        "FIELD_REMOVED_UNRESERVED": _breaking(
            _NAMES, "nothing keeps the number from another meaning, which peers of today would read as the old one", ""
        ),
        "FIELD_REMOVED": _warning(
            _NAMES,
            "who still reads the field finds it absent from now on",
            "make sure that nobody needs it any more; deprecate it first",
        ),
        "FIELD_REMOVED_NEEDED": _breaking(
            _WIRE, "old readers refuse a message without this field", "keep the field and go on to fill it"
        ),
        "FIELD_ADDED_NEEDED": _breaking(
            _WIRE,
            "new readers refuse the messages of peers that do not know this field",
            "make it optional, or give it no min_bytes",
        ),
        "FIELD_NOW_NEEDED": _breaking(
            _WIRE, "new readers refuse messages without this field, which old peers may send", "leave it optional"
        ),
        "FIELD_NO_LONGER_NEEDED": _warning((), "old readers refuse messages without this field", ""),
        "FIELD_RENAMED": _warning(
            _NAMES,
            "names are not on the wire, but in JSON and in code",
            "if it means something else now, take a new number and reserve the old one; else adapt the code",
        ),
        "FIELD_JSON_NAME_CHANGED": _warning(
            (Layer.JSON,), "JSON of one side is not understood by the other", "keep json_name"
        ),
        "FIELD_PRESENCE_CHANGED": _warning(
            _CODE,
            "an empty value and an absent one are told apart on one side only; generated code changes",
            "adapt the code",
        ),
        "FIELD_PACKING_CHANGED": _warning(
            (), "protobuf reads both forms; a reader written by hand may not", "make sure that every reader takes both"
        ),
        "ONEOF_RENAMED": _warning(_CODE, "the name is in generated code only", "adapt the code"),
        "RESERVED_NUMBER_REUSED": _breaking(
            _WIRE, "older peers may still write the number with its former meaning", "take a number that was never used"
        ),
        "RESERVED_NAME_REUSED": _warning(
            _NAMES, "JSON and code of older peers may still use the name for its former meaning", "take another name"
        ),
        "RESERVATION_REMOVED": _breaking(
            (), "nothing keeps the numbers from another meaning, which older peers would read as the former one", ""
        ),
        "RESERVED_NAME_REMOVED": _warning((), "nothing keeps the name from another meaning in JSON and code", ""),
        "EXTENSION_REMOVED": _breaking(_ALL, "who still reads the extension finds it absent", _BESIDE),
        # --- limits ---
        "LIMIT_NARROWED": _breaking(_WIRE, "new readers refuse messages that old peers may rightly send", _NARROW),
        "LIMIT_WIDENED": _warning((), "old readers refuse messages beyond the old limit", ""),
        "CALL_LIMIT_NARROWED": _breaking(_WIRE, "new servers refuse calls that old clients may rightly make", _NARROW),
        "CALL_LIMIT_WIDENED": _warning(
            (),
            "old servers refuse calls beyond the old limit",
            "update servers first, and stay within the old limit until then",
        ),
        "DEFAULT_TIMEOUT_SHORTENED": _breaking(
            _WIRE, "new servers end calls that old clients leave to the default, and rightly wait for", _NARROW
        ),
        "DEFAULT_TIMEOUT_LENGTHENED": _warning(
            (),
            "old servers end calls that are left to the default earlier",
            "update servers first, and name a deadline until then",
        ),
        "DEFAULT_TIMEOUT_REMOVED": _warning(
            _CODE,
            "old servers end calls that name no deadline; generated clients have to name one",
            "update servers first, and adapt the code",
        ),
        # --- enums ---
        "ENUM_VALUE_RENUMBERED": _breaking(
            _WIRE,
            "the number is the value on the wire: the other side reads another one",
            "keep it and add another value",
        ),
        "ENUM_VALUE_REMOVED_UNRESERVED": _breaking(
            _NAMES, "nothing keeps the number from another meaning, which peers of today would read as the old one", ""
        ),
        "ENUM_VALUE_REMOVED": _warning(
            _NAMES,
            "new readers take the value of older peers as unspecified",
            "make sure that nobody writes it any more",
        ),
        "ENUM_VALUE_RENAMED": _warning(
            _NAMES,
            "names are not on the wire, but in JSON and in code",
            "if it means something else now, take a new number and reserve the old one; else adapt the code",
        ),
        "ENUM_DEFAULT_CHANGED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "an absent field means one value to one side and another to the other",
            "keep the first value",
        ),
        "ENUM_REMOVED": _warning(
            _CODE, "the name is in generated code only; fields of it are told apart", "adapt the code"
        ),
        # --- messages and files ---
        "PAYLOAD_REMOVED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "nothing refers to it, so it may travel inside bytes (signed ones, for example) that older peers send",
            _BESIDE,
        ),
        "MESSAGE_REMOVED": _warning(
            _CODE, "the name is in generated code only; fields and methods of it are told apart", "adapt the code"
        ),
        "TYPE_REPLACED": _warning(
            _CODE,
            "the other type has all that the old one had, so it reads the same; generated code changes",
            "adapt the code",
        ),
        "PACKAGE_CHANGED": _warning(
            _CODE,
            "names of packages are not on hostmesh's wire, but in code and in google.protobuf.Any",
            "adapt the code; keep the package where Any or gRPC carries its types",
        ),
        "SYNTAX_CHANGED": _warning(
            _CODE, "what it changes of fields is told apart; generated code and closed enums change", "adapt the code"
        ),
        # --- services ---
        "SERVICE_REMOVED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "clients that call it find nobody who speaks its protocol",
            "keep it until no client calls it",
        ),
        "SERVICE_RENAMED": _warning(
            _CODE, "the protocol's name is on the wire, the service's is in generated code only", "adapt the code"
        ),
        "PROTOCOL_RENAMED": _breaking(
            _WIRE,
            "the protocol's name is in the id that both sides agree on: neither finds the other",
            "keep the name; a service of another name may stand beside it",
        ),
        "PROTOCOL_VERSION_CHANGED": _breaking(
            _WIRE,
            "the version is in the id that both sides agree on: neither finds the other",
            "keep the old version as min_version where the new one understands all of it; else keep this service and "
            "add one with the new version beside it, so that a node serves both",
        ),
        "PROTOCOL_VERSION_DROPPED": _breaking(
            _WIRE,
            "clients that know no other version find nobody who speaks it",
            "keep it in the range by min_version, or a service of that version beside, until no client needs it",
        ),
        "METHOD_REMOVED": _breaking(
            (Layer.WIRE, Layer.SOURCE), "a call of it ends with UNIMPLEMENTED", "keep it until no client calls it"
        ),
        "METHOD_RENAMED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "the method's name is on the wire: a call under the other name ends with UNIMPLEMENTED",
            "keep it, and add the new name beside it",
        ),
        "METHOD_REQUEST_CHANGED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "one side reads another message than the other wrote",
            "keep it, and add a method beside it",
        ),
        "METHOD_RESPONSE_CHANGED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "one side reads another message than the other wrote",
            "keep it, and add a method beside it",
        ),
        "METHOD_STREAMING_CHANGED": _breaking(
            (Layer.WIRE, Layer.SOURCE),
            "one side sends or awaits one message where the other has many",
            "keep it, and add a method beside it",
        ),
        "METHOD_NO_LONGER_IDEMPOTENT": _breaking(
            _WIRE,
            "new servers answer OUTCOME_UNKNOWN to a call with a key that was cut off, where old clients rightly count "
            "on its being made again",
            "keep the option, and what it promises of the handler; else add a method beside it",
        ),
        "METHOD_NOW_IDEMPOTENT": _warning(
            (),
            "old servers answer OUTCOME_UNKNOWN to a call with a key that was cut off, and do not make it again",
            "update servers first, and count on it then",
        ),
    }
)
"""Every kind of change, by its code."""


def change(
    kind: str,
    place: str,
    file: str,
    *,
    was: str,
    now: str,
    pairings: tuple[Pairing, ...] | None = None,
    remedy: str = "",
) -> Change:
    """Make a change of a kind.

    Args:
        kind: a key of :data:`RULES`.
        place: full name of what changed.
        file: where that stands.
        was: before, as text.
        now: after, as text.
        pairings: whom the wire breaks for; None: both for what breaks the wire, else nobody.
        remedy: in place of the rule's own, where that has to name something.
    """
    rule = RULES[kind]
    if pairings is None:
        pairings = BOTH if Layer.WIRE in rule.layers else ()
    return Change(kind=kind, place=place, file=file, was=was, now=now, pairings=pairings, remedy=remedy or rule.remedy)
