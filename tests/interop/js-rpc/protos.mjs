// The .proto files of the documentation, word for word: what the wire looks like, with the bounds of every field.

export const OPTIONS = `// Bounds of the wire, stated where the fields stand. hostmesh.wire.bounds refuses a decoded message that breaks one,
// hostmesh.rpc refuses a message over its method's size before it is parsed.
syntax = "proto3";

package hostmesh.v1;

import "google/protobuf/descriptor.proto";

extend google.protobuf.FieldOptions {
  // Most bytes of a string (UTF-8) or bytes field, or of each element of a repeated one. Every such field has one.
  optional uint32 max_bytes = 51001;
  // Least bytes; a fixed-size field sets both. An absent (empty) field is refused too when this is not 0.
  optional uint32 min_bytes = 51002;
  // Most elements of a repeated field. Every repeated field has one.
  optional uint32 max_items = 51003;
}

extend google.protobuf.MethodOptions {
  // Most bytes of one request message, 1 MiB at most.
  optional uint32 max_request_bytes = 51011;
  // Most bytes of one response message, 1 MiB at most.
  optional uint32 max_response_bytes = 51012;
  // Time that a call has for everything when its caller names none, in milliseconds. Absent: such a call has no deadline.
  optional uint32 default_timeout_ms = 51013;
}

// How many calls are admitted; absent or 0: the server's own limit. They are counted before anything is read of a call.
message CallLimits {
  // Calls in progress.
  uint32 max_concurrent = 1;
  double calls_per_s = 2;
  // Calls that may come at once after a pause.
  uint32 burst = 3;
}

extend google.protobuf.ServiceOptions {
  // The protocol id is PREFIX/protocol/version: /hostmesh/job/1.0.0.
  optional string protocol = 51021;
  // MAJOR.MINOR.PATCH. A version with a higher minor number understands everything of the lower ones.
  optional string version = 51022;
  // The lowest version that is still spoken, of the same major number; every minor version between is spoken too. Absent: version alone.
  optional string min_version = 51023;
  // Of the calls that one peer makes to the service.
  optional CallLimits calls_per_peer = 51024;
  // Of the calls that all peers make to the service.
  optional CallLimits calls_of_all = 51025;
}
`

export const RPC = `// The frames of a call. One libp2p stream carries one call; each frame is a varint length and a Frame.
//
// client -> server: header and request message in the first frame, then half-close; or, where requests are a stream, the
// header alone, a frame for each request, then half-close.
// server -> client: messages, and a last frame with the Status, which may carry the last message too.
// An empty frame is a heartbeat.
syntax = "proto3";

package hostmesh.v1;

import "hostmesh/v1/options.proto";

message MetadataEntry {
  string key = 1 [(max_bytes) = 64, (min_bytes) = 1];
  string value = 2 [(max_bytes) = 1024];
}

message CallHeader {
  // The method's name in its service, as in the .proto: "Quote".
  string method = 1 [(max_bytes) = 64, (min_bytes) = 1];
  // Time the caller still waits when it sends this, in milliseconds. Absent: no deadline.
  optional uint64 deadline_left_ms = 2;
  // Session of the call, 16 bytes, or empty where the method needs none.
  bytes session_id = 3 [(max_bytes) = 16];
  // Same key, same effect; empty for none.
  bytes idempotency_key = 4 [(max_bytes) = 32];
  repeated MetadataEntry metadata = 5 [(max_items) = 16];
}

// The end of every call. A stream that ends without one is an error of unknown outcome.
message Status {
  // gRPC status code, 0-16.
  uint32 code = 1;
  // For people.
  string message = 2 [(max_bytes) = 1024];
  // For programs: a stable upper-case word such as UNSUPPORTED_MODEL; empty where the code says it all.
  string reason = 3 [(max_bytes) = 64];
  // When trying again may help; 0 = not said.
  uint64 retry_after_ms = 4;
  repeated MetadataEntry details = 5 [(max_items) = 16];
}

message Frame {
  CallHeader header = 1;
  // One serialised request or response. Its bound is the method's (options.proto), below the frame's own cap.
  optional bytes message = 2 [(max_bytes) = 1048576];
  Status status = 3;
}
`

