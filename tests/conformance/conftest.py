"""The directory for what other languages' programs are built of is that of the interop tests."""

from tests.interop.conftest import toolchain_cache

__all__ = ["toolchain_cache"]
