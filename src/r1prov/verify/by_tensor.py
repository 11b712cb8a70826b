"""The same weights whatever files they are in: models compared tensor by tensor, by content."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from r1prov.formats.inventory import DTYPE_BITS
from r1prov.manifest.loadable import component_prefix
from r1prov.text import plural, printable, quoted
from r1prov.verify.findings import Finding, Part, Tally, finding

if TYPE_CHECKING:
    from r1prov.formats.safetensors import Header
    from r1prov.hashing.digest import BlobDigest
    from r1prov.manifest.tensor_digests import TensorDigest

# A converted R1 differs in all of its 91,991 tensors; a reader needs some of them and the number.
LISTED: Final = 20

T = TypeVar("T")


class ModelTensor(NamedTuple):
    """One tensor of a model.

    Attributes:
        name: Its name.
        dtype: Its dtype.
        shape: Its dimensions.
        sha256: SHA-256 of its bytes in hex; None if they were not read.
        file: The file that holds it; empty where the model is only stated by a manifest.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str | None
    file: str = ""

    def described(self) -> str:
        """Dtype and shape: `BF16 [7168, 2048]`."""
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"

    def content(self) -> str:
        """Dtype, shape and digest."""
        return f"{self.described()}, sha256:{self.sha256 or 'unknown'}"

    def size(self) -> int:
        """Bytes that it takes."""
        return DTYPE_BITS[self.dtype] * math.prod(self.shape) // 8


def model_tensors(
    headers: Mapping[str, Header], digests: Mapping[str, BlobDigest]
) -> list[ModelTensor]:
    """The tensors of a model that was hashed with `stores.headers.tensor_extents`.

    Args:
        headers: Path to header, of the weight files that count.
        digests: Path to digests, of the files that were read.

    Returns:
        Every tensor of every file; without a digest where its file has none.
    """
    found = []
    for path, header in headers.items():
        digest = digests.get(path)
        extents: Mapping[str, str] = digest.extents if digest is not None else {}
        # As in `loadable_inventory`: components of a pipeline have tensors of the same names.
        prefix = component_prefix(path, headers)
        found += [
            ModelTensor(prefix + t.name, t.dtype, t.shape, extents.get(t.name), path)
            for t in header.tensors
        ]
    return found


def stated_tensors(tensors: Iterable[TensorDigest]) -> list[ModelTensor]:
    """The tensors that a sidecar states."""
    return [ModelTensor(*tensor) for tensor in tensors]


@dataclass(slots=True)
class TensorMatch:
    """How the tensors of two models go together; each tensor is in one place only.

    Attributes:
        equal: Same name, dtype, shape and content.
        undigested: Same name, dtype and shape; the content of one is not known.
        changed: Same name, dtype and shape, other content.
        reshaped: Same name, other dtype or shape.
        renamed: Same dtype, shape and content, other name.
        only_a: Without a partner in B.
        only_b: Without a partner in A.
        duplicates_a: Tensors of A whose name stands more than once in A; they match nothing,
            because which of them loads depends on the reader.
        duplicates_b: The same of B.
    """

    equal: list[tuple[ModelTensor, ModelTensor]] = field(default_factory=list)
    undigested: list[tuple[ModelTensor, ModelTensor]] = field(default_factory=list)
    changed: list[tuple[ModelTensor, ModelTensor]] = field(default_factory=list)
    reshaped: list[tuple[ModelTensor, ModelTensor]] = field(default_factory=list)
    renamed: list[tuple[ModelTensor, ModelTensor]] = field(default_factory=list)
    only_a: list[ModelTensor] = field(default_factory=list)
    only_b: list[ModelTensor] = field(default_factory=list)
    duplicates_a: list[ModelTensor] = field(default_factory=list)
    duplicates_b: list[ModelTensor] = field(default_factory=list)

    @property
    def same_weights(self) -> bool:
        """Whether every tensor has its equal, by name and content."""
        return not (
            self.undigested
            or self.changed
            or self.reshaped
            or self.renamed
            or self.only_a
            or self.only_b
            or self.duplicates_a
            or self.duplicates_b
        )


