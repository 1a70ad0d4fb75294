"""Pairs of small .proto files, and what is to be said of the change from one to the other.

Truth: protobuf's "Updating a Message Type", and hostmesh's own bounds.
"""

from __future__ import annotations

from hostmesh.schema.change import Pairing

OLD_CLIENTS = (Pairing.OLD_CLIENT_NEW_SERVER,)
NEW_CLIENTS = (Pairing.NEW_CLIENT_OLD_SERVER,)
BOTH = OLD_CLIENTS + NEW_CLIENTS

PROTO2 = 'syntax = "proto2"; package t;\n'
BARE = 'syntax = "proto3"; package t;\n'
MESSAGES = "message Q { bytes a = 1 [(max_bytes) = 9]; } message R { bytes a = 1 [(max_bytes) = 9]; }\n"
ID = 'option (protocol) = "p"; option (version) = "1.0.0";'


def spoken(version: str, min_version: str, name: str = "S") -> str:
    """A service that speaks a range of versions."""
    options = f'option (protocol) = "p"; option (version) = "{version}"; option (min_version) = "{min_version}";'
    return f"service {name} {{ {options} rpc Call(Q) returns (R); }}"


def limited(limits: str) -> str:
    """A service that states limits of its calls."""
    return service(f"{ID} {limits} rpc Call(Q) returns (R);")


def timed(option: str) -> str:
    """A service with an option of its method."""
    return service(f"{ID} rpc Call(Q) returns (R) {{ {option} }}")


def message(body: str) -> str:
    """A message that travels in requests only."""
    return f"message M {{ {body} }} message R {{}} service S {{ rpc Call(M) returns (R); }}"


def answer(body: str) -> str:
    """A message that travels in responses only."""
    return f"message M {{ {body} }} message R {{}} service S {{ rpc Call(R) returns (M); }}"


def enum(body: str) -> str:
    return f"enum E {{ {body} }} message M {{ E e = 1; }}"


def service(body: str, messages: str = MESSAGES) -> str:
    return f"{messages} service S {{ {body} }}"


