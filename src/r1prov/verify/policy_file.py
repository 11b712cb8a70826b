"""The policy file: the strict parser of `r1prov.toml`, and where the file is looked for.

A misspelt key must not weaken a policy, so every unknown key is an error. `schema/policy-1.json`
says the same to editors; what only this parser refuses stands in that file's `$comment`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1prov.errors import InputError, ManifestError, NameRuleError, PolicyError, UsageError
from r1prov.limits import MAX_POLICY_ALLOWANCES, MAX_POLICY_BYTES, MAX_POLICY_MODELS
from r1prov.manifest.fields import SHA256, Table, nearest, read_toml
from r1prov.manifest.schema import VARIANTS
from r1prov.text import plural, quoted
from r1prov.trust.directories import read_file
from r1prov.verify.globs import parse_glob
from r1prov.verify.policy import (
    Allowance,
    AllowKind,
    Commit,
    Level,
    ModelEntry,
    PolicyFile,
    RuleOverride,
    Scope,
)
from r1prov.verify.policy_rules import NEEDS_PIN, why_never
from r1prov.verify.rules import RULES, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_PREFIX = "r1prov/policy/"
SCHEMA_VERSION = 1
FILE_NAME = "r1prov.toml"
PYPROJECT = "pyproject.toml"
VARIABLE = "R1PROV_POLICY"

# As in trust.toml: `*` and `?` only.
_MODEL_GLOB = r"[A-Za-z0-9._*?-]{1,128}"
_MANIFEST = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}|.*\.toml"
_IDENTITY = r".{1,1024}"
_RULE_KEY = r"[a-z][a-z0-9-]{0,63}|R1P[0-9]{3}"
# Blanks give no reason.
_REASON = r".*\S.*"
_OFF = "off"
_WEIGHT = {Severity.NOTE: 1, Severity.WARNING: 2, Severity.ERROR: 3}
_MAX_THRESHOLD = 1000
_BY_WORD: dict[str, Rule] = {r.name: r for r in RULES} | {r.id: r for r in RULES}


@dataclass(frozen=True, slots=True)
class FoundPolicy:
    """What a search for a policy file came to.

    Attributes:
        file: The policy; None if there is none.
        ignored: A file that was not taken because it lies inside the model.
    """

    file: PolicyFile | None
    ignored: str | None = None


def find_policy(named: Path | None = None, *, model: Path | None = None) -> FoundPolicy:
    """The policy of this run: `named`, else `R1PROV_POLICY`, else that of the working directory.

    There, `r1prov.toml` is taken before the table `[tool.r1prov]` of `pyproject.toml`. A policy
    inside the model is no policy: whoever made the model would judge it.

    Raises:
        UsageError: The named policy lies inside the model.
        NotFound: The named policy does not exist.
        PolicyError: It is malformed.
    """
    named = named or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        if model is not None and lies_inside(named, model):
            raise UsageError(
                f"policy {named} lies inside the model that it is to judge",
                subject=str(named),
                hint="keep the policy outside the model's directory",
            )
        return FoundPolicy(load_policy(named))
    ignored = None
    for path in (Path(FILE_NAME), Path(PYPROJECT)):
        if not os.path.lexists(path):
            continue
        # A single weight file has its folder for a model here: both came with the same download.
        if model is not None and lies_inside(path, model if model.is_dir() else model.parent):
            if path.name == FILE_NAME or _names_a_policy(path):
                ignored = ignored or str(path.resolve())
            continue
        found = _load(path, required=path.name == FILE_NAME)
        if found is not None:
            return FoundPolicy(found, ignored)
    return FoundPolicy(None, ignored)


def lies_inside(policy: Path, model: Path) -> bool:
    """Whether a policy file, or the link to it, lies in the model's directory."""
    try:
        folder = Path(os.path.realpath(model))
        link = Path(os.path.realpath(policy.parent)) / policy.name
        return any(one.is_relative_to(folder) for one in (link, Path(os.path.realpath(policy))))
    except ValueError:  # a NUL in a name: no such file
        return False


def _names_a_policy(path: Path) -> bool:
    """Whether a `pyproject.toml` of somebody else's would be a policy; what is malformed is not."""
    try:
        return _tool_table(read_toml(read_file(path, MAX_POLICY_BYTES), str(path))) is not None
    except InputError:
        return False


def _tool_table(top: dict[str, Any]) -> object:
    tool = top.get("tool")
    return tool.get("r1prov") if isinstance(tool, dict) else None


