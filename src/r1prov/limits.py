"""Every cap of r1prov, with its reason. Nothing is allocated by a size that a file declares."""

from __future__ import annotations

from typing import Final

# Header cap of the safetensors reference implementation (`MAX_HEADER_SIZE`).
MAX_SAFETENSORS_HEADER_BYTES: Final = 100_000_000
# Trailing spaces in a safetensors header. Writers pad to 8 bytes; more hides data or wastes memory.
MAX_HEADER_PADDING_BYTES: Final = 64 * 1024
WARN_HEADER_PADDING_BYTES: Final = 4 * 1024
# DeepSeek-R1 has 91,991 tensors in 163 files; three times that in one file is no model we know.
MAX_TENSORS_PER_FILE: Final = 300_000
MAX_TENSORS_PER_MODEL: Final = 600_000
MAX_TENSOR_NAME_BYTES: Final = 1024
MAX_TENSOR_RANK: Final = 32
# `__metadata__` as UTF-8: free text that no reader needs to load a model. Weights carry
# `{"format": "pt"}`; a megabyte leaves room for training notes, and more is a place to hide data.
MAX_HEADER_METADATA_BYTES: Final = 1024 * 1024
# No integer of a header needs more than 19 digits. Those of up to 64 KiB are told by what they are
# (a dimension, an offset), but only this many digits are converted: CPython refuses more than 640
# at its strictest setting, and conversion takes quadratic time.
MAX_HEADER_INT_DIGITS: Final = 600
MAX_HEADER_INT_TEXT_BYTES: Final = 64 * 1024
# Sizes and offsets are u64 on disk and i64 in most readers.
MAX_INT63: Final = 2**63 - 1

# R1's own shard index is 8.9 MB; 64 MiB leaves room for seven times its tensors.
MAX_SHARD_INDEX_BYTES: Final = 64 * 1024 * 1024
# config.json and its kind are a few kB; tokenizer.json (up to 30 MB) is hashed, never parsed.
MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
# Pipelines of several models have two or three configs in each sub-directory: dozens of files.
MAX_CONFIG_FILES: Final = 128
# Our own inputs: manifests, trust files, bundles, key files, digest lists.
MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
MAX_TRUST_FILE_BYTES: Final = 1024 * 1024
MAX_BUNDLE_BYTES: Final = 1024 * 1024
MAX_KEY_FILE_BYTES: Final = 64 * 1024
# An OpenSSF Model Signing bundle lists every file: 300 bytes each, for as many as a store may hold.
MAX_OMS_BUNDLE_BYTES: Final = 64 * 1024 * 1024
# A file of root certificates; the 150 or so that browsers trust take 300 kB.
MAX_CERTIFICATE_FILE_BYTES: Final = 1024 * 1024
MAX_ROOT_CERTIFICATES: Final = 1000
# Chains in use have two to four certificates. The search for a path looks at every pair at most
# this many times, however many certificates of one name a bundle brings.
MAX_CHAIN_CERTIFICATES: Final = 16
MAX_CHAIN_DEPTH: Final = 8
MAX_CHAIN_SIGNATURE_CHECKS: Final = 64
MAX_CHECKSUM_FILE_BYTES: Final = 64 * 1024 * 1024
# JSON of ours nests a handful of levels; deeper is an attack on the parser.
MAX_JSON_DEPTH: Final = 64
# 20 digits hold any u64; longer integers only cost time (CPython's quadratic int parsing).
MAX_JSON_INT_DIGITS: Final = 20
# Values of one JSON text: R1's index has 92,000; each costs about a hundred bytes once parsed.
MAX_JSON_VALUES: Final = 2_000_000
# Signatures beside one manifest (Sigstore caps timestamps at the same number).
MAX_SIGNATURES: Final = 32

# Entries in a model directory, and how deep they nest.
MAX_STORE_ENTRIES: Final = 100_000
MAX_STORE_DEPTH: Final = 32
MAX_PATH_BYTES: Final = 1024

# One reused buffer a hashing thread: large enough that hashlib's lock hand-over costs nothing.
HASH_BUFFER_BYTES: Final = 1024 * 1024
MAX_HASH_WORKERS: Final = 32
# Files up to this size also get a Git blob id, so that small files bind to a Hub commit.
MAX_GIT_BLOB_BYTES: Final = 64 * 1024 * 1024