CHANGES: dict[str, tuple[str, str, dict[str, tuple[str, tuple[Pairing, ...]]]]] = {
    # --- fields ---
    "renumbered": (message("int32 a = 1;"), message("int32 a = 2;"), {"FIELD_RENUMBERED": ("t.M.a", BOTH)}),
    "retyped": (
        message("int32 a = 1;"),
        message("string a = 1 [(max_bytes) = 1];"),
        {"FIELD_TYPE_CHANGED": ("t.M.a", BOTH)},
    ),
    "retyped, same wire type": (
        message("int32 a = 1;"),
        message("sint32 a = 1;"),
        {"FIELD_TYPE_CHANGED": ("t.M.a", BOTH)},
    ),
    "narrower in a request": (
        message("int64 a = 1;"),
        message("int32 a = 1;"),
        {"FIELD_TYPE_NARROWED": ("t.M.a", OLD_CLIENTS)},
    ),
    "narrower in a response": (
        answer("int64 a = 1;"),
        answer("int32 a = 1;"),
        {"FIELD_TYPE_NARROWED": ("t.M.a", NEW_CLIENTS)},
    ),
    "other sign": (message("int32 a = 1;"), message("uint32 a = 1;"), {"FIELD_TYPE_NARROWED": ("t.M.a", BOTH)}),
    "wider in a request": (
        message("int32 a = 1;"),
        message("int64 a = 1;"),
        {"FIELD_TYPE_WIDENED": ("t.M.a", NEW_CLIENTS)},
    ),
    "wider in a response": (
        answer("uint32 a = 1;"),
        answer("uint64 a = 1;"),
        {"FIELD_TYPE_WIDENED": ("t.M.a", OLD_CLIENTS)},
    ),
    "string becomes bytes": (
        message("string a = 1 [(max_bytes) = 9];"),
        message("bytes a = 1 [(max_bytes) = 9];"),
        {"FIELD_TYPE_WIDENED": ("t.M.a", NEW_CLIENTS)},
    ),
    "bytes become a string": (
        message("bytes a = 1 [(max_bytes) = 9];"),
        message("string a = 1 [(max_bytes) = 9];"),
        {"FIELD_TYPE_NARROWED": ("t.M.a", OLD_CLIENTS)},
    ),
    "one becomes many": (
        message("int32 a = 1;"),
        message("repeated int32 a = 1 [(max_items) = 2];"),
        {"FIELD_CARDINALITY_CHANGED": ("t.M.a", BOTH)},
    ),
    "removed": (message("int32 a = 1;"), message(""), {"FIELD_REMOVED_UNRESERVED": ("t.M.a", ())}),
    "removed, name reserved only": (
        message("int32 a = 1;"),
        message('reserved "a";'),
        {"FIELD_REMOVED_UNRESERVED": ("t.M.a", ())},
    ),
    "removed and reserved": (
        message("int32 a = 7;"),
        message('reserved 5 to 9; reserved "a";'),
        {"FIELD_REMOVED": ("t.M.a", ())},
    ),
    "removed, old servers need it": (
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];"),
        message('reserved 1; reserved "a";'),
        {"FIELD_REMOVED": ("t.M.a", ()), "FIELD_REMOVED_NEEDED": ("t.M.a", NEW_CLIENTS)},
    ),
    "added, new servers need it": (
        message(""),
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];"),
        {"FIELD_ADDED_NEEDED": ("t.M.a", OLD_CLIENTS)},
    ),
    "absence is told no more": (
        message("optional bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];"),
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];"),
        {"FIELD_NOW_NEEDED": ("t.M.a", OLD_CLIENTS)},
    ),
    "absence is told": (
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];"),
        message("optional bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];"),
        {"FIELD_NO_LONGER_NEEDED": ("t.M.a", NEW_CLIENTS)},
    ),
    "proto2 required": (
        PROTO2 + "message M { optional int32 a = 1; }",
        PROTO2 + "message M { required int32 a = 1; }",
        {"FIELD_NOW_NEEDED": ("t.M.a", BOTH)},
    ),
    "presence": (message("int32 a = 1;"), message("optional int32 a = 1;"), {"FIELD_PRESENCE_CHANGED": ("t.M.a", ())}),
    "renamed": (message("int32 a = 1;"), message("int32 b = 1;"), {"FIELD_RENAMED": ("t.M.a", ())}),
    "json_name": (
        message("int32 a = 1;"),
        message('int32 a = 1 [json_name = "x"];'),
        {"FIELD_JSON_NAME_CHANGED": ("t.M.a", ())},
    ),
    "packing": (
        message("repeated int32 a = 1 [(max_items) = 2];"),
        message("repeated int32 a = 1 [(max_items) = 2, packed = false];"),
        {"FIELD_PACKING_CHANGED": ("t.M.a", ())},
    ),
    "default": (
        PROTO2 + "message M { optional int32 a = 1 [default = 5]; }",
        PROTO2 + "message M { optional int32 a = 1 [default = 6]; }",
        {"FIELD_DEFAULT_CHANGED": ("t.M.a", BOTH)},
    ),
    "into a oneof with an old field": (
        message("oneof x { int32 a = 1; } int32 b = 2;"),
        message("oneof x { int32 a = 1; int32 b = 2; }"),
        {"FIELD_ONEOF_CHANGED": ("t.M.b", BOTH)},
    ),
    "out of a oneof of several": (
        message("oneof x { int32 a = 1; int32 b = 2; }"),
        message("oneof x { int32 a = 1; } optional int32 b = 2;"),
        {"FIELD_ONEOF_CHANGED": ("t.M.b", BOTH)},
    ),
    "into a oneof of its own": (
        message("optional int32 a = 1;"),
        message("oneof x { int32 a = 1; int32 b = 2; }"),
        {"FIELD_ONEOF_OF_ONE": ("t.M.a", ())},
    ),
    "oneof renamed": (
        message("oneof x { int32 a = 1; int32 b = 2; }"),
        message("oneof y { int32 a = 1; int32 b = 2; int32 c = 3; }"),
        {"ONEOF_RENAMED": ("t.M.x", ())},
    ),
    "a reserved number is used": (
        message("reserved 3;"),
        message("int32 a = 3;"),
        {"RESERVED_NUMBER_REUSED": ("t.M.a", BOTH)},
    ),
    "a reserved name is used": (
        message('reserved "a";'),
        message("int32 a = 3;"),
        {"RESERVED_NAME_REUSED": ("t.M.a", ())},
    ),
    "a reservation is gone": (
        message("reserved 3 to 9;"),
        message("reserved 3 to 5;"),
        {"RESERVATION_REMOVED": ("t.M", ())},
    ),
    "a reserved name is gone": (message('reserved "a";'), message(""), {"RESERVED_NAME_REMOVED": ("t.M", ())}),
    "a message replaced by one that differs": (
        "message A { int32 a = 1; } message B { int32 b = 1; } message M { A m = 1; }",
        "message A { int32 a = 1; } message B { int32 b = 1; } message M { B m = 1; }",
        {"FIELD_TYPE_CHANGED": ("t.M.m", BOTH)},
    ),
    "a message replaced by one that reads the same": (
        "message A { int32 a = 1; A more = 2; } message M { A m = 1; }",
        "message B { int32 a = 1; B more = 2; int32 new = 3; } message M { B m = 1; }",
        {"TYPE_REPLACED": ("t.A.more", ())},
    ),
    "an enum replaced by one that differs": (
        "enum E { Z = 0; } enum F { Y = 0; } message M { E e = 1; }",
        "enum E { Z = 0; } enum F { Y = 0; } message M { F e = 1; }",
        {"FIELD_TYPE_CHANGED": ("t.M.e", BOTH)},
    ),
    "an extension": (
        PROTO2 + "message M { extensions 5 to 9; } extend M { optional int32 a = 5; optional int32 b = 6; }",
        PROTO2 + "message M { extensions 5 to 9; } extend M { optional int32 a = 7; }",
        {"FIELD_RENUMBERED": ("t.a", BOTH), "EXTENSION_REMOVED": ("t.b", BOTH)},
    ),
    # --- limits ---
    "max_bytes lowered in a request": (
        message("bytes a = 1 [(max_bytes) = 9];"),
        message("bytes a = 1 [(max_bytes) = 8];"),
        {"LIMIT_NARROWED": ("t.M.a", OLD_CLIENTS)},
    ),
    "max_bytes raised in a request": (
        message("bytes a = 1 [(max_bytes) = 9];"),
        message("bytes a = 1 [(max_bytes) = 10];"),
        {"LIMIT_WIDENED": ("t.M.a", NEW_CLIENTS)},
    ),
    "max_bytes lowered in a response": (
        answer("bytes a = 1 [(max_bytes) = 9];"),
        answer("bytes a = 1 [(max_bytes) = 8];"),
        {"LIMIT_NARROWED": ("t.M.a", NEW_CLIENTS)},
    ),
    "max_bytes raised in a response": (
        answer("bytes a = 1 [(max_bytes) = 9];"),
        answer("bytes a = 1 [(max_bytes) = 10];"),
        {"LIMIT_WIDENED": ("t.M.a", OLD_CLIENTS)},
    ),
    "max_bytes lowered in what no method reaches": (
        "message M { bytes a = 1 [(max_bytes) = 9]; }",
        "message M { bytes a = 1 [(max_bytes) = 8]; }",
        {"LIMIT_NARROWED": ("t.M.a", BOTH)},
    ),
    "max_bytes added": (
        message("bytes a = 1;"),
        message("bytes a = 1 [(max_bytes) = 8];"),
        {"LIMIT_NARROWED": ("t.M.a", OLD_CLIENTS)},
    ),
    "max_items lowered": (
        message("repeated int32 a = 1 [(max_items) = 9];"),
        message("repeated int32 a = 1 [(max_items) = 8];"),
        {"LIMIT_NARROWED": ("t.M.a", OLD_CLIENTS)},
    ),
    "min_bytes raised": (
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];"),
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 2];"),
        {"LIMIT_NARROWED": ("t.M.a", OLD_CLIENTS)},
    ),
    "min_bytes added": (
        message("bytes a = 1 [(max_bytes) = 9];"),
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 2];"),
        {"LIMIT_NARROWED": ("t.M.a", OLD_CLIENTS)},
    ),
    "min_bytes lowered": (
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 2];"),
        message("bytes a = 1 [(max_bytes) = 9, (min_bytes) = 1];"),
        {"LIMIT_WIDENED": ("t.M.a", NEW_CLIENTS)},
    ),
    "max_request_bytes lowered": (
        service("rpc Call(Q) returns (R) { option (max_request_bytes) = 9; option (max_response_bytes) = 9; }"),
        service("rpc Call(Q) returns (R) { option (max_request_bytes) = 8; option (max_response_bytes) = 9; }"),
        {"LIMIT_NARROWED": ("t.S.Call", OLD_CLIENTS)},
    ),
    "max_response_bytes lowered": (
        service("rpc Call(Q) returns (R) { option (max_request_bytes) = 9; option (max_response_bytes) = 9; }"),
        service("rpc Call(Q) returns (R) { option (max_request_bytes) = 9; option (max_response_bytes) = 8; }"),
        {"LIMIT_NARROWED": ("t.S.Call", NEW_CLIENTS)},
    ),
    "max_response_bytes raised": (
        service("rpc Call(Q) returns (R) { option (max_request_bytes) = 9; option (max_response_bytes) = 9; }"),
        service("rpc Call(Q) returns (R) { option (max_request_bytes) = 9; option (max_response_bytes) = 10; }"),
        {"LIMIT_WIDENED": ("t.S.Call", OLD_CLIENTS)},
    ),
    "calls at once lowered": (
        limited("option (calls_per_peer) = {max_concurrent: 9};"),
        limited("option (calls_per_peer) = {max_concurrent: 8};"),
        {"CALL_LIMIT_NARROWED": ("t.S", OLD_CLIENTS)},
    ),
    "calls at once stated below what servers have": (
        limited(""),
        limited("option (calls_of_all) = {max_concurrent: 4095};"),
        {"CALL_LIMIT_NARROWED": ("t.S", OLD_CLIENTS)},
    ),
    "calls at once no longer stated below what servers have": (
        limited("option (calls_per_peer) = {max_concurrent: 9};"),
        limited(""),
        {"CALL_LIMIT_WIDENED": ("t.S", NEW_CLIENTS)},
    ),
    "calls at once no longer stated above what servers have": (
        limited("option (calls_per_peer) = {max_concurrent: 999};"),
        limited(""),
        {"CALL_LIMIT_NARROWED": ("t.S", OLD_CLIENTS)},
    ),
    "a rate raised, and the burst that comes of it": (
        limited("option (calls_of_all) = {calls_per_s: 0.5};"),
        limited("option (calls_of_all) = {calls_per_s: 2.5};"),
        {"CALL_LIMIT_WIDENED": ("t.S", NEW_CLIENTS)},
    ),
    "a rate raised and the burst lowered": (
        limited("option (calls_per_peer) = {calls_per_s: 5, burst: 10};"),
        limited("option (calls_per_peer) = {calls_per_s: 6, burst: 9};"),
        {"CALL_LIMIT_WIDENED": ("t.S", NEW_CLIENTS), "CALL_LIMIT_NARROWED": ("t.S", OLD_CLIENTS)},
    ),
    "default deadline shortened": (
        timed("option (default_timeout_ms) = 5000;"),
        timed("option (default_timeout_ms) = 4999;"),
        {"DEFAULT_TIMEOUT_SHORTENED": ("t.S.Call", OLD_CLIENTS)},
    ),
    "default deadline set": (
        timed(""),
        timed("option (default_timeout_ms) = 5000;"),
        {"DEFAULT_TIMEOUT_SHORTENED": ("t.S.Call", OLD_CLIENTS)},
    ),
    "default deadline lengthened": (
        timed("option (default_timeout_ms) = 5000;"),
        timed("option (default_timeout_ms) = 5001;"),
        {"DEFAULT_TIMEOUT_LENGTHENED": ("t.S.Call", NEW_CLIENTS)},
    ),
    "default deadline removed": (
        timed("option (default_timeout_ms) = 5000;"),
        timed(""),
        {"DEFAULT_TIMEOUT_REMOVED": ("t.S.Call", NEW_CLIENTS)},
    ),
    # --- enums ---
    "enum value renumbered": (enum("Z = 0; A = 1;"), enum("Z = 0; A = 2;"), {"ENUM_VALUE_RENUMBERED": ("t.E.A", BOTH)}),
    "enum values swapped": (
        enum("Z = 0; A = 1; B = 2;"),
        enum("Z = 0; A = 2; B = 1;"),
        {"ENUM_VALUE_RENUMBERED": ("t.E.A", BOTH)},
    ),
    "enum value removed": (enum("Z = 0; A = 1;"), enum("Z = 0;"), {"ENUM_VALUE_REMOVED_UNRESERVED": ("t.E.A", ())}),
    "enum value removed and reserved": (
        enum("Z = 0; A = 1;"),
        enum('Z = 0; reserved 1; reserved "A";'),
        {"ENUM_VALUE_REMOVED": ("t.E.A", ())},
    ),
    "enum value renamed": (enum("Z = 0; A = 1;"), enum("Z = 0; B = 1;"), {"ENUM_VALUE_RENAMED": ("t.E.A", ())}),
    "enum default": (
        PROTO2 + "enum E { A = 1; B = 2; } message M { optional E e = 1; }",
        PROTO2 + "enum E { B = 2; A = 1; } message M { optional E e = 1; }",
        {"ENUM_DEFAULT_CHANGED": ("t.E", BOTH)},
    ),
    "enum removed": ("enum E { Z = 0; } message M {}", "message M {}", {"ENUM_REMOVED": ("t.E", ())}),
    # --- messages and files ---
    "payload removed": ("message M { int32 a = 1; } message N {}", "message N {}", {"PAYLOAD_REMOVED": ("t.M", BOTH)}),
    "message of a removed field removed": (
        "message A {} message M { A a = 1; }",
        'message M { reserved 1; reserved "a"; }',
        {"FIELD_REMOVED": ("t.M.a", ()), "MESSAGE_REMOVED": ("t.A", ())},
    ),
    "package": (
        BARE + "message M { int32 a = 1; M m = 2; }",
        BARE.replace("package t", "package u.v") + "message M { int32 a = 1; M m = 2; }",
        {"PACKAGE_CHANGED": ("t.proto", ())},
    ),
    "package and more": (
        BARE + "message M { int32 a = 1; }",
        BARE.replace("package t", "package u.v") + "message M { string a = 1; }",
        {"PACKAGE_CHANGED": ("t.proto", ()), "FIELD_TYPE_CHANGED": ("t.M.a", BOTH)},
    ),
    "syntax": (
        PROTO2 + "message M { optional int32 a = 1; }",
        BARE + "message M { optional int32 a = 1; }",
        {"SYNTAX_CHANGED": ("t.proto", ())},
    ),
    "an edition that says the same": (
        BARE + "message M { optional int32 a = 1; repeated int32 b = 2; }",
        'edition = "2023"; package t; message M { int32 a = 1; repeated int32 b = 2; }',
        {"SYNTAX_CHANGED": ("t.proto", ())},
    ),
    # --- services ---
    "service removed": (
        service(f"{ID} rpc Call(Q) returns (R);"),
        MESSAGES + "message Box { Q q = 1; R r = 2; }",
        {"SERVICE_REMOVED": ("t.S", OLD_CLIENTS)},
    ),
    "service renamed": (
        service(f"{ID} rpc Call(Q) returns (R);"),
        f"{MESSAGES} service Other {{ {ID} rpc Call(Q) returns (R); }}",
        {"SERVICE_RENAMED": ("t.S", ())},
    ),
    "protocol renamed": (
        service(f"{ID} rpc Call(Q) returns (R);"),
        service(f"{ID} rpc Call(Q) returns (R);").replace('"p"', '"other"'),
        {"PROTOCOL_RENAMED": ("t.S", BOTH)},
    ),
    "protocol version": (
        service(f"{ID} rpc Call(Q) returns (R);"),
        service(f"{ID} rpc Call(Q) returns (R);").replace("1.0.0", "1.1.0"),
        {"PROTOCOL_VERSION_CHANGED": ("t.S", BOTH)},
    ),
    "the lowest version dropped": (
        MESSAGES + spoken("1.2.0", "1.0.0"),
        MESSAGES + spoken("1.3.0", "1.1.0"),
        {"PROTOCOL_VERSION_DROPPED": ("t.S", OLD_CLIENTS)},
    ),
    "the highest version dropped": (
        MESSAGES + spoken("1.2.0", "1.0.0"),
        MESSAGES + spoken("1.1.0", "1.0.0"),
        {"PROTOCOL_VERSION_DROPPED": ("t.S", OLD_CLIENTS)},
    ),
    "a range that goes on after another": (
        MESSAGES + spoken("1.1.0", "1.0.0"),
        MESSAGES + spoken("1.3.0", "1.2.0"),
        {"PROTOCOL_VERSION_CHANGED": ("t.S", BOTH)},
    ),
    "a range of which a part is spoken by another service": (
        MESSAGES + spoken("1.2.0", "1.0.0"),
        MESSAGES + spoken("1.0.0", "1.0.0", "T"),
        {"SERVICE_RENAMED": ("t.S", ()), "PROTOCOL_VERSION_DROPPED": ("t.S", OLD_CLIENTS)},
    ),
    "a part of a range speaks other methods": (
        MESSAGES + spoken("1.1.0", "1.0.0"),
        MESSAGES + spoken("1.2.0", "1.1.0") + spoken("1.0.0", "", "Old").replace("Call", "Ask"),
        {"METHOD_RENAMED": ("t.S.Call", BOTH)},
    ),
    "method removed": (
        service(f"{ID} rpc Call(Q) returns (R); rpc Other(R) returns (Q);"),
        service(f"{ID} rpc Call(Q) returns (R);"),
        {"METHOD_REMOVED": ("t.S.Other", OLD_CLIENTS)},
    ),
    "method renamed": (
        service(f"{ID} rpc Call(Q) returns (R);"),
        service(f"{ID} rpc Ask(Q) returns (R);"),
        {"METHOD_RENAMED": ("t.S.Call", BOTH)},
    ),
    "request type": (
        service(f"{ID} rpc Call(Q) returns (R);", "message Q { int32 a = 1; } message R { int32 b = 1; }"),
        service(f"{ID} rpc Call(R) returns (R);", "message Q { int32 a = 1; } message R { int32 b = 1; }"),
        {"METHOD_REQUEST_CHANGED": ("t.S.Call", BOTH)},
    ),
    "response type": (
        service(f"{ID} rpc Call(Q) returns (R);", "message Q { int32 a = 1; } message R { int32 b = 1; }"),
        service(f"{ID} rpc Call(Q) returns (Q);", "message Q { int32 a = 1; } message R { int32 b = 1; }"),
        {"METHOD_RESPONSE_CHANGED": ("t.S.Call", BOTH)},
    ),
    "request type renamed": (
        service(f"{ID} rpc Call(Q) returns (R);", "message Q { int32 a = 1; } message R {}"),
        service(f"{ID} rpc Call(P) returns (R);", "message P { int32 a = 1; } message R {}"),
        {"TYPE_REPLACED": ("t.S.Call", ())},
    ),
    "streaming": (
        service(f"{ID} rpc Call(Q) returns (R);"),
        service(f"{ID} rpc Call(Q) returns (stream R);"),
        {"METHOD_STREAMING_CHANGED": ("t.S.Call", BOTH)},
    ),
    "streaming of requests": (
        service(f"{ID} rpc Call(stream Q) returns (R);"),
        service(f"{ID} rpc Call(Q) returns (R);"),
        {"METHOD_STREAMING_CHANGED": ("t.S.Call", BOTH)},
    ),
    "streaming, and a promise that no stream needs": (
        service(f"{ID} rpc Call(Q) returns (R) {{ option idempotency_level = IDEMPOTENT; }}"),
        service(f"{ID} rpc Call(Q) returns (stream R);"),
        {"METHOD_STREAMING_CHANGED": ("t.S.Call", BOTH)},
    ),
    "no longer idempotent": (
        timed("option idempotency_level = IDEMPOTENT;"),
        timed(""),
        {"METHOD_NO_LONGER_IDEMPOTENT": ("t.S.Call", OLD_CLIENTS)},
    ),
    "no longer without side effects": (
        timed("option idempotency_level = NO_SIDE_EFFECTS;"),
        timed("option idempotency_level = IDEMPOTENCY_UNKNOWN;"),
        {"METHOD_NO_LONGER_IDEMPOTENT": ("t.S.Call", OLD_CLIENTS)},
    ),
    "idempotent from now on": (
        timed(""),
        timed("option idempotency_level = IDEMPOTENT;"),
        {"METHOD_NOW_IDEMPOTENT": ("t.S.Call", NEW_CLIENTS)},
    ),
}
"""Before, after, and by code: one place of it, and whom it breaks."""