def load_policy(path: Path) -> PolicyFile:
    """Read a policy file, or the table `[tool.r1prov]` of a `pyproject.toml`.

    Raises:
        NotFound: No such file.
        PolicyError: It is malformed, or a `pyproject.toml` without that table.
    """
    found = _load(path, required=True)
    if found is None:
        raise PolicyError("has no table [tool.r1prov]", subject=str(path))
    return found


def _load(path: Path, *, required: bool) -> PolicyFile | None:
    raw = read_file(path, MAX_POLICY_BYTES)
    if path.name != PYPROJECT:
        return parse_policy(raw, subject=str(path), folder=path.parent)
    try:
        table = _tool_table(read_toml(raw, str(path)))
    except ManifestError as error:
        raise PolicyError(error.message, subject=error.subject, hint=error.hint) from None
    if table is None:
        if required:
            raise PolicyError("has no table [tool.r1prov]", subject=str(path))
        return None
    where = f"{path} [tool.r1prov]"
    if not isinstance(table, dict):
        raise PolicyError("`tool.r1prov` is not a table", subject=str(path))
    return parse_values(table, raw, subject=where, folder=path.parent)


def parse_policy(raw: bytes, *, subject: str, folder: Path | None = None) -> PolicyFile:
    """Parse a policy file strictly.

    Args:
        raw: Its bytes.
        subject: Its name, for messages.
        folder: Where manifest files are relative to; None is the working directory.

    Raises:
        PolicyError: It is malformed, or of a schema that this version does not read.
    """
    if len(raw) > MAX_POLICY_BYTES:
        raise PolicyError(
            f"is {len(raw):,} bytes; the cap is {MAX_POLICY_BYTES:,}", subject=subject
        )
    try:
        values = read_toml(raw, subject)
    except ManifestError as error:
        raise PolicyError(error.message, subject=subject, hint=error.hint) from None
    return parse_values(values, raw, subject=subject, folder=folder)


def parse_values(
    values: dict[str, Any], raw: bytes, *, subject: str, folder: Path | None = None
) -> PolicyFile:
    """A policy from parsed TOML; `raw` is the file that it comes from.

    Raises:
        PolicyError: It is malformed.
    """
    try:
        return _policy(Table(values, "", subject), raw, subject, folder or Path())
    except ManifestError as error:
        raise PolicyError(error.message, subject=error.subject, hint=error.hint) from None


def _policy(top: Table, raw: bytes, subject: str, folder: Path) -> PolicyFile:
    schema = top.text("schema")
    if schema != f"{SCHEMA_PREFIX}{SCHEMA_VERSION}":
        newer = schema.startswith(SCHEMA_PREFIX)
        raise top.error(
            f"schema is {quoted(schema)}, not `{SCHEMA_PREFIX}{SCHEMA_VERSION}`",
            hint="it may be newer than this r1prov: upgrade" if newer else None,
        )
    tables = top.tables("models")
    if len(tables) > MAX_POLICY_MODELS:
        raise top.error(f"has {len(tables):,} models; the cap is {MAX_POLICY_MODELS:,}")
    models = tuple(_model(one, f"models[{i}]", folder) for i, one in enumerate(tables))
    # What API responses and endpoints need is for `r1prov response`, `evidence` and `endpoint`,
    # which read it as strictly.
    others = [top.optional_table(name) for name in ("responses", "endpoint")]
    if not models and others == [None, None]:
        raise top.error(
            "allows no model", hint='add a [[models]] table; `name = "*"` allows every model'
        )
    rules = top.optional_table("rules")
    policy = PolicyFile(
        location=subject,
        sha256=hashlib.sha256(raw).hexdigest(),
        models=models,
        rules=_rules(rules) if rules is not None else (),
        cached_digests=_allows(top, "cached_digests", default=True),
        stated_digests=_allows(top, "stated_digests", default=True),
        partial_manifests=_allows(top, "partial_manifests", default=False),
    )
    top.finish()
    _check_pins(policy, top)
    return policy


def _allows(table: Table, key: str, *, default: bool) -> bool:
    word = _choice(table, key, ("allow", "refuse"))
    return default if word is None else word == "allow"


def _choice(table: Table, key: str, choices: Sequence[str]) -> str | None:
    return None if table.optional_text(key) is None else table.choice(key, choices)


