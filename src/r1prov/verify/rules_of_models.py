"""Rules 3xx trust, 4xx identity, 5xx hygiene, 6xx provenance, 7xx policy."""

from __future__ import annotations

from r1prov.verify.rule import Row, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_REFETCH = "Download the file again from the publisher and verify it again."

MODELS: tuple[Row, ...] = (
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
    (
        "304",
        "signer-expired",
        "The signing key, or its authority, is past its validity",
        _E,
        "Sign again. A signature with a timestamp from before would still count.",
    ),
    (
        "305",
        "signer-not-yet-valid",
        "The signing key, or its authority, is not valid yet",
        _E,
        "Check the clock.",
    ),
    (
        "306",
        "signer-revoked",
        "The signing key, or its authority, was revoked",
        _E,
        "Do not use the manifest.",
    ),
    (
        "307",
        "signer-out-of-scope",
        "The key may not sign for this model",
        _E,
        "The trust file limits each key to model names, and to manifests or attestations of them.",
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
        "A certificate has expired",
        _E,
        "Nothing proves that the signature was made while it was valid. Sign again, with a "
        "timestamp.",
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
    (
        "320",
        "certificate-revoked",
        "A certificate was revoked",
        _E,
        "The trust store says so. Do not use the manifest.",
    ),
    (
        "321",
        "certificate-not-yet-valid",
        "A certificate is not valid yet",
        _E,
        "Check the clock, of this host and of whoever made the timestamp.",
    ),
    (
        "322",
        "timestamp-invalid",
        "A timestamp proves nothing",
        _E,
        "It is malformed, over other bytes, or not signed as RFC 3161 asks. It is a warning where "
        "the signature counts without it.",
    ),
    (
        "323",
        "timestamp-untrusted",
        "A timestamp of an authority that the trust store does not trust for it",
        _E,
        "`r1prov key add ROOT.pem --timestamp-authority` names one. It is a warning where the "
        "signature counts without it.",
    ),
    (
        "324",
        "timestamp-unchecked",
        "A timestamp could not be checked",
        _E,
        "Install r1prov[timestamp]. It is a warning where the signature counts without it.",
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
