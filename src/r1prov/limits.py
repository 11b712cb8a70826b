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

# GGUF headers are mostly vocabulary: 5 MB for R1, 10 to 20 MB for the largest known.
MAX_GGUF_HEADER_BYTES: Final = 256 * 1024 * 1024
# One metadata string: a whole tokenizer.json (30 MB) may stand in one.
MAX_GGUF_STRING_BYTES: Final = 64 * 1024 * 1024
# One string of an array: a token or a merge, of a few hundred bytes at most.
MAX_GGUF_ELEMENT_BYTES: Final = 1024 * 1024
# Strings in all arrays: a vocabulary of 256,000 with its merges has half a million.
MAX_GGUF_ARRAY_STRINGS: Final = 4_000_000
# Key-value pairs: R1 has 42, a file with an entry a layer a few hundred.
MAX_GGUF_METADATA: Final = 10_000
# Keys and values that are kept, all together; a longer string is digested and left.
MAX_GGUF_KEPT_BYTES: Final = 4 * 1024 * 1024
MAX_GGUF_KEPT_TEXT_BYTES: Final = 1024
# Format, section "file structure": "Must be at most 2^16-1 bytes long".
MAX_GGUF_KEY_BYTES: Final = 65_535
# `GGML_MAX_NAME` less its NUL, `GGML_MAX_DIMS`.
MAX_GGUF_TENSOR_NAME_BYTES: Final = 63
MAX_GGUF_RANK: Final = 4
# Experts of a layer are one tensor, so R1 has 1,025 or 1,086; older files had one an expert.
MAX_GGUF_TENSORS: Final = 65_536
MAX_GGUF_ALIGNMENT: Final = 64 * 1024
# Prompt templates have a few kB; what is longer is digested but not searched.
MAX_TEMPLATE_BYTES: Final = 1024 * 1024
# `LLAMA_MAX_LAYERS` of llama.cpp, which has arrays of that length.
MAX_GGUF_LAYERS: Final = 512
# Parts of one split GGUF: a file name has five digits, R1 in BF16 came in 30.
MAX_GGUF_PARTS: Final = 1_000

# R1's own shard index is 8.9 MB; 64 MiB leaves room for seven times its tensors.
MAX_SHARD_INDEX_BYTES: Final = 64 * 1024 * 1024
# config.json and its kind are a few kB; tokenizer.json (up to 30 MB) is hashed, never parsed.
MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
# Pipelines of several models have two or three configs in each sub-directory: dozens of files.
MAX_CONFIG_FILES: Final = 128
# The manifest of an Ollama tag is 1 kB; one with a layer for each tensor of a model may be 1 MB.
MAX_OLLAMA_MANIFEST_BYTES: Final = 4 * 1024 * 1024
# transformers writes int(1e30) for "no limit" of `model_max_length`: 31 digits.
MAX_CONFIG_INT_DIGITS: Final = 64
# Our own inputs: manifests, trust files, bundles, key files, digest lists.
MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
# A line for each tensor: R1's 91,991 take 12 MB, `MAX_TENSORS_PER_MODEL` of such names 90 MB.
MAX_TENSOR_DIGESTS_BYTES: Final = 128 * 1024 * 1024
MAX_TRUST_FILE_BYTES: Final = 1024 * 1024
MAX_BUNDLE_BYTES: Final = 1024 * 1024
# A policy file, or the pyproject.toml that holds one; the longest of the field are some 100 kB.
MAX_POLICY_BYTES: Final = 1024 * 1024
# Entries of a policy, and allowances of one entry: each is tried on every finding it could fit.
MAX_POLICY_MODELS: Final = 1000
MAX_POLICY_ALLOWANCES: Final = 256
MAX_KEY_FILE_BYTES: Final = 64 * 1024
# A PKCS#11 URI: a dozen attributes of 32 or 64 bytes each, a label, and two paths.
MAX_KEY_URI_CHARACTERS: Final = 16 * 1024
# PINs have 4 to 64 characters; tokens with 255 are known.
MAX_PIN_FILE_BYTES: Final = 1024
# Objects of a token that are looked at, and named when several fit.
MAX_TOKEN_OBJECTS: Final = 16
# Seconds for a trial load of a PKCS#11 module, which takes some hundredths.
MODULE_TRIAL_SECONDS: Final = 30.0
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
# An RFC 3161 answer has 1 to 7 kB: a signature, and the authority's certificate with its issuers.
MAX_TIMESTAMP_BYTES: Final = 64 * 1024
# Seconds for one of them, all told: an authority signs a digest and is asked by a person waiting.
MAX_TIMESTAMP_SECONDS: Final = 30.0
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