def _model(table: Table, where: str, folder: Path) -> ModelEntry:
    manifest = table.optional_text("manifest", pattern=_MANIFEST)
    is_file = manifest is not None and manifest.endswith(".toml")
    signers = table.texts("signers", pattern=SHA256)
    if table.has("signers") and not signers:
        # Somebody may mean "nobody": it must not read as "whoever is trusted".
        raise table.error("`signers` is empty", hint="name key ids, or leave the key out")
    threshold = table.optional_size("threshold")
    if threshold is not None and not 1 <= threshold <= _MAX_THRESHOLD:
        raise table.error(f"`threshold` is {threshold}, not from 1 to {_MAX_THRESHOLD:,}")
    identities = table.texts("identities", pattern=_IDENTITY)
    authorities = table.texts("authorities", pattern=SHA256)
    named = len(signers) + len(identities)
    # An authority alone names no signers, so it can have any number of them.
    if threshold is not None and named and (identities or not authorities) and threshold > named:
        raise table.error(
            f"`threshold` is {threshold} and {plural(named, 'signer')} named: it can never be met"
        )
    level, scope = _choice(table, "min_level", tuple(Level)), _choice(table, "scope", tuple(Scope))
    commit = _choice(table, "commit_proof", tuple(Commit))
    allow = table.tables("allow")
    if len(allow) > MAX_POLICY_ALLOWANCES:
        raise table.error(f"has {len(allow)} allowances; the cap is {MAX_POLICY_ALLOWANCES}")
    entry = ModelEntry(
        name=table.text("name", pattern=_MODEL_GLOB),
        manifest=None if is_file else manifest,
        manifest_file=folder / manifest if manifest is not None and is_file else None,
        manifest_sha256=table.optional_text("manifest_sha256", pattern=SHA256),
        signers=signers,
        identities=identities,
        authorities=authorities,
        threshold=threshold,
        min_level=Level(level) if level else None,
        scope=Scope(scope) if scope else None,
        variant=_choice(table, "variant", VARIANTS),
        commit=Commit(commit) if commit else None,
        allow=tuple(_allowance(one, f"{where}.allow[{i}]") for i, one in enumerate(allow)),
        where=where,
    )
    table.finish()
    return entry


def _allowance(table: Table, where: str) -> Allowance:
    kind, text = AllowKind(table.choice("kind", tuple(AllowKind))), table.text("files")
    try:
        files = parse_glob(text)
    except NameRuleError as error:
        raise table.error(f"`files`: {error.message}", hint=error.hint) from None
    reason, expires = table.text("reason", pattern=_REASON), table.optional_date("expires")
    if expires is None:
        raise table.error("`expires` is missing", hint="an exception has an end: a date")
    table.finish()
    return Allowance(kind, files, reason, expires, where)


def _rules(table: Table) -> tuple[RuleOverride, ...]:
    overrides: dict[str, RuleOverride] = {}
    for key in table.keys_matching(_RULE_KEY):
        rule = _BY_WORD.get(key)
        if rule is None:
            raise table.error(f"no rule is called {quoted(key)}", hint=nearest(key, _BY_WORD))
        if rule.id in overrides:
            raise table.error(f"{rule.id} and {rule.name} are the same rule")
        overrides[rule.id] = _override(table.table(key), rule)
    table.finish()
    return tuple(overrides.values())


def _override(table: Table, rule: Rule) -> RuleOverride:
    word = table.choice("severity", (*Severity, _OFF))
    severity = None if word == _OFF else Severity(word)
    reason, expires = table.text("reason", pattern=_REASON), table.optional_date("expires")
    table.finish()
    if turns_down(rule, severity):
        why = why_never(rule)
        if why is not None:
            raise table.error(f"{rule.id} {rule.name} can never be turned down: {why}")
    elif expires is not None:
        raise table.error(
            "`expires` is for rules that are turned down",
            hint="one that is turned up would weaken the policy on the day it ends",
        )
    return RuleOverride(rule, severity, reason, expires)


def turns_down(rule: Rule, severity: Severity | None) -> bool:
    """Whether a severity (None is `off`) is less than what a rule weighs by itself."""
    return severity is None or _WEIGHT[severity] < _WEIGHT[rule.severity]


def _check_pins(policy: PolicyFile, top: Table) -> None:
    """Signatures may count for less only where the policy itself says which bytes are meant."""
    unpinned = next((one for one in policy.models if one.manifest_sha256 is None), None)
    for one in policy.rules:
        if one.rule.name in NEEDS_PIN and turns_down(one.rule, one.severity) and unpinned:
            raise top.error(
                f"rules.{one.rule.name} may be turned down only where every model pins its "
                f"manifest, and {unpinned.where} has no `manifest_sha256`"
            )