def match_tensors(a: Iterable[ModelTensor], b: Iterable[ModelTensor]) -> TensorMatch:
    """Match two models tensor by tensor: by name first, and what is left by content."""
    match = TensorMatch()
    left, match.duplicates_a = _by_name(a)
    right, match.duplicates_b = _by_name(b)
    # A name that is ambiguous on one side is neither missing nor extra on the other.
    ambiguous = {tensor.name for tensor in (*match.duplicates_a, *match.duplicates_b)}
    for name in sorted(left.keys() | right.keys()):
        one, other = left.get(name), right.get(name)
        if one is not None and other is not None:
            _pair(match, one, other)
        elif name in ambiguous:
            continue
        elif one is not None:
            match.only_a.append(one)
        elif other is not None:
            match.only_b.append(other)
    _find_renamed(match)
    return match


def _by_name(
    tensors: Iterable[ModelTensor],
) -> tuple[dict[str, ModelTensor], list[ModelTensor]]:
    everything = list(tensors)
    named = {tensor.name: tensor for tensor in everything}
    if len(named) == len(everything):
        return named, []
    counts = Counter(tensor.name for tensor in everything)
    duplicates = sorted(
        (tensor for tensor in everything if counts[tensor.name] > 1),
        key=lambda tensor: (tensor.name, tensor.file),
    )
    return {name: one for name, one in named.items() if counts[name] == 1}, duplicates


def _pair(match: TensorMatch, one: ModelTensor, other: ModelTensor) -> None:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        match.reshaped.append((one, other))
    elif one.sha256 is None or other.sha256 is None:
        match.undigested.append((one, other))
    elif one.sha256 != other.sha256:
        match.changed.append((one, other))
    else:
        match.equal.append((one, other))


def _find_renamed(match: TensorMatch) -> None:
    """Pair what is left over by content.

    Norms and biases often have one content, so of several candidates the first by name is taken:
    as their bytes are the same, no other choice would mean anything else.
    """
    candidates: dict[tuple[str, tuple[int, ...], str], list[ModelTensor]] = defaultdict(list)
    for tensor in reversed(match.only_b):
        if tensor.sha256 is not None:
            candidates[tensor.dtype, tensor.shape, tensor.sha256].append(tensor)
    kept, taken = [], set()
    for tensor in match.only_a:
        same = candidates.get((tensor.dtype, tensor.shape, tensor.sha256 or ""))
        if same:
            other = same.pop()
            match.renamed.append((tensor, other))
            taken.add(other.name)
        else:
            kept.append(tensor)
    match.only_a = kept
    match.only_b = [tensor for tensor in match.only_b if tensor.name not in taken]


@dataclass(frozen=True, slots=True)
class TensorCheck:
    """What came of holding a model's tensors against a sidecar.

    Attributes:
        findings: What differs, at most `LISTED` of each rule and one more that says how many.
        tally: Tensors and bytes that match, of those that the sidecar states.
        undigested: Tensors whose bytes were not read, so that nothing is known of them.
        match: Everything, uncut.
    """

    findings: tuple[Finding, ...]
    tally: Tally
    undigested: int
    match: TensorMatch

    @property
    def same_weights(self) -> bool:
        """Whether the model has exactly the weights that the sidecar states."""
        return self.match.same_weights


