"""``protoc-gen-hostmesh``: a protoc plugin that writes typed clients and server bases from .proto files.

It needs protobuf and none of what runs a node: no network, no trio.
"""
