"""Sets of .proto files: read, compiled, and one compared with a later one."""
