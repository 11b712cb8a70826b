"""A verified model whose tensors are the bytes that were checked."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol, Self

from r1prov.errors import NotFound, UsageError, VerificationFailed
from r1prov.formats.arrays import NUMPY, as_numpy, as_torch
from r1prov.limits import MAX_SHARD_INDEX_BYTES
from r1prov.stores.base import read_small
from r1prov.text import quoted
from r1prov.verify.findings import Finding, Part, Report, Verdict, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any

    from r1prov.formats.inventory import Tensor
    from r1prov.formats.safetensors import Header
    from r1prov.manifest.schema import Manifest
    from r1prov.stores.base import Store

# What is no weight file and has at most this size is small: as much as a check reads whole.
SMALL_FILE_BYTES: Final = MAX_SHARD_INDEX_BYTES
_NAMED: Final = 3


class TensorBytes(Protocol):
    """Where the bytes of tensors come from; whatever it returns has been checked."""

    def of(self, name: str) -> memoryview:
        """The bytes of the tensor with that name, read-only or the caller's own.

        Raises:
            VerificationFailed: They are not what was signed.
            StoreError: They cannot be read.
        """

    def close(self) -> None:
        """Release what is held. May be called twice."""


class VerifiedModel:
    """A model that passed, open for reading: as `safetensors.safe_open`, for all shards at once.

    Attributes:
        report: The report of the verification.
    """

    def __init__(
        self,
        report: Report,
        store: Store,
        manifest: Manifest,
        tensors: Mapping[str, Tensor],
        content: TensorBytes,
        *,
        metadata: dict[str, str] | None,
        framework: str,
    ) -> None:
        self.report = report
        self._store = store
        self._signed = {entry.path: entry.sha256 for entry in manifest.files}
        self._tensors = tensors
        self._content: TensorBytes | None = content
        self._metadata = metadata
        self._framework = framework

    def keys(self) -> list[str]:
        """Names of the tensors, sorted.

        Components of a pipeline, in folders of their own, have the folder before the name.
        """
        return sorted(self._tensors)

    def offset_keys(self) -> list[str]:
        """Names of the tensors in the order of the files and of the bytes in them."""
        place = self._tensors
        return sorted(place, key=lambda name: (place[name].file, place[name].begin, name))

    def get_tensor(self, name: str) -> Any:  # noqa: ANN401 - of whichever framework was asked for
        """The tensor of that name.

        Returns:
            With numpy a read-only array; with torch a tensor of its own memory on the CPU.

        Raises:
            NotFound: There is none.
            UsageError: The framework has no such dtype, or the model is closed.
            VerificationFailed: Its bytes are not what was signed (`lazy` only).
            StoreError: It cannot be read (`lazy` only).
        """
        data = self.get_buffer(name)
        tensor = self._tensors[name]
        convert = as_numpy if self._framework in NUMPY else as_torch
        return convert(data, tensor.dtype, tensor.shape)

    def get_slice(self, name: str) -> TensorSlice:
        """The tensor of that name, to take parts of: shape and dtype without its bytes.

        Raises:
            NotFound: There is none.
        """
        return TensorSlice(self, self._tensor(name))

    def get_buffer(self, name: str) -> memoryview:
        """The bytes of the tensor, little-endian and in C order; for every dtype.

        Raises:
            NotFound: There is none.
            UsageError: The model is closed.
            VerificationFailed: They are not what was signed (`lazy` only).
            StoreError: They cannot be read (`lazy` only).
        """
        self._tensor(name)
        return self._open().of(name)

    def metadata(self) -> dict[str, str] | None:
        """The `__metadata__` of the weight files, as far as they agree; None if there is none.

        None with `lazy`, where no digest of it was checked.
        """
        return None if self._metadata is None else dict(self._metadata)

    def read_file(self, path: str) -> bytes:
        """A small file of the model, such as `config.json`: the bytes that were signed.

        Raises:
            NotFound: It is not there, or the manifest has no digest for it.
            VerificationFailed: It is another file than the manifest lists.
            LimitExceeded: It is not small.
            StoreError: It cannot be read.
        """
        self._open()
        signed = self._signed.get(path)
        if signed is None:
            raise NotFound(
                "the manifest has no digest for this file, so nobody signed it", subject=path
            )
        data = read_small(self._store, path, SMALL_FILE_BYTES)
        found = hashlib.sha256(data).hexdigest()
        if found != signed:
            broken = finding(
                "file-digest",
                path,
                "another SHA-256 than the manifest says",
                expected=f"sha256:{signed}",
                found=f"sha256:{found}",
                part=Part.OTHER,
            )
            raise failed_later(self.report, broken)
        return data

    def close(self) -> None:
        """Release the model. May be called twice; arrays that were handed out stay valid."""
        content, self._content = self._content, None
        if content is not None:
            content.close()

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def _tensor(self, name: str) -> Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise NotFound(f"the model has no tensor {quoted(name)}", subject=name) from None

    def _open(self) -> TensorBytes:
        content = self._content  # read once: another thread may close the model
        if content is None:
            raise closed_model()
        return content


class TensorSlice:
    """What `get_slice` returns; indexing it gives a part of the tensor."""

    def __init__(self, model: VerifiedModel, tensor: Tensor) -> None:
        self._model = model
        self._name = tensor.name
        self._dtype = tensor.dtype
        self._shape = tensor.shape

    def get_shape(self) -> list[int]:
        """Its dimensions."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """Its dtype as safetensors spells it."""
        return self._dtype

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - whatever the framework takes
        # A digest is of a whole tensor, and a view of numpy costs nothing.
        return self._model.get_tensor(self._name)[index]


def closed_model() -> UsageError:
    """The error of reading from a model after `close`."""
    return UsageError("the model is closed", hint="read inside its `with` block")


def common_metadata(headers: Mapping[str, Header]) -> dict[str, str] | None:
    """Members of `__metadata__` that no file contradicts."""
    found: dict[str, str] = {}
    differing = set()
    for header in headers.values():
        for key, value in header.metadata.items():
            if found.setdefault(key, value) != value:
                differing.add(key)
    return {key: value for key, value in found.items() if key not in differing} or None


def not_passed(report: Report) -> VerificationFailed:
    """The error that says why a model is not opened."""
    errors = [one for one in report.findings if one.severity is Severity.ERROR]
    if errors:
        why = "; ".join(f"{one.subject}: {one.message}" for one in errors[:_NAMED])
    else:
        open_items = [f"{one.item}: {one.detail}" for one in report.coverage if one.required]
        why = "; ".join(open_items[:_NAMED])
    if len(errors) > _NAMED:
        why += f"; and {len(errors) - _NAMED} more"
    return VerificationFailed(
        f"verdict {report.verdict.value} {report.headline}: {why}",
        report=report,
        subject=report.model,
        hint="the report of this error has every finding; `r1prov verify` shows it",
    )


def failed_later(report: Report, broken: Finding) -> VerificationFailed:
    """The error of bytes that are read after the report was made, and are not what was signed."""
    late = replace(report, verdict=Verdict.FAIL, findings=(*report.findings, broken))
    return VerificationFailed(
        f"{broken.subject}: {broken.message}",
        report=late,
        subject=broken.subject,
        hint=broken.hint or broken.rule.help,
    )
