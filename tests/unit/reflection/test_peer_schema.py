"""Descriptors of a peer: what a sound answer gives, and how each kind of an unsound one is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from tests.support.peer_files import NAME, add_inner, add_service, add_text, bare_file, echo_file

from hostmesh.errors import MalformedMessageError
from hostmesh.reflection.limits import MAX_FILES, MAX_FILES_BYTES, MAX_TYPE_DEPTH
from hostmesh.reflection.peer_schema import PeerSchema, read_schema_of
from hostmesh.rpc.method import methods_of
from hostmesh.v1 import discovery_pb2, job_pb2, options_pb2, status_pb2

OWN = [module.DESCRIPTOR.serialized_pb for module in (discovery_pb2, status_pb2, job_pb2)]


def read(*files: FileDescriptorProto | bytes, names: tuple[str, ...] = (NAME,)) -> PeerSchema:
    return read_schema_of([each if isinstance(each, bytes) else each.SerializeToString() for each in files], names)


def refused(*files: FileDescriptorProto | bytes, names: tuple[str, ...] = (NAME,)) -> MalformedMessageError:
    with pytest.raises(MalformedMessageError) as caught:
        read(*files, names=names)
    assert caught.value.message.startswith("the peer's answer: ")
    assert len(caught.value.message) < 500, "what a peer says is cut"
    assert "\n" not in caught.value.message
    assert caught.value.remedy
    assert caught.value.field
    return caught.value


# --- what a sound answer gives ---


def test_the_methods_of_a_foreign_pool_are_those_of_the_own_one() -> None:
    """Options are extensions: those of any pool are read by the extensions of this process."""
    names = ("hostmesh.v1.JobService", "hostmesh.v1.StatusService")
    schema = read(*OWN, names=names)
    for name, module in zip(names, (job_pb2, status_pb2), strict=True):
        own = methods_of(module.DESCRIPTOR.services_by_name[name.rpartition(".")[2]])
        foreign = schema.methods[name]
        assert list(foreign) == list(own)
        for key, method in foreign.items():
            told = ("service", "protocol", "versions", "cardinality", "max_request_bytes", "max_response_bytes")
            assert [getattr(method, each) for each in told] == [getattr(own[key], each) for each in told]
            assert method.request_type is not own[key].request_type, "never of the process's own pool"
            assert method.request_type.DESCRIPTOR.full_name == own[key].request_type.DESCRIPTOR.full_name


def test_nothing_reaches_the_default_pool() -> None:
    schema = read(echo_file())
    assert schema.methods[NAME]["Say0"].max_response_bytes == 2048
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName("acme/v1/echo.proto")
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("acme.v1.Word")


def test_its_messages_are_written_and_read_with_json() -> None:
    method = read(echo_file()).methods[NAME]["Say0"]
    word = json_format.ParseDict({"text": "hé"}, method.request_type())
    assert word.SerializeToString() == b"\x0a\x03h\xc3\xa9"
    assert json_format.MessageToDict(method.response_type.FromString(b"\x0a\x01x")) == {"text": "x"}


def test_the_order_of_the_files_is_no_matter_and_known_ones_are_not_taken() -> None:
    options = FileDescriptorProto()
    options_pb2.DESCRIPTOR.CopyToProto(options)
    for extension in options.extension:
        extension.number += 1000  # another meaning, which nobody takes over
    known = bare_file("google/protobuf/descriptor.proto", "google.protobuf")
    schema = read(*reversed(OWN), options, known, names=("hostmesh.v1.StatusService",))
    assert schema.methods["hostmesh.v1.StatusService"]["Ping"].max_request_bytes == 64
    names = [file.name for file in schema.file_set().file]
    assert sorted(names) == ["hostmesh/v1/discovery.proto", "hostmesh/v1/job.proto", "hostmesh/v1/status.proto"]
    assert names.index("hostmesh/v1/discovery.proto") < names.index("hostmesh/v1/status.proto"), "which imports it"


def test_extensions_of_a_peer_with_our_numbers_mean_nothing() -> None:
    file = echo_file()
    file.dependency.append("google/protobuf/descriptor.proto")
    file.extension.add(
        name="mine",
        number=51011,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_STRING,
        extendee=".google.protobuf.MethodOptions",
    )
    assert read(file).methods[NAME]["Say0"].max_request_bytes == 1024


def test_a_description_of_more_than_a_mebibyte() -> None:
    files = []
    for number in range(40):
        file = bare_file(f"acme/v1/part{number}.proto", f"acme.v1.part{number}")
        message = file.message_type.add(name="Part")
        for field in range(1, 600):
            add_text(message, f"a_field_with_a_long_name_{'x' * 20}_{field}", number=field)
        files.append(file)
    main = bare_file()
    word = main.message_type.add(name="Word")
    for number, file in enumerate(files, start=1):
        main.dependency.append(file.name)
        add_inner(word, f".{file.package}.Part", f"part{number}", number=number)
    add_service(main)
    sent = [file.SerializeToString() for file in (main, *files)]
    assert 1024 * 1024 < sum(map(len, sent)) < MAX_FILES_BYTES
    schema = read_schema_of(sent, [NAME])
    assert len(schema.files) == 41
    assert schema.files[-1].name == "acme/v1/echo.proto"
    assert [file.name for file in schema.file_set().file] == [file.name for file in schema.files]


def test_a_range_of_versions() -> None:
    file = echo_file()
    file.service[0].options.Extensions[options_pb2.version] = "1.2.0"
    file.service[0].options.Extensions[options_pb2.min_version] = "1.1.0"
    assert read(file).methods[NAME]["Say0"].versions == ("1.2.0", "1.1.0")


# --- what is refused ---


def test_no_descriptor_at_all() -> None:
    assert "no file describes acme.v1.EchoService" in refused().message
    assert "not a FileDescriptorProto" in refused(b"\xff").message
    assert "not a FileDescriptorProto" in refused(echo_file().SerializeToString()[:-1]).message


def test_a_file_that_is_cut_off() -> None:
    """Where a cut leaves whole fields, what they define is missed."""
    data = echo_file().SerializeToString()
    for size in range(data.index(b"\x62\x06proto3")):
        refused(data[:size])


def test_too_much() -> None:
    many = [bare_file(f"{number}.proto", "").SerializeToString() for number in range(MAX_FILES + 1)]
    assert f"at most {MAX_FILES} are taken" in refused(*many).message
    assert "no valid file" in refused(bare_file("x" * 100_000, "not a package")).message
    large = bare_file()
    large.message_type.add(name="x" * MAX_FILES_BYTES)
    assert f"at most {MAX_FILES_BYTES} are taken" in refused(large).message
    full = bare_file()
    enum = full.enum_type.add(name="Many")
    for _ in range(200_001):
        enum.value.add()
    assert "200002 definitions" in refused(full).message


def test_files_that_do_not_make_a_set() -> None:
    one, other = bare_file("one.proto", ""), bare_file("other.proto", "")
    one.dependency.append("other.proto")
    assert "lacks other.proto" in refused(one).message
    other.dependency.append("one.proto")
    assert "files import each other" in refused(one, other).message
    assert "echo.proto twice" in refused(echo_file(), echo_file()).message
    assert "lacks google/protobuf/internal/x.proto" in _with_import("google/protobuf/internal/x.proto").message


def _with_import(name: str) -> MalformedMessageError:
    file = echo_file()
    file.dependency.append(name)
    return refused(file)


def test_two_files_that_define_the_same_name() -> None:
    again = echo_file()
    again.name = "again.proto"
    assert "duplicate symbol" in refused(echo_file(), again).message


def test_names_that_protobuf_treats_by_name_cannot_be_defined() -> None:
    in_package = bare_file(package="google.protobuf")
    in_package.message_type.add(name="Any")
    nested = bare_file(package="")
    nested.message_type.add(name="google").nested_type.add(name="protobuf").nested_type.add(name="Any")
    for file in (in_package, nested):
        add_service(file, message=".google.protobuf.Any")
        assert "duplicate symbol" in refused(file, names=(f"{file.package}.EchoService".lstrip("."),)).message


@pytest.mark.parametrize("name", ["SerializeToString", "DESCRIPTOR", "HasField", "__class__", "ListFields"])
def test_a_field_that_hides_what_pythons_messages_need(name: str) -> None:
    file = bare_file()
    add_text(file.message_type.add(name="Word"), name)
    add_service(file)
    assert f"the field {name} hides" in refused(file).message


def test_types_inside_types_for_ever() -> None:
    endless = bare_file()
    add_inner(endless.message_type.add(name="Word"), ".acme.v1.Word")
    add_service(endless)
    assert read(endless).methods[NAME]["Say0"].request_type().inner is not None, "inside itself is no depth"
    deep = bare_file()
    for level in range(5000):
        message = deep.message_type.add(name=f"Word{level or ''}")
        if level < 4999:
            add_inner(message, f".acme.v1.Word{level + 1}")
    add_service(deep)
    assert f"types nested deeper than {MAX_TYPE_DEPTH}" in refused(deep).message


def test_fields_without_bounds() -> None:
    unbounded = bare_file()
    add_text(unbounded.message_type.add(name="Word"), max_bytes=0)
    add_service(unbounded)
    assert "acme.v1.Word.text has no bound" in refused(unbounded).message


def _option(edit: Callable[[descriptor_pb2.ServiceDescriptorProto], None]) -> FileDescriptorProto:
    file = echo_file()
    edit(file.service[0])
    return file


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda service: service.ClearField("method"), "has no method"),
        (lambda service: service.ClearField("options"), "no protocol or version"),
        (lambda service: service.method[0].ClearField("options"), "needs max_request_bytes"),
        (
            lambda service: service.method[0].options.Extensions.__setitem__(options_pb2.max_request_bytes, 2**31),
            "up to 1 MiB",
        ),
        (lambda service: service.options.Extensions.__setitem__(options_pb2.version, "1.0.0\n"), "is no version"),
        (
            lambda service: service.options.Extensions.__setitem__(options_pb2.min_version, "2.0.0"),
            "versions of a range",
        ),
        (lambda service: service.options.Extensions.__setitem__(options_pb2.protocol, "../x"), "no name of a protocol"),
        (lambda service: service.options.Extensions.__setitem__(options_pb2.protocol, "x" * 65), "no name of a protoc"),
        (lambda service: setattr(service.method[0], "input_type", ".acme.v1.Nobody"), "no valid file"),
        (lambda service: setattr(service.method[0], "name", "Say\x1b"), "no valid file"),
        (lambda service: service.method.add().CopyFrom(service.method[0]), "two methods of one name"),
        (lambda service: setattr(service, "name", "OtherService"), "no file describes"),
    ],
)
def test_services_that_cannot_be_called(
    edit: Callable[[descriptor_pb2.ServiceDescriptorProto], None], word: str
) -> None:
    assert word in refused(_option(edit)).message


def test_an_option_with_broken_bytes() -> None:
    file = echo_file()
    options = file.service[0].options
    # Field 51024, a CallLimits of two bytes that are none.
    raw = options.SerializeToString() + b"\x82\xf5\x18\x02\xff\xff"
    data = file.SerializeToString()
    old = options.SerializeToString()
    service = file.service[0].SerializeToString()
    grown = service.replace(bytes([0x1A, len(old)]) + old, bytes([0x1A, len(raw)]) + raw)
    assert len(grown) == len(service) + 6
    broken = data.replace(bytes([0x32, len(service)]) + service, bytes([0x32, len(grown)]) + grown)
    assert len(broken) == len(data) + 6
    assert "not a FileDescriptorProto" in refused(broken).message


def test_ten_thousand_services_of_which_one_is_wanted() -> None:
    file = echo_file()
    for number in range(10_000):
        add_service(file, f"Service{number}")
    assert list(read(file).services) == [NAME]


def test_text_that_is_none() -> None:
    data = echo_file().SerializeToString()
    assert data.count(b"acme/v1/echo.proto") == 1
    assert "no UTF-8" in refused(data.replace(b"acme/v1/echo.proto", b"acme/v1/\xff\xff\xff\xff.proto")).message
