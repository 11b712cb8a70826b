"""The rule table: every way a model can be wrong, with an id that never changes.

Ids are grouped by hundreds: 0xx files, 1xx safetensors and GGUF headers, 2xx shard index and JSON,
3xx signatures and trust, 4xx identity and architecture, 5xx hygiene, 6xx provenance, 7xx policy.
An id is never reused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs in the verdict."""

    ERROR = "error"  # the verdict is fail
    WARNING = "warning"  # shown; does not by itself change the verdict
    NOTE = "note"  # context that helps to read the result


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: `R1P` and three digits, fixed for ever.
        name: What parsers and tests call it.
        title: One line for a reader.
        severity: What a broken rule weighs unless the policy says otherwise.
        help: Why the rule exists and what to do.
    """

    id: str
    name: str
    title: str
    severity: Severity
    help: str


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_REFETCH = "Download the file again from the publisher and verify it again."
_SPEC = "The safetensors specification forbids it; another reader could see other weights."
_GGUF = "The file is broken or hostile: runtimes have crashed on its like. " + _REFETCH

_TABLE: tuple[tuple[str, str, str, Severity, str], ...] = (
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
        "They are no tensor: another reader could see other weights.",
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
    # signatures and trust
    (
        "301",
        "signature-missing",
        "The manifest has no signature",
        _E,
        "Sign it: `r1prov manifest sign MANIFEST --key KEY`.",
    ),
    ("302", "signature-invalid", "A signature does not verify", _E, "Do not use the manifest."),
    (
        "303",
        "signer-unknown",
        "Signed by a key that is not in the trust store",
        _E,
        "Get the public key from its owner over another channel, then `r1prov key add`.",
    ),
    ("304", "signer-expired", "The signing key is past its validity", _E, "Sign again."),
    ("305", "signer-not-yet-valid", "The signing key is not valid yet", _E, "Check the clock."),
    ("306", "signer-revoked", "The signing key was revoked", _E, "Do not use the manifest."),
    (
        "307",
        "signer-out-of-scope",
        "The key may not sign for this model",
        _E,
        "The trust file limits each key to model names.",
    ),
    (
        "308",
        "signature-threshold",
        "Fewer good signatures than the trust store asks for",
        _E,
        "Ask the other signers; the same key counts once.",
    ),
    (
        "310",
        "oms-bundle",
        "The model signature is malformed",
        _E,
        "It is not a Sigstore bundle v0.3 with one signed envelope. Get it again from the signer.",
    ),
    (
        "311",
        "oms-statement",
        "What was signed is not a statement about a model",
        _E,
        "The signature may be good; what it covers breaks the OpenSSF Model Signing "
        "specification. Ask the signer to sign again.",
    ),
    (
        "312",
        "oms-root",
        "The root digest is not that of the signed files",
        _E,
        "The signed statement contradicts itself. Ask the signer to sign again.",
    ),
    (
        "313",
        "oms-unsupported",
        "A model signature of a kind that is not verified",
        _E,
        "Read are SHA-256, BLAKE2b and BLAKE3 digests and ECDSA keys, in the form of version 1.",
    ),
    (
        "314",
        "signed-path-ignored",
        "The signature leaves out a file that loaders look for",
        _E,
        "What is not signed can be exchanged. Ignore the path yourself too if that is meant.",
    ),
    (
        "315",
        "certificate-untrusted",
        "The certificate does not lead to a trusted root",
        _E,
        "Get the root certificate from its owner over another channel than the model.",
    ),
    (
        "316",
        "certificate-expired",
        "A certificate is not valid at this time",
        _E,
        "Nothing proves that the signature was made while it was. Sign again.",
    ),
    (
        "317",
        "certificate-usage",
        "A certificate may not be used for this",
        _E,
        "Signers need keyUsage digitalSignature and extended key usage codeSigning, issuers the "
        "right to issue. Ask the authority for the right kind of certificate.",
    ),
    (
        "318",
        "signer-identity",
        "Signed by another identity than expected",
        _E,
        "The certificate is good and belongs to someone else.",
    ),
    # identity and architecture
    (
        "401",
        "no-manifest",
        "No manifest fits this model",
        _W,
        "`r1prov identify MODEL` shows what the headers say; `r1prov manifest create` makes one.",
    ),
    (
        "402",
        "model-not-expected",
        "The model is another one than expected",
        _E,
        "The verdict is about the model named in the first line, and `--expect` asked for another.",
    ),
    (
        "403",
        "name-claim",
        "Directory or config claims another model's name",
        _E,
        "Rename the directory, or say `--expect NAME` with the model that it is.",
    ),
    (
        "404",
        "inventory-mismatch",
        "The tensors are not those of the manifest",
        _E,
        "Names, dtypes and shapes come from the headers alone: this is not the released model.",
    ),
    (
        "405",
        "config-mismatch",
        "config.json does not describe these weights",
        _E,
        "A config of one model over the weights of another is how a distill is sold as R1.",
    ),
    ("406", "no-weights", "No weight files", _E, "Point at the directory with the weights."),
    ("411", "tensor-digest", "A tensor has another SHA-256 than the manifest says", _E, _REFETCH),
    ("412", "tensor-missing", "A tensor of the manifest is missing", _E, _REFETCH),
    (
        "413",
        "tensor-unlisted",
        "A tensor is not in the manifest",
        _E,
        "Loaders take tensors by name, so an extra one can add to the model or replace a part.",
    ),
    (
        "414",
        "tensor-shape",
        "A tensor has another dtype or shape than the manifest says",
        _E,
        "The weights were converted: quantize and reshape after verification, not before.",
    ),
    (
        "415",
        "tensor-renamed",
        "A tensor of the manifest has another name",
        _E,
        "The bytes are those that were signed, but loaders take tensors by name: under other names "
        "it is another model until the code that loads it says otherwise.",
    ),
    # hygiene
    (
        "501",
        "executable-file",
        "A file that can run code when loaded",
        _E,
        "Pickles and native code run with the rights of the server. Use safetensors only.",
    ),
    (
        "502",
        "code-unlisted",
        "Python code that the manifest does not list",
        _E,
        "With `trust_remote_code` it runs in the server. Remove it or sign a manifest with it.",
    ),
    (
        "503",
        "custom-code",
        "The model brings its own code",
        _N,
        "`auto_map` makes loaders run the listed `.py` files when `trust_remote_code` is set.",
    ),
    (
        "504",
        "symlink",
        "A symbolic link",
        _E,
        "The target can change without the model changing. Copy the file in.",
    ),
    ("505", "not-regular", "Not a regular file", _E, "A pipe or device has no content to verify."),
    (
        "506",
        "auto-map",
        "A config names code that the manifest does not list",
        _E,
        "The config makes loaders import it. Do not load with `trust_remote_code`.",
    ),
    (
        "507",
        "shadowing-file",
        "A file that loaders prefer over the listed weights",
        _E,
        "Loaders look for it first, so other weights than the verified ones would load.",
    ),
    (
        "508",
        "config-redirect",
        "A config makes loaders read other files than those verified",
        _E,
        "Remove the key, or sign the model with the files that it names.",
    ),
    # provenance
    (
        "601",
        "commit-proof",
        "The Hub commit proof does not hold",
        _E,
        "The manifest and the commit it cites disagree: do not use the manifest.",
    ),
    (
        "602",
        "git-blob",
        "A file has another Git blob id than the Hub commit says",
        _E,
        _REFETCH,
    ),
    (
        "603",
        "stated-digest",
        "A file is not what its own store says it is",
        _E,
        "It was changed after it was stored: fetch it again (`hf download`, `ollama pull`).",
    ),
    # policy
    (
        "701",
        "policy-model",
        "The policy allows no such model",
        _E,
        "Deploy a model that the policy names, or have whoever owns the policy add this one.",
    ),
    (
        "702",
        "policy-manifest",
        "Another manifest than the policy asks for",
        _E,
        "Verify with the manifest that the policy names (`--manifest`), byte for byte the pinned "
        "one.",
    ),
    (
        "703",
        "policy-signers",
        "Fewer good signatures than the policy asks for",
        _E,
        "Ask the named signers to sign the manifest; the same key counts once.",
    ),
    (
        "704",
        "policy-level",
        "Looked at less than the policy asks for",
        _E,
        "Verify again with the level and the scope of the policy.",
    ),
    (
        "705",
        "policy-variant",
        "Another variant than the policy asks for",
        _E,
        "`full` in a policy is what `--expect full` asks for: the tensors of DeepSeek-R1.",
    ),
    (
        "706",
        "policy-commit",
        "No Hub commit proof as the policy asks for",
        _E,
        "Use a manifest that carries the commit of the Hub.",
    ),
    (
        "707",
        "policy-expired",
        "An exception of the policy has expired",
        _W,
        "It lets nothing through any more: remove it, or give it a new reason and date.",
    ),
    (
        "708",
        "policy-in-model",
        "A policy file inside the model was ignored",
        _W,
        "A model cannot say how it is to be judged. Keep the policy elsewhere and name it with "
        "`--policy`.",
    ),
)

RULES: tuple[Rule, ...] = tuple(
    Rule(f"R1P{number}", name, title, severity, text)
    for number, name, title, severity, text in _TABLE
)
_BY_NAME = {rule.name: rule for rule in RULES}


def rule(name: str) -> Rule:
    """The rule with that name; an unknown name is a bug and raises `KeyError`."""
    return _BY_NAME[name]


def knows(name: str) -> bool:
    """Whether the table has a rule with that name."""
    return name in _BY_NAME
