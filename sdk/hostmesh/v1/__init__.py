"""Generated protobuf code of the wire; mirrors protos/hostmesh/v1, never edited."""
