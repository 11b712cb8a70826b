"""Rules 9xx: what the answers of an endpoint say about the model behind it."""

from __future__ import annotations

from r1prov.verify.rule import Row, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

ENDPOINTS: tuple[Row, ...] = (
    # answers
    (
        "901",
        "answer-malformed",
        "An answer that an OpenAI-compatible API does not give",
        _W,
        "What could be read was used. Look at the recorded bytes; a proxy may have changed them.",
    ),
    (
        "902",
        "answer-incomplete",
        "A stream that broke off",
        _W,
        "Neither `data: [DONE]` nor a finish reason came. Its counts are not used; ask again.",
    ),
    # tokenizer
    (
        "910",
        "prompt-tokens-other-tokenizer",
        "Prompt tokens are counted with another tokenizer",
        _W,
        "The differences between probes fit another family exactly. A gateway may count with a "
        "tokenizer of its own: compare the deltas of a stream, and repeat.",
    ),
    (
        "911",
        "prompt-tokens-unexplained",
        "Prompt tokens that no known tokenizer explains",
        _W,
        "Neither the claimed tokenizer nor another of the table fits, scaled or not. Repeat, and "
        "ask the operator how `usage` is made.",
    ),
    (
        "912",
        "completion-tokens-differ",
        "Completion tokens are not those of the claimed tokenizer",
        _W,
        "The text that was sent has another number of tokens than `usage` says, answer after "
        "answer. A gateway may count with a tokenizer of its own: compare the deltas of a stream.",
    ),
    (
        "913",
        "deltas-cut-tokens",
        "Deltas of a stream end inside tokens of the claimed tokenizer",
        _W,
        "A server sends whole tokens. A relay that cuts the text anew would look the same: the "
        "prompt tokens must say so too before anything is concluded.",
    ),
    (
        "914",
        "tokenizer-contradiction",
        "Another tokenizer is at work than that of the claimed model",
        _E,
        "Active and passive test contradict the claim, and a repeat confirmed it. Ask the operator "
        "which model answers; keep the recorded exchanges.",
    ),
    (
        "915",
        "usage-spoofed",
        "`usage` fits the claimed tokenizer, the stream does not",
        _W,
        "Counts made with the claimed tokenizer over text that another one made are what a relay "
        "sends that hides its model, and what a relay sends that bills by the claimed model and "
        "cuts streams anew. Ask without the relay, or compare with a reference.",
    ),
    (
        "916",
        "usage-missing",
        "No token counts",
        _N,
        "Ask for them in a stream with `stream_options.include_usage`; the deltas can be tested "
        "without.",
    ),
    (
        "917",
        "usage-constant",
        "Token counts that do not depend on the text",
        _W,
        "Nobody counted. The deltas of a stream can still be tested.",
    ),
    (
        "918",
        "usage-rounded",
        "Token counts are rounded",
        _N,
        "They were compared as exactly as the rounding allows.",
    ),
    (
        "919",
        "usage-estimated",
        "Token counts are an estimate from the text",
        _N,
        "Characters over four and the like: a gateway made them, not the model's tokenizer. The "
        "deltas of a stream can still be tested.",
    ),
    (
        "920",
        "usage-scaled",
        "Token counts are multiplied",
        _N,
        "They fit the claimed tokenizer times a factor, such as that of a price list.",
    ),
    (
        "921",
        "usage-unstable",
        "The same prompt is counted differently from time to time",
        _W,
        "A prompt that changes unseen, or several servers behind one address. Repeat later.",
    ),
    (
        "922",
        "tokenizer-changed",
        "The tokenizer changed during the audit",
        _W,
        "Another model answers some of the requests. Ask the operator, and audit over a longer "
        "time.",
    ),
    (
        "923",
        "stream-rechunked",
        "Deltas are not tokens",
        _N,
        "The stream is cut by another rule than tokens, such as words or a number of characters, "
        "or comes in one piece: boundaries say nothing here.",
    ),
    (
        "924",
        "added-tokens-other-model",
        "Added tokens are those of another model with the same vocabulary",
        _W,
        "`<think>` is one token in DeepSeek-R1 and three in DeepSeek-V3. A gateway that removes "
        "or escapes such strings would change the count too.",
    ),
    (
        "925",
        "template-overhead",
        "Another chat template than that of the claimed model",
        _N,
        "A hidden system prompt, or a host that counts the text alone, looks the same: this "
        "supports other evidence and decides nothing.",
    ),
    (
        "926",
        "usage-without-reasoning",
        "Completion tokens leave the reasoning out",
        _N,
        "The count fits the answer alone. The deltas can be tested all the same.",
    ),
    # structure
    (
        "930",
        "reasoning-missing",
        "No reasoning in any answer",
        _W,
        "DeepSeek-R1 reasons before it answers, in `reasoning_content`, `reasoning` or between "
        "`<think>` tags. A gateway may remove it; ask the operator for a way to see it.",
    ),
    (
        "931",
        "reasoning-implausible",
        "Reasoning that is empty or repeats the answer",
        _W,
        "Look at the recorded answers: the field is filled, but not by a model that reasons.",
    ),
    (
        "932",
        "no-such-field",
        "A field that no API of DeepSeek has",
        _N,
        "Reasoning is in `reasoning_content`; `deep_thoughts` stands in guides alone.",
    ),
    (
        "933",
        "usage-arithmetic",
        "Token counts that do not add up",
        _W,
        "Total is prompt plus completion, prompt is cache hits plus misses, and reasoning is part "
        "of the completion.",
    ),
    (
        "934",
        "model-not-echoed",
        "Another model name in the answer than was asked for",
        _N,
        "Names are free text and hosts rename models; one that names a distill deserves a "
        "question.",
    ),
    (
        "935",
        "other-server",
        "The fingerprint is that of another kind of server",
        _W,
        "`fp_ollama` is sent by Ollama, whose tags `deepseek-r1` other than `:671b` are distills.",
    ),
    (
        "936",
        "fingerprint-changed",
        "`system_fingerprint` changed between answers",
        _N,
        "It is a free string: a change says that something was deployed, not what.",
    ),
    (
        "937",
        "parameter-behaviour",
        "A parameter is treated otherwise than by DeepSeek's own API",
        _N,
        "Other hosts of the same weights do so too; it tells who answers, not which model.",
    ),
    (
        "938",
        "context-smaller",
        "The context is smaller than the model's",
        _W,
        "Hosts may limit it to save memory; a model with a shorter context cannot do otherwise.",
    ),
    # comparison with a reference or a second endpoint
    (
        "940",
        "completions-differ",
        "Completions of the same prompts come from another distribution",
        _E,
        "Other weights, a quantization, another sampling or a hidden system prompt do that. Ask "
        "the operator what differs; log-probabilities tell more, where they are offered.",
    ),
    (
        "941",
        "logprobs-differ",
        "Log-probabilities of the same first tokens are others",
        _E,
        "The same weights differ by what batching and kernels do, other weights by more. A hidden "
        "system prompt or another chat template changes them too.",
    ),
    (
        "942",
        "accuracy-dropped",
        "Fewer questions are answered right than the baseline's, by more than is tolerated",
        _E,
        "Look at the questions that only the baseline got right, and at answers that were cut off.",
    ),
    (
        "943",
        "reference-unsigned",
        "The reference is not signed by a key that is trusted",
        _W,
        "Whoever could write the file chose what the endpoint is held against. Record it anew and "
        "sign it: `r1prov endpoint record --key`.",
    ),
    (
        "944",
        "audit-stopped",
        "Not everything could be asked",
        _W,
        "What was answered is in the log: raise the budget, or wait, and go on with `--resume`.",
    ),
    (
        "945",
        "answers-cut",
        "Answers were cut off before they ended",
        _N,
        "A model that reasons needs room: raise the tokens of an answer.",
    ),
    (
        "946",
        "border-inputs-differ",
        "Prompts near a tie are answered with other first tokens",
        _E,
        "The same weights answer them alike at temperature 0, weights that differ a little do not. "
        "So do a hidden system prompt, another chat template, and a host that samples as it likes.",
    ),
    (
        "947",
        "questions-refused",
        "Questions that every chat API answers are refused",
        _W,
        "Look at what the endpoint says, at the model name (`--model`) and the address; the whole "
        "of it is in the log.",
    ),
)