# What a Hub sends: a page of a listing has 1,000 entries of about 400 bytes; 32 MiB is 80 times it.
MAX_HUB_RESPONSE_BYTES: Final = 32 * 1024 * 1024
# Pages of a listing: MAX_STORE_ENTRIES at 1,000 a page, twice over.
MAX_HUB_PAGES: Final = 200
MAX_HUB_REDIRECTS: Final = 5
# First range of a remote file. R1's longest header has 76 kB; the reader of headers asks for this
# much at once, so that a header costs one request.
REMOTE_FIRST_RANGE_BYTES: Final = 128 * 1024
# Further ranges of one file grow to this while they are read one after another.
REMOTE_MAX_RANGE_BYTES: Final = 4 * 1024 * 1024
# Remote files up to this size are fetched whole: R1's index has 8.9 MB, its tokenizer 7.8 MB.
REMOTE_WHOLE_FILE_BYTES: Final = 16 * 1024 * 1024
# Of those, and of first ranges, this much is kept: R1's 163 first ranges and small files are 38 MB.
REMOTE_KEPT_BYTES: Final = 64 * 1024 * 1024
# A header costs a round trip and no computing: more threads than cores, few enough for any server.
REMOTE_HEADER_WORKERS: Final = 8
# Commit and trees of R1 are 20 kB. A server that cannot leave out blobs sends the small files too
# (R1: 17 MB), never the weights: those are under Git LFS.
MAX_GIT_PACK_BYTES: Final = 64 * 1024 * 1024
# What a pack inflates to, and one object of it; a pack of zeros inflates a thousandfold.
MAX_GIT_INFLATED_BYTES: Final = 256 * 1024 * 1024
MAX_GIT_TREE_BYTES: Final = 16 * 1024 * 1024
MAX_GIT_OBJECTS: Final = 200_000
# `git pack-objects --depth` takes at most 4,095 and writes 50.
MAX_GIT_DELTA_CHAIN: Final = 4_095
# Seconds for one commit over Git: the answer is small, or it is not wanted.
MAX_GIT_SECONDS: Final = 120.0
# Files of `huggingface_hub` beside a download: three lines, and a listing as above.
MAX_DOWNLOAD_METADATA_BYTES: Final = 4 * 1024
# Rows of a digest cache, about 200 bytes each: six thousand models of R1's 163 files.
MAX_CACHED_DIGESTS: Final = 1_000_000
# Another process holds the cache for one statement at a time, far below a second.
CACHE_LOCK_SECONDS: Final = 5
# Object stores. A range is large enough that a request's latency costs little, and small enough to
# arrive within the time-out over a slow line (8 MiB in 60 s is 140 kB/s).
OBJECT_RANGE_BYTES: Final = 8 * 1024 * 1024
# Ranges of one store under way or waiting to be read: what streaming holds in memory, unless more
# blobs than this are streamed at once.
MAX_OBJECT_RANGES: Final = 8
# Read when an object is opened. R1's headers are 76 kB at most, so each is one request.
OBJECT_PREFETCH_BYTES: Final = 256 * 1024
# One request, and how often it is sent again; ten times as long for a listing of many pages.
OBJECT_TIMEOUT_SECONDS: Final = 60.0
OBJECT_RETRIES: Final = 3

