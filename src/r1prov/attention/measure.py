"""Measure one local model, or two on the same prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.attention.difference import paired_difference
from r1prov.attention.forward import TorchModel, modules
from r1prov.attention.model import LocalModel
from r1prov.attention.report import AttentionReport, Described, Profile
from r1prov.errors import InputError, LimitExceeded
from r1prov.family.attention import shape_differences
from r1prov.limits import MAX_ATTENTION_PROMPT_TOKENS, MAX_ATTENTION_TOKENS
from r1prov.text import plural, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from r1prov.attention.tokenizer import ModelTokenizer, Tokens
    from r1prov.endpoints.prompt_set import Prompt


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure.

    Attributes:
        path: Where it is.
        manifest: Manifest that it must pass against; None identifies it and says what came of it.
    """

    path: str
    manifest: str | None = None


def measure(
    subjects: Sequence[Subject],
    prompts: Sequence[Prompt],
    *,
    tokenizer: Path | None = None,
    keys: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> AttentionReport:
    """Attention entropy of one model, or of two and their difference.

    Args:
        subjects: One model or two.
        prompts: What they read.
        tokenizer: A `tokenizer.json` instead of the models' own.
        keys: Trust only the keys of this directory.
        say: Called with a line about what goes on.

    Raises:
        UsageError: A model of a kind that is not measured, or a package is missing.
        LimitExceeded: A model does not fit, or the prompts are too long.
        VerificationFailed: A model does not pass against the manifest that was named.
        R1ProvError: Something cannot be read or is malformed.
    """
    models = [LocalModel(one.path) for one in subjects]
    for model in models:
        model.check_room(MAX_ATTENTION_PROMPT_TOKENS)
    described = tuple(Described(one.location, one.shape) for one in models)
    differ = tuple(shape_differences(*(one.shape for one in models))) if len(models) > 1 else ()
    if differ:
        why = (f"their heads do not pair: {'; '.join(differ)}",)
        return AttentionReport(models=described, shapes_differ=differ, not_compared=why)
    for model in models:
        model.prepare()
    texts = [_tokens(model, model.tokenizer(tokenizer), prompts) for model in models]
    if len(texts) > 1 and (unlike := _unlike(prompts, texts[0], texts[1])):
        return AttentionReport(models=described, not_compared=(unlike,))
    modules()
    profiles = []
    for model, subject in zip(models, subjects, strict=True):
        if say is not None:
            say(f"measuring {model.location}")
        profiles.append(_profile(model, subject, prompts, tokenizer=tokenizer, keys=keys))
    difference = None
    if len(profiles) > 1:
        difference = paired_difference(profiles[0].heads, profiles[1].heads)
    return AttentionReport(models=described, profiles=tuple(profiles), difference=difference)


def _tokens(
    model: LocalModel, tokenizer: ModelTokenizer, prompts: Sequence[Prompt]
) -> list[Tokens]:
    found = []
    for prompt in prompts:
        tokens = tokenizer.encode(prompt.text)
        count, most = len(tokens.ids), model.most_tokens
        if not 2 <= count <= most:
            raise InputError(
                f"prompt {quoted(prompt.id)} has {plural(count, 'token')}; 2 to {most:,} are "
                "measured",
                subject=model.location,
                hint="a row of attention needs two visible keys to have an entropy"
                if count < 2
                else "cut the prompt: scores grow with the square of its length",
            )
        found.append(tokens)
    total = sum(len(one.ids) for one in found)
    if total > MAX_ATTENTION_TOKENS:
        raise LimitExceeded(
            f"the prompts have {total:,} tokens together; {MAX_ATTENTION_TOKENS:,} are measured",
            subject=model.location,
        )
    return found


def _unlike(
    prompts: Sequence[Prompt], first: Sequence[Tokens], other: Sequence[Tokens]
) -> str | None:
    """Why rows of two models do not pair; None if both read the same tokens."""
    for prompt, mine, theirs in zip(prompts, first, other, strict=True):
        if mine != theirs:
            how = (
                f"{len(mine.ids):,} against {len(theirs.ids):,}"
                if len(mine.ids) != len(theirs.ids)
                else "of the same number"
            )
            return (
                f"their tokenizers differ, so that query rows do not pair: prompt "
                f"{quoted(prompt.id)} has other tokens, {how}"
            )
    return None


def _profile(
    model: LocalModel,
    subject: Subject,
    prompts: Sequence[Prompt],
    *,
    tokenizer: Path | None,
    keys: Path | None,
) -> Profile:
    verification = model.capture(manifest=subject.manifest, keys=keys)
    used = model.tokenizer(tokenizer)  # of the copy that was verified
    texts = _tokens(model, used, prompts)
    loaded = TorchModel(model)
    measured = [loaded.measure(one.ids) for one in texts]
    model.release()
    return Profile(
        location=model.location,
        verification=verification,
        tokenizer=used.source,
        tokenizer_sha256=used.sha256,
        names_code=model.names_code,
        prompts=tuple(one.id for one in prompts),
        tokens=tuple(len(one.ids) for one in texts),
        heads=[one.heads for one in measured],
        nats=[one.nats for one in measured],
        averaged=[one.averaged for one in measured],
    )
