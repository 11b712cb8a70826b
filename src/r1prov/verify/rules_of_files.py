"""Rules 0xx files, 1xx safetensors and GGUF headers, 2xx shard index and JSON."""

from __future__ import annotations

from r1prov.verify.rule import Row, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_REFETCH = "Download the file again from the publisher and verify it again."
_SPEC = "The safetensors specification forbids it; another reader could see other weights."
_GGUF = "The file is broken or hostile: runtimes have crashed on its like. " + _REFETCH

FILES: tuple[Row, ...] = (
    # files
    ("001", "file-missing", "A file of the manifest is missing", _E, _REFETCH),
    (
        "002",
        "file-unlisted",
        "A file is not in the manifest",
        _E,
        "Loaders pick files by name, so an extra file can replace a listed one. Remove it, or sign "
        "a manifest that lists it.",
    ),
    ("003", "file-size", "A file has another size than the manifest says", _E, _REFETCH),
    ("004", "file-digest", "A file has another SHA-256 than the manifest says", _E, _REFETCH),
    (
        "005",
        "file-changed",
        "A file changed while it was read",
        _E,
        "Stop whatever writes to the model and verify again; a digest of a moving file means "
        "nothing.",
    ),
    ("006", "file-unread", "A file could not be read", _W, "Check permissions and the disk."),
    (
        "007",
        "file-name",
        "A file name that no manifest may carry",
        _E,
        "Rename or remove the file: control characters, backslashes, device names and their kind "
        "are read differently by different systems.",
    ),
    (
        "008",
        "name-collision",
        "Two names are one file on some systems",
        _E,
        "Names that differ only in case or Unicode form overwrite each other when copied.",
    ),
    ("009", "listing-changed", "Files came or went during the check", _E, "Verify again at rest."),
    (
        "010",
        "not-covered",
        "A file of the release has no known digest",
        _N,
        "The manifest says that the release has more small files than it has digests for.",
    ),
    ("011", "leftover", "A leftover of a download tool", _N, "Loaders never read it."),
    (
        "012",
        "limit",
        "The model is larger than a cap",
        _W,
        "See the caps in the documentation; a model of this shape is not verified.",
    ),
    (
        "013",
        "crosses-device",
        "A file lies on another file system",
        _W,
        "A mount inside the model can be exchanged without touching the directory.",
    ),
    # safetensors headers
    ("101", "header-truncated", "The file ends inside its header", _E, _REFETCH),
    ("102", "header-length", "The header length is impossible", _E, _SPEC),
    ("103", "header-too-large", "The header is over the 100 MB cap", _E, _SPEC),
    ("104", "header-padding", "The header is padded far beyond need", _E, "Padding hides data."),
    ("105", "header-utf8", "The header is not UTF-8", _E, _SPEC),
    ("106", "header-start", "The header does not start with `{`", _E, _SPEC),
    ("107", "header-json", "The header is not strict JSON", _E, _SPEC),
    (
        "108",
        "header-duplicate-key",
        "A key stands twice in the header",
        _E,
        "Readers keep different ones of the two: the same file then is two models. " + _SPEC,
    ),
    ("109", "header-unknown-field", "A tensor entry has an unknown member", _E, _SPEC),
    ("110", "header-metadata", "`__metadata__` is no small object of strings", _E, _SPEC),
    ("111", "tensor-entry", "A tensor entry is malformed", _E, _SPEC),
    ("112", "tensor-name", "A tensor name is unsafe", _E, "No model of the field uses such names."),
    ("113", "tensor-name-twins", "Tensor names differ only in case", _W, "Legal, and confusing."),
    ("114", "tensor-rank", "A shape has too many dimensions", _E, "No framework can load it."),
    ("115", "tensor-overflow", "A shape overflows 63 bits", _E, _SPEC),
    ("116", "tensor-misaligned", "A tensor does not fill whole bytes", _E, _SPEC),
    ("117", "tensor-size", "Shape and dtype do not match the byte range", _E, _SPEC),
    ("118", "tensor-offset", "A byte range is impossible", _E, _SPEC),
    ("119", "tensor-overlap", "Two tensors share bytes", _E, _SPEC),
    ("120", "tensor-hole", "Bytes belong to no tensor", _E, _SPEC),
    (
        "121",
        "trailing-bytes",
        "Bytes follow the last tensor",
        _E,
        "They hide data. " + _REFETCH,
    ),
    ("122", "data-truncated", "The data ends before the last tensor", _E, _REFETCH),
    ("123", "dtype-unknown", "An unknown dtype", _E, _SPEC),
    ("124", "too-many-tensors", "More tensors than any model has", _E, "See the caps."),
    # GGUF headers
    ("130", "gguf-magic", "The file does not start with `GGUF`", _E, _REFETCH),
    (
        "131",
        "gguf-version",
        "A GGUF version that is not read",
        _E,
        "Versions 2 and 3 in little-endian order are read. Convert the model again with a current "
        "tool.",
    ),
    ("132", "gguf-count", "A GGUF count cannot be true", _E, _GGUF),
    ("133", "gguf-string", "A GGUF string is impossible or not UTF-8", _E, _GGUF),
    ("134", "gguf-array", "A GGUF array is impossible", _E, _GGUF),
    ("135", "gguf-type", "An unknown GGUF value type", _E, _GGUF),
    ("136", "gguf-key", "A GGUF key is malformed", _E, _GGUF),
    (
        "137",
        "gguf-duplicate",
        "A GGUF key or tensor stands twice",
        _E,
        "Readers keep different ones of the two: the same file then is two models.",
    ),
    ("138", "gguf-alignment", "The GGUF alignment is impossible", _E, _GGUF),
    ("139", "gguf-value", "A GGUF value is not of its type", _E, _GGUF),
    (
        "140",
        "gguf-architecture",
        "The GGUF file names no architecture",
        _E,
        "`general.architecture` is required; no runtime can load the file without it.",
    ),
    ("141", "gguf-padding", "GGUF padding is not zero", _E, "Padding hides data."),
    (
        "142",
        "gguf-split",
        "The parts of a split GGUF do not make one model",
        _E,
        "Fetch every part of the same build; runtimes load them by name.",
    ),
    (
        "143",
        "gguf-semantics",
        "GGUF metadata that runtimes stumble over",
        _E,
        "Values like this one have crashed or corrupted runtimes. Do not load the file.",
    ),
    (
        "144",
        "template-suspicious",
        "The prompt template reaches outside the template language",
        _W,
        "Templates are programs: some runtimes render them without a sandbox (CVE-2024-34359). "
        "Read it before you load the model.",
    ),
    # shard index and JSON
    ("201", "index-json", "The shard index is not strict JSON", _E, _REFETCH),
    (
        "202",
        "index-duplicate",
        "The shard index names a tensor twice",
        _E,
        "Which weights load would depend on the reader.",
    ),
    ("203", "index-path", "The shard index points outside the model", _E, "Do not load it."),
    ("204", "index-entry", "The shard index has a malformed entry", _E, _REFETCH),
    ("205", "index-mismatch", "Index and shards disagree on a tensor", _E, _REFETCH),
    (
        "206",
        "index-total-size",
        "`total_size` of the index is not the sum of the tensors",
        _N,
        "DeepSeek-R1's own index has 1,369,062,772,000 there, twice its element count: harmless.",
    ),
    ("207", "tensor-duplicate", "A tensor stands in two shards", _E, "Remove the foreign shard."),
    ("208", "index-missing", "Several weight files and no shard index", _W, "Loaders need it."),
    ("209", "config-json", "A JSON file is malformed", _E, _REFETCH),
)