# A signed statement about a streamed answer has 1 to 1.5 kB; a long path or query adds to it.
MAX_STREAM_STATEMENT_BYTES: Final = 16 * 1024
# Signing proxy. A request of a chat client is kept whole until its digest is known: a context of
# 128,000 tokens has some 600 kB of text, images are sent as base64.
MAX_PROXY_REQUEST_BYTES: Final = 32 * 1024 * 1024
# Contents of all requests that are under way at once: 16 of the longest, thousands of common ones.
MAX_PROXY_REQUESTS_BYTES: Final = 512 * 1024 * 1024
# An answer that is signed in its header is held back until it is whole; a longer one is passed on
# as it comes and signed in a receipt.
MAX_PROXY_HELD_BYTES: Final = 16 * 1024 * 1024
# Request line and header; common servers take 8 to 64 KiB.
MAX_PROXY_HEAD_BYTES: Final = 64 * 1024
# Receipts of the last streams, each of a statement's size: at most some 160 MB, commonly 10 MB.
MAX_PROXY_RECEIPTS: Final = 10_000
PROXY_RECEIPT_SECONDS: Final = 600.0

# API responses. One structured field: a signature of RSA-8192 has 1,400 characters, a certificate
# chain (`Client-Cert-Chain`) some 10 kB; common servers take 8 to 64 kB for all header fields.
MAX_STRUCTURED_FIELD_BYTES: Final = 64 * 1024
# Signatures of one message: the server's, those of proxies, and two keys during a rotation.
MAX_MESSAGE_SIGNATURES: Final = 16
# Components that one signature covers; the RFC's largest example has ten.
MAX_SIGNED_COMPONENTS: Final = 128
# A key set served or kept: the largest in public use have a dozen keys of 1 kB.
MAX_JWKS_BYTES: Final = 1024 * 1024
MAX_JWKS_KEYS: Final = 256
# A receipt has 1 to 4 kB; one with an event for each of many upstreams stays below this.
MAX_RECEIPT_BYTES: Final = 1024 * 1024
MAX_RECEIPT_EVENTS: Final = 4096
# A compact JWS with an attached answer is not read this long; a detached one has 500 bytes.
MAX_JWS_BYTES: Final = 64 * 1024
# What of a request a statement repeats must leave room in it; common servers take 8 kB.
MAX_PROXY_TARGET_BYTES: Final = 8 * 1024
MAX_PROXY_NONCE_BYTES: Final = 256
# From signing to expiry of an answer or statement: the window common for signed webhooks.
PROXY_SIGNATURE_SECONDS: Final = 300
# Captured API exchanges. A body that is held: an answer of R1's whole context (164,000 tokens) as
# one event a token of 350 bytes is 57 MB. Of a longer one only digests are kept.
MAX_EXCHANGE_BODY_BYTES: Final = 64 * 1024 * 1024
# Two such bodies in base64 with room for fields and receipts.
MAX_EXCHANGE_FILE_BYTES: Final = 192 * 1024 * 1024
# Fields of one message and their bytes: servers refuse more than 8 to 64 kB of them.
MAX_HTTP_FIELDS: Final = 256
MAX_HTTP_HEADER_BYTES: Final = 256 * 1024
MAX_URL_BYTES: Final = 64 * 1024
# Receipts, keys and redactions of one exchange: a handful.
MAX_EXCHANGE_DOCUMENTS: Final = 32
MAX_EXCHANGE_REDACTIONS: Final = 1_000
# Another process holds the log for one write and its flush, far below a second even when slow.
LOG_LOCK_SECONDS: Final = 30.0
# Rotated files of one log.
MAX_LOG_FILES: Final = 100_000
# After the event that ends a stream come an empty line, perhaps comments, and the last chunk.
MAX_STREAM_TAIL_BYTES: Final = 64 * 1024
STREAM_TAIL_SECONDS: Final = 10.0
# One request for a receipt or key set, and how long a receipt is waited for after an answer: it
# appears at once on one machine, and within a few tries behind a load balancer.
RECEIPT_REQUEST_SECONDS: Final = 5.0
RECEIPT_SECONDS: Final = 15.0
# Signatures that a client remembers: a thousand answers a second for five minutes.
MAX_SEEN_SIGNATURES: Final = 300_000
# Questions to put to an endpoint. MMLU, the largest common set, has 15,908 in 8 MB.
MAX_QUESTION_SET_BYTES: Final = 64 * 1024 * 1024
MAX_QUESTION_SET_LINE_BYTES: Final = 1024 * 1024
MAX_QUESTIONS: Final = 100_000
# Files of a data set that a test set is made of. All of MMLU has 170 MB; corpora have terabytes.
MAX_DATASET_BYTES: Final = 1024 * 1024 * 1024
# Code that a model wrote, with its tests, and what it may take. Tests of HumanEval run for
# milliseconds, an interpreter takes some 15 MiB, and no test prints a book.
MAX_CODE_BYTES: Final = 1024 * 1024
MAX_CODE_SECONDS: Final = 5
MAX_CODE_MEMORY_BYTES: Final = 512 * 1024 * 1024
MAX_CODE_OUTPUT_BYTES: Final = 1024 * 1024
# Answers of an endpoint. R1 writes 64K tokens at most, each a chunk of some 300 bytes: 20 MB.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
# One event of a stream, or one answer that is not streamed: 64K tokens of text are 400 kB.
MAX_ANSWER_EVENT_BYTES: Final = 16 * 1024 * 1024
# Text of one answer that is tokenized again: 64K tokens are 300,000 characters, of 4 bytes at most.
MAX_RECOUNT_CHARACTERS: Final = 1_000_000
MAX_RECOUNT_BYTES: Final = 4 * MAX_RECOUNT_CHARACTERS
# R1's tokenizer.json has 7.8 MB, the largest known 35 MB.
MAX_TOKENIZER_BYTES: Final = 64 * 1024 * 1024
# Arrival times of one recorded answer: 64K pieces of 20 bytes each.
MAX_ARRIVALS_LINE_BYTES: Final = 16 * 1024 * 1024
# Of these no more are kept apart: a server may send a byte at a time.
MAX_ARRIVALS: Final = 200_000
# One request of an audit, from sending to the end of the answer: 64K tokens at 20 a second.
ANSWER_SECONDS: Final = 3600.0
# How long a server may ask to be left alone before the audit is put off to another day.
MAX_RETRY_AFTER_SECONDS: Final = 300.0
# Recorded answers of a trusted endpoint: 500 prompts, 100 times, 4 kB each.
MAX_ENDPOINT_REFERENCE_BYTES: Final = 256 * 1024 * 1024
MAX_REFERENCE_PROMPTS: Final = 10_000
MAX_REFERENCE_SAMPLES: Final = 10_000
# Prompts to be put to endpoints, one file.
MAX_PROMPT_FILE_BYTES: Final = 16 * 1024 * 1024

# Evidence bundles. Headers, index and configs of R1 have 22 MB; exchanges may add as much again.
MAX_EVIDENCE_BYTES: Final = 512 * 1024 * 1024
# R1 has 163 shards and a dozen other files; each exchange is one member.
MAX_EVIDENCE_MEMBERS: Final = 20_000
# The index names every member in some 150 bytes; the recorded listing of a store as well.
MAX_EVIDENCE_INDEX_BYTES: Final = 32 * 1024 * 1024
# A file that `--include files` takes whole: a tokenizer of R1 has 7.8 MB.
MAX_EVIDENCE_FILE_BYTES: Final = 16 * 1024 * 1024
# Bundles of one chain in a directory: one a day for ten years.
MAX_EVIDENCE_CHAIN: Final = 4_000
