"""What a client takes of a peer's word about itself. Pure."""

MAX_SERVICES = 1024
"""Most services of a node. Chosen here: identify itself tells far fewer protocols."""
MAX_FILES = 1000
MAX_FILES_BYTES = 4 * 1024 * 1024
"""All files together. Chosen here: the worst of so many costs seconds to read; those of hostmesh itself have 24 KB."""
MAX_TYPE_DEPTH = 100
"""Message types inside message types, as many as protobuf's own parser allows messages inside messages."""