SAFE = {
    "field added": (message("int32 a = 1;"), message("int32 a = 1; string b = 2 [(max_bytes) = 5];")),
    "needed field added where absence is told": (
        message(""),
        message("optional bytes a = 1 [(max_bytes) = 9, (min_bytes) = 9];"),
    ),
    "field added to a oneof": (message("oneof x { int32 a = 1; }"), message("oneof x { int32 a = 1; int32 b = 2; }")),
    "order": (message("int32 a = 1; int32 b = 2;"), message("int32 b = 2; int32 a = 1;")),
    "message and enum added": ("message M {}", "message M {} enum E { Z = 0; } message N {}"),
    "enum value added": (enum("Z = 0;"), enum("Z = 0; A = 1;")),
    "enum alias added": (enum("Z = 0; A = 1;"), enum("option allow_alias = true; Z = 0; B = 1; A = 1;")),
    "method added": (
        service(f"{ID} rpc Call(Q) returns (R);"),
        service(f"{ID} rpc Call(Q) returns (R); rpc More(Q) returns (R);"),
    ),
    "a version beside": (
        service(f"{ID} rpc Call(Q) returns (R);"),
        service(f"{ID} rpc Call(Q) returns (R);")
        + 'service S2 { option (protocol) = "p"; option (version) = "2.0.0"; rpc Call(R) returns (Q); }',
    ),
    "a range instead of one version": (MESSAGES + spoken("1.0.0", ""), MESSAGES + spoken("1.1.0", "1.0.0")),
    "a range that goes further down": (MESSAGES + spoken("1.2.0", "1.1.0"), MESSAGES + spoken("1.2.0", "1.0.0")),
    "a range in two services": (
        MESSAGES + spoken("1.2.0", "1.0.0"),
        MESSAGES + spoken("1.3.0", "1.1.0") + spoken("1.0.0", "", "Old"),
    ),
    "limits stated as servers have them": (
        limited(""),
        limited("option (calls_per_peer) = {max_concurrent: 256, calls_per_s: 50000}; option (calls_of_all) = {};"),
    ),
    "idempotent, with side effects or without": (
        timed("option idempotency_level = NO_SIDE_EFFECTS;"),
        timed("option idempotency_level = IDEMPOTENT;"),
    ),
    "nothing said of idempotency, in two ways": (
        timed("option idempotency_level = IDEMPOTENCY_UNKNOWN;"),
        timed(""),
    ),
    "a stream said to be idempotent": (
        service(f"{ID} rpc Call(Q) returns (stream R);"),
        service(f"{ID} rpc Call(Q) returns (stream R) {{ option idempotency_level = NO_SIDE_EFFECTS; }}"),
    ),
    "more is reserved": (message('reserved 3, 5; reserved "x";'), message('reserved 2 to 9; reserved "x", "y";')),
    "deprecated, comments": (message("int32 a = 1;"), message("// old\nint32 a = 1 [deprecated = true];")),
    "map": (message("map<string, int32> a = 1;"), message("map<string, int32> a = 1;\nint32 b = 2;")),
}
"""Before and after what is no change."""