def check_by_tensor(
    stated: Sequence[TensorDigest], tensors: Iterable[ModelTensor], *, listed: int = LISTED
) -> TensorCheck:
    """Hold the tensors of a model against those that a manifest states.

    Which file holds a tensor does not matter, nor how many files there are. A tensor without a
    digest gives no finding; the caller's coverage says that it was not compared.

    Args:
        stated: What the sidecar of the manifest states.
        tensors: What the model has.
        listed: How many findings of one rule are listed one by one.
    """
    expected = stated_tensors(stated)
    match = match_tensors(expected, tensors)
    names: dict[str, str] = {}
    for tensor in expected:
        names.setdefault(tensor.sha256 or "", tensor.name)
    findings = [
        *_cut("tensor-digest", match.changed, listed, lambda pair: _changed(*pair, names)),
        *_cut("tensor-shape", match.reshaped, listed, lambda pair: _reshaped(*pair)),
        *_cut("tensor-renamed", match.renamed, listed, lambda pair: _renamed(*pair)),
        *_cut("tensor-missing", match.only_a, listed, _missing),
        *_cut("tensor-unlisted", match.only_b, listed, lambda one: _unlisted(one, names)),
        *_cut("tensor-duplicate", match.duplicates_b, listed, _duplicate),
    ]
    pairs = (*match.changed, *match.reshaped, *match.renamed)
    differing = [one.name for one, _ in pairs] + [one.name for one in match.only_a]
    return TensorCheck(
        tuple(findings),
        Tally(
            matching=len(match.equal),
            total=len(expected),
            matching_bytes=sum(one.size() for one, _ in match.equal),
            total_bytes=sum(one.size() for one in expected),
            differing=tuple(differing[:listed]),
        ),
        len(match.undigested),
        match,
    )


def _cut(
    rule: str, items: Sequence[T], listed: int, describe: Callable[[T], Finding]
) -> list[Finding]:
    """The first findings of a rule, and one that says how many there are."""
    findings = [describe(item) for item in items[:listed]]
    if len(items) > listed:
        more = plural(len(items) - listed, "more tensor")
        message = f"{more} of this kind, {len(items):,} in all"
        findings.append(finding(rule, "tensors", message, part=Part.WEIGHTS))
    return findings


def _changed(one: ModelTensor, other: ModelTensor, names: Mapping[str, str]) -> Finding:
    whose = names.get(other.sha256 or "")
    return finding(
        "tensor-digest",
        one.name,
        f"tensor {quoted(one.name)} in {printable(other.file)} has other values",
        expected=f"sha256:{one.sha256}",
        found=f"sha256:{other.sha256}" + (f", which is {quoted(whose)}" if whose else ""),
        part=Part.WEIGHTS,
    )


def _reshaped(one: ModelTensor, other: ModelTensor) -> Finding:
    same = " over the same bytes" if one.sha256 == other.sha256 else ""
    return finding(
        "tensor-shape",
        one.name,
        f"tensor {quoted(one.name)} in {printable(other.file)} has another dtype or shape{same}",
        expected=one.described(),
        found=other.described(),
        part=Part.WEIGHTS,
    )


def _renamed(one: ModelTensor, other: ModelTensor) -> Finding:
    return finding(
        "tensor-renamed",
        one.name,
        f"tensor {quoted(one.name)} has another name in {printable(other.file)}; its bytes are "
        "those of the manifest",
        expected=one.name,
        found=other.name,
        part=Part.WEIGHTS,
    )


def _missing(one: ModelTensor) -> Finding:
    return finding(
        "tensor-missing",
        one.name,
        f"tensor {quoted(one.name)} is in no weight file",
        expected=one.content(),
        part=Part.WEIGHTS,
    )


def _unlisted(other: ModelTensor, names: Mapping[str, str]) -> Finding:
    whose = names.get(other.sha256 or "")
    return finding(
        "tensor-unlisted",
        other.name,
        f"tensor {quoted(other.name)} in {printable(other.file)} is not in the manifest",
        found=other.content() + (f", the bytes of {quoted(whose)}" if whose else ""),
        part=Part.WEIGHTS,
    )


def _duplicate(other: ModelTensor) -> Finding:
    return finding(
        "tensor-duplicate",
        other.name,
        f"tensor {quoted(other.name)} stands more than once, here in {printable(other.file)}",
        found=other.content(),
        part=Part.WEIGHTS,
    )