export const CONFORMANCE = `// The service of the conformance suite: every shape of a call, and every way in which one can end.
syntax = "proto3";

package conformance.v1;

import "hostmesh/v1/options.proto";

message Nothing {}

message Entry {
  string key = 1 [(hostmesh.v1.max_bytes) = 64, (hostmesh.v1.min_bytes) = 1];
  string value = 2 [(hostmesh.v1.max_bytes) = 1024];
}

message Blob {
  bytes payload = 1 [(hostmesh.v1.max_bytes) = 1048576];
}

message Code {
  bytes value = 1 [(hostmesh.v1.max_bytes) = 4, (hostmesh.v1.min_bytes) = 4];
}

enum Color {
  COLOR_UNSPECIFIED = 0;
  COLOR_RED = 1;
  COLOR_BLUE = 2;
}

// A field for each kind of bound.
message Bounded {
  string text = 1 [(hostmesh.v1.max_bytes) = 8];
  Code code = 2;
  repeated uint32 numbers = 3 [(hostmesh.v1.max_items) = 3];
  repeated string words = 4 [(hostmesh.v1.max_items) = 2, (hostmesh.v1.max_bytes) = 4];
  Bounded inner = 5;
  Color color = 6;
  optional string note = 7 [(hostmesh.v1.max_bytes) = 4];
  uint64 big = 8;
  sint32 balance = 9;
}

// What a handler sees of its call besides the request.
message Seen {
  // Time left when the handler began; absent: no deadline.
  optional uint64 deadline_left_ms = 1;
  bytes session_id = 2 [(hostmesh.v1.max_bytes) = 16];
  bytes idempotency_key = 3 [(hostmesh.v1.max_bytes) = 32];
  // In no promised order.
  repeated Entry metadata = 4 [(hostmesh.v1.max_items) = 16];
}

enum Manner {
  // With the status that the request names.
  MANNER_UNSPECIFIED = 0;
  // With an error that is not meant for the caller.
  MANNER_CRASH = 1;
  // With a response over the method's max_response_bytes.
  MANNER_TOO_LARGE = 2;
}

message FailRequest {
  Manner manner = 1;
  // gRPC status code.
  uint32 code = 2;
  string message = 3 [(hostmesh.v1.max_bytes) = 2048];
  string reason = 4 [(hostmesh.v1.max_bytes) = 128];
  // 0: not said.
  uint64 retry_after_ms = 5;
  repeated Entry details = 6 [(hostmesh.v1.max_items) = 16];
}

message WaitRequest {
  uint32 duration_ms = 1;
}

message GenerateRequest {
  uint32 count = 1;
  // Of each payload; its bytes are all the index, modulo 256.
  uint32 size = 2;
  // Before each item.
  uint32 pause_ms = 3;
  // After the last item: 0 ends with OK, others with this status.
  uint32 end_code = 4;
  string end_reason = 5 [(hostmesh.v1.max_bytes) = 64];
  // After the last item the handler waits until it is cancelled.
  bool hold = 6;
}

enum Act {
  ACT_UNSPECIFIED = 0;
  // The handler ends the call with OK when it has read this item, also while more are to come. Chat sends the item back first.
  ACT_FINISH = 1;
  // Likewise with FAILED_PRECONDITION, reason ASKED_TO.
  ACT_FAIL = 2;
}

message Item {
  uint32 index = 1;
  bytes payload = 2 [(hostmesh.v1.max_bytes) = 65536];
  Act act = 3;
}

message Summary {
  uint32 count = 1;
  uint64 total_bytes = 2;
  // Of all payloads, one after the other.
  bytes sha256 = 3 [(hostmesh.v1.max_bytes) = 32];
}

service ConformanceService {
  option (hostmesh.v1.protocol) = "conformance";
  option (hostmesh.v1.version) = "1.0.0";

  // Gives the same back.
  rpc Echo(Blob) returns (Blob) {
    option (hostmesh.v1.max_request_bytes) = 1024;
    option (hostmesh.v1.max_response_bytes) = 1024;
  }
  // The same with as much as any method may allow.
  rpc EchoLarge(Blob) returns (Blob) {
    option (hostmesh.v1.max_request_bytes) = 1048576;
    option (hostmesh.v1.max_response_bytes) = 1048576;
  }
  // Gives the same back.
  rpc Check(Bounded) returns (Bounded) {
    option (hostmesh.v1.max_request_bytes) = 4096;
    option (hostmesh.v1.max_response_bytes) = 4096;
  }
  // Tells what the handler sees of the call.
  rpc Describe(Nothing) returns (Seen) {
    option (hostmesh.v1.max_request_bytes) = 16;
    option (hostmesh.v1.max_response_bytes) = 24576;
  }
  // Always fails.
  rpc Fail(FailRequest) returns (Blob) {
    option (hostmesh.v1.max_request_bytes) = 32768;
    option (hostmesh.v1.max_response_bytes) = 64;
  }
  // Answers after a while, in which it says nothing.
  rpc Wait(WaitRequest) returns (Nothing) {
    option (hostmesh.v1.max_request_bytes) = 16;
    option (hostmesh.v1.max_response_bytes) = 16;
  }
  // Gives items with the indices 0, 1, ...
  rpc Generate(GenerateRequest) returns (stream Item) {
    option (hostmesh.v1.max_request_bytes) = 128;
    option (hostmesh.v1.max_response_bytes) = 65600;
  }
  // Adds up all items.
  rpc Collect(stream Item) returns (Summary) {
    option (hostmesh.v1.max_request_bytes) = 65600;
    option (hostmesh.v1.max_response_bytes) = 64;
  }
  // The same, but reads nothing for the first second.
  rpc CollectLate(stream Item) returns (Summary) {
    option (hostmesh.v1.max_request_bytes) = 65600;
    option (hostmesh.v1.max_response_bytes) = 64;
  }
  // Answers at once and reads no request.
  rpc Ignore(stream Item) returns (Nothing) {
    option (hostmesh.v1.max_request_bytes) = 65600;
    option (hostmesh.v1.max_response_bytes) = 16;
  }
  // Gives each item back as it comes.
  rpc Chat(stream Item) returns (stream Item) {
    option (hostmesh.v1.max_request_bytes) = 65600;
    option (hostmesh.v1.max_response_bytes) = 65600;
  }
}
`
