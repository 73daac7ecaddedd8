"""What a sequence's blocks are named by."""

from hashlib import blake2b

from pileus.core.records import EngineRequest, SamplingParams
from pileus.engines.native.sequence import Sequence


def salt(tenant: bytes, adapter: str) -> bytes:
    request = EngineRequest(0, (1, 2), SamplingParams(max_tokens=1, seed=1), salt=tenant, adapter=adapter)
    return Sequence(0, request, 0, [1, 2], 0, 0.0).salt


def test_each_tenant_and_adapter_has_a_salt_of_its_own_that_is_a_key() -> None:
    tenants, adapters = (b"a" * 32, b"b" * 32), ("", "mine@0123456789abcdef", f"{'x' * 128}@0123456789abcdef")
    found = {salt(tenant, adapter) for tenant in tenants for adapter in adapters}
    assert len(found) == 6
    for key in found:
        blake2b(b"", key=key)
