"""What the document about a bundle says, in Chinese and English; a test holds the two together.

Braces name values, which are escaped before they are put in. What the code itself words in English,
such as what coverage is of, is translated where it stands here and shown as it is otherwise.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Language(StrEnum):
    """In what language a document is."""

    ZH = "zh"
    EN = "en"


# Key: (Chinese, English).
WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("模型证据报告", "Model evidence report"),
    "subtitle": (
        "DeepSeek-R1 部署的完整性与来源",
        "Integrity and provenance of a DeepSeek-R1 deployment",
    ),
    "page": ("第 {page} 页，共 {pages} 页", "Page {page} of {pages}"),
    "unverified": ("未经验证", "NOT VERIFIED"),
    "unverified-key": (
        "本证据包没有经固定公钥确认的签名。以下一切内容都可能是任何人编造的，不得作为证据使用。",
        "No pinned key confirms who signed this bundle. Anyone may have made up all that follows: "
        "it is no evidence.",
    ),
    "unverified-altered": (
        "本证据包的成员与签名时不一致，已被改动。模型、清单与 API 交换均未重新验证，不得作为证据使用。",
        "Members of this bundle are not those that were signed: it was altered. Model, manifest and "
        "API exchanges were not verified again. It is no evidence.",
    ),
    "verified": (
        "本报告所列内容已由 r1prov {version} 于 {now} 使用 {count} 把固定公钥重新验证；"
        "结论由证据重新计算得出，并非采信制作方的说法。",
        "What this report shows was verified again by r1prov {version} at {now} with {count} pinned "
        "keys. The verdict was made again from the evidence; the maker's word was not taken for it.",
    ),
    "pass": ("通过", "PASS"),
    "fail": ("不通过", "FAIL"),
    "incomplete": ("不完整", "INCOMPLETE"),
    "pass-says": (
        "证据包所记录的模型，作为 {model} 通过验证。",
        "The model that this bundle records passes as {model}.",
    ),
    "fail-says": (
        "共 {errors} 项错误，不能认定所记录的模型是 {model}。",
        "{errors} errors: the recorded model is not shown to be {model}.",
    ),
    "incomplete-says": (
        "有 {missing} 项必须检查的内容未能检查。“不完整”不等于通过。",
        "{missing} things that had to be checked could not be. Incomplete is never a pass.",
    ),
    "the-full": ("671B 满血版 DeepSeek-R1", "the full 671B DeepSeek-R1"),
    "is-full": (
        "清单所述型号：671B 满血版 DeepSeek-R1。",
        "The manifest describes the full 671B DeepSeek-R1.",
    ),
    "is-not-full": (
        "请注意：{model} 不是 671B 满血版 DeepSeek-R1（清单所述类别：{variant}）。",
        "Note: {model} is not the full 671B DeepSeek-R1 (kind, by the manifest: {variant}).",
    ),
    "is-unknown": (
        "没有可用的清单，无法认定这是哪个型号。",
        "Without a manifest nothing says which model this is.",
    ),
    "variant-full": ("满血版", "full"),
    "variant-distill": ("蒸馏版", "distilled"),
    "variant-base": ("基座模型", "base model"),
    "variant-other": ("其他", "other"),
    # Sections.
    "h-facts": ("基本事项", "At a glance"),
    "h-findings": ("发现的问题", "Findings"),
    "h-coverage": ("检查了什么，没有检查什么", "What was checked, and what was not"),
    "h-architecture": ("模型架构与 R1 公开数据对照", "Architecture against the figures of R1"),
    "h-signatures": ("签名与签名人", "Signatures and signers"),
    "h-timestamps": ("时间戳", "Timestamps"),
    "h-exchanges": ("API 交换记录", "API exchanges"),
    "h-audits": ("API 端点审计", "Audits of API endpoints"),
    "h-chain": ("证据链", "Chain of bundles"),
    "h-contents": ("证据包内容", "What the bundle holds"),
    "h-environment": ("制作环境", "Where it was made"),
    "h-proof": ("本报告能证明什么，不能证明什么", "What this proves, and what it cannot"),
    "h-yourself": ("如何自行验证：三条命令", "Verify it yourself: three commands"),
    "h-digests": ("附录：文件摘要值", "Annex: digests of files"),
    # Facts.
    "f-bundle": ("证据包文件", "bundle file"),
    "f-sha256": ("证据包摘要值", "SHA-256 of the bundle"),
    "f-model": ("模型", "model"),
    "f-publisher": ("发布方与版本", "publisher and revision"),
    "f-expected": ("要求的型号", "model that was asked for"),
    "f-expected-none": (
        "未指定：任何有签名清单的模型都可能通过",
        "none: any model with a signed manifest could pass",
    ),
    "f-expected-full": (
        "full（671B 满血版 DeepSeek-R1）",
        "full (the 671B DeepSeek-R1)",
    ),
    "f-weights": ("权重文件", "weight files"),
    "f-other": ("其他文件", "other files"),
    "f-tally": (
        "{matching} / {total} 个与清单一致，{bytes}",
        "{matching} of {total} as signed, {bytes}",
    ),
    "f-unhashed": (
        "清单列有 {total} 个，{bytes}；未计算摘要值",
        "{total} listed, {bytes}; not hashed",
    ),
    "f-none": ("无", "none"),
    "f-created": ("制作时间", "made at"),
    "f-created-word": (
        "{time}（以制作方时钟为准，未经第三方证明）",
        "{time} (by the maker's clock; no third party proves it)",
    ),
    "f-created-proven": (
        "{time}（制作方时钟）；时间戳证明不晚于 {proven}",
        "{time} (by the maker's clock); a timestamp proves: not after {proven}",
    ),
    "f-signed": ("证据包签名人", "signer of the bundle"),
    "f-signed-unknown": (
        "密钥 {key}，不在固定公钥之列",
        "key {key}, which is not pinned",
    ),
    "f-judged": ("密钥有效性的判定时点", "keys judged by"),
    "f-verified": ("验证时间", "verified at"),
    "f-maker": ("制作方所称的结论", "maker's verdict"),
    "f-maker-says": (
        "{verdict}（仅供参考，不作依据）",
        "{verdict} (for comparison; nothing rests on it)",
    ),
    "f-original": ("结论原文", "verdict in full"),
    "f-tree": ("文件树摘要值", "tree digest"),
    "f-inventory": ("张量清单摘要值", "inventory digest"),
    "f-manifest": ("清单摘要值", "SHA-256 of the manifest"),
    "f-depth": ("检查深度与范围", "depth and scope"),
    "f-depth-says": ("{level}；{scope}", "{level}; {scope}"),
    "level-full": ("逐字节摘要值（full）", "every digest (full)"),
    "level-structure": ("仅文件头（structure）", "headers only (structure)"),
    "scope-all": ("全部文件（all）", "all files (all)"),
    "scope-weights": ("仅权重（weights）", "weights only (weights)"),
    # Findings.
    "error": ("错误", "error"),
    "warning": ("警告", "warning"),
    "note": ("提示", "note"),
    "c-rule": ("规则", "rule"),
    "c-subject": ("对象", "subject"),
    "c-message": ("报告原文", "message"),
    "c-expected": ("应为", "expected"),
    "c-found": ("实为", "found"),
    "c-help": ("说明与处理", "what to do"),
    "more-findings": (
        "另有 {count} 项未在此逐条列出，按规则合计如下；完整内容见 r1prov evidence verify --format json。",
        "{count} more are not listed here, and counted by rule below; r1prov evidence verify "
        "--format json lists them all.",
    ),
    "no-findings": ("没有发现问题。", "None."),
    "c-count": ("数目", "number"),
    # Coverage.
    "c-item": ("检查项目", "item"),
    "c-state": ("状态", "state"),
    "c-detail": ("情况", "detail"),
    "checked": ("已检查", "checked"),
    "not-checked": ("未检查", "not checked"),
    "required-missing": ("未检查（必需）", "not checked (required)"),
    "more-coverage": ("另有 {count} 项未能读取。", "{count} more could not be read."),
    # Architecture.
    "a-intro": (
        "R1 一栏取自随 r1prov 发布并签名的清单 {name}（提交 {revision}）。“清单”“配置”“文件头”各栏取自本证据包："
        "清单由其签名人担保，配置为 config.json，文件头是各权重文件自身对张量的描述。“—”表示该来源不说明此项。",
        "The column R1 is from the signed manifest {name} that r1prov ships (revision {revision}). The "
        "columns manifest, config and headers are from this bundle: the manifest as its signers vouch "
        "for it, config.json, and what the weight files themselves say of their tensors. A dash: this "
        "source does not tell.",
    ),
    "a-what": ("项目", "figure"),
    "a-r1": ("R1", "R1"),
    "a-manifest": ("清单", "manifest"),
    "a-config": ("配置", "config"),
    "a-headers": ("文件头", "headers"),
    "a-same": ("对照", "compared"),
    "same": ("一致", "equal"),
    "differs": ("不同", "differs"),
    "a-key": ("出处", "source"),
    "a-model-type": ("模型类型", "model type"),
    "a-layers": ("层数（不含 MTP 层）", "layers (without the MTP layer)"),
    "a-dense": ("其中稠密层", "of these dense"),
    "a-mtp": ("多词元预测（MTP）层", "multi-token-prediction layers"),
    "a-hidden": ("隐藏维度", "hidden size"),
    "a-heads": ("注意力头数", "attention heads"),
    "a-experts": ("每层路由专家数", "routed experts a layer"),
    "a-active": ("每个词元激活专家数", "experts used for a token"),
    "a-vocabulary": ("词表大小", "vocabulary"),
    "a-context": ("最大位置数", "maximum positions"),
    "a-parameters": ("参数量（不含 MTP 层与量化缩放）", "parameters (no MTP layer, no scales)"),
    "a-tensors": ("张量数", "tensors"),
    "a-dtypes": ("各数据类型张量数", "tensors by dtype"),
    "a-files": ("权重文件数", "weight files"),
    "a-bytes": ("权重文件总字节数", "bytes of weight files"),
    "a-equal": (
        "全部数字与满血版 R1 一致。但结构相同的还有：{others}。结构分不清它们，只有摘要值可以。",
        "Every figure is that of the full R1. Models of the same structure are: {others}. Structure "
        "cannot tell them apart; only digests can.",
    ),
    "a-unequal": (
        "有 {count} 项与满血版 R1 不同：所记录的不是满血版 R1 的结构。",
        "{count} figures differ from the full R1: what is recorded has not its structure.",
    ),
    "a-none": (
        "证据包中没有可读的文件头或配置，无法对照。",
        "The bundle has no headers or config that could be compared.",
    ),
    # Signatures.
    "s-what": ("被签名的内容", "what is signed"),
    "s-who": ("签名人与密钥", "signer and key"),
    "s-state": ("结果", "result"),
    "s-bundle": ("证据包索引", "index of the bundle"),
    "s-manifest": ("模型清单", "manifest of the model"),
    "s-unsigned": ("没有签名", "no signature"),
    "s-provenance": ("来源证明", "provenance"),
    "s-pinned": ("验证所用的固定公钥", "Pinned keys of this verification"),
    "s-pinned-none": ("没有固定公钥。", "No key is pinned."),
    "s-owner": ("持有人", "owner"),
    "s-key": ("密钥标识", "key id"),
    "s-models": ("可为哪些模型签名", "may sign for"),
    "s-more": ("另有 {count} 把公钥未在此列出。", "{count} more keys are not listed here."),
    "s-trust": (
        "信任只来自上表所列、由验证方另行取得的公钥；证据包内附带的公钥和信任文件一概不作依据。",
        "Trust comes from the keys above alone, which the verifier had by another way. Keys and trust "
        "files inside the bundle count for nothing.",
    ),
    "t-none": (
        "没有时间戳。制作时间仅为制作方所称，密钥有效性按验证当时判定。",
        "None. When the bundle was made is its maker's word, and keys are judged by the time of "
        "verification.",
    ),
    "t-time": ("证明的时间", "time that it proves"),
    "good": ("有效", "good"),
    "not-counted": ("不作数", "does not count"),
    "invalid": ("无效", "invalid"),
    "untrusted": ("机构不在固定之列", "authority not pinned"),
    "unchecked": ("未能检查", "not checked"),
    # API.
    "x-none": ("证据包中没有 API 交换记录。", "The bundle holds no API exchange."),
    "x-member": ("成员", "member"),
    "x-more": ("另有 {count} 条未在此列出。", "{count} more are not listed here."),
    "x-note": (
        "签名说明哪把密钥的持有者对哪个请求给出了哪些字节；它不能证明是哪套权重作答。",
        "A signature says which key's owner gave which bytes to which request. It does not prove "
        "which weights wrote them.",
    ),
    "e-none": ("证据包中没有重新计算的端点审计。", "The bundle holds no audit that was made again."),
    "e-note": (
        "以下结果由所记录的交换重新计算。统计检验有错误率：“一致”只表示没有发现矛盾，不证明端点真实。",
        "These results were computed again from the recorded exchanges. Statistical tests err: "
        "consistent says that nothing speaks against the claim, not that the endpoint is genuine.",
    ),
    "e-claim": ("受检的声称", "claim"),
    "e-endpoint": ("端点", "endpoint"),
    "e-requests": ("请求数与词元数", "requests and tokens"),
    "e-alpha": ("误判率上限", "bound of false alarms"),
    "e-when": ("审计时间", "audited"),
    "e-test": ("检验", "test"),
    "e-outcome": ("结果", "outcome"),
    "e-samples": ("样本", "samples"),
    "e-rates": ("错误率", "error rates"),
    "e-says": ("结论原文", "what it says"),
    "consistent": ("一致", "consistent"),
    "inconsistent": ("不一致", "inconsistent"),
    "not-testable": ("无法检验", "not testable"),
    "description": ("仅描述", "description"),
    "e-benign": (
        "看上去相同的无害原因（原文）",
        "Harmless causes that would look the same",
    ),
    "e-cannot": ("本审计无法判断的（原文）", "What this audit cannot tell"),
    "e-not-run": ("未进行的检验", "Tests that were not run"),
    "p-times": ("耗时分布", "Times: share within so many seconds"),
    "p-residuals": (
        "提示词元：实计减预期，按探针",
        "Prompt tokens: counted minus expected, by probe",
    ),
    "p-sprt": (
        "增量边界：逐一累积的反对所称分词器的证据",
        "Delta boundaries: evidence against the claimed tokenizer, one by one",
    ),
    # Chain.
    "chain-none": (
        "本证据包没有指明前一份证据包：它是链的起点，或不属于任何链。",
        "This bundle names none before it: it begins a chain, or is in none.",
    ),
    "chain-previous": ("前一份证据包", "the bundle before"),
    "chain-created": ("其制作时间", "made at"),
    "chain-note": (
        "此处只说明本证据包指向哪一份；整条链用 r1prov evidence log 验证。",
        "This says which bundle is continued; r1prov evidence log verifies the whole chain.",
    ),
    # Contents.
    "c-kind": ("类别", "kind"),
    "c-members": ("成员数", "members"),
    "c-size": ("大小", "size"),
    "c-holds": ("内容", "what it is"),
    "k-report": ("制作方的验证报告", "the maker's report"),
    "k-model": ("文件列表、摘要值、文件头、配置", "listing, digests, headers, configs"),
    "k-files": ("其他小文件全文", "other small files, whole"),
    "k-manifest": ("模型清单及其签名", "the manifest and its signatures"),
    "k-policy": ("所用策略文件", "the policy that was applied"),
    "k-trust": ("制作方所用的信任文件与公钥", "trust files and keys of the maker"),
    "k-exchanges": ("API 交换记录", "API exchanges"),
    "k-audit": ("端点审计或其他工具的结果", "audits of endpoints, results of other tools"),
    "k-environment": ("工具、平台与时钟", "tool, platform and clock"),
    "k-other": ("其他", "other"),
    "k-index": ("索引摘要值", "SHA-256 of the index"),
    "env-note": ("以下为制作方所称，未经验证。", "The maker's word; not verified."),
    "env-none": ("证据包未说明制作环境。", "The bundle does not say."),
    "env-r1prov": ("r1prov 版本", "version of r1prov"),
    "env-tool_sha256": ("r1prov 程序摘要值", "digest of r1prov"),
    "env-python": ("Python 版本", "version of Python"),
    "env-system": ("操作系统", "system"),
    "env-machine": ("处理器架构", "machine"),
    "env-clock": ("时钟", "clock"),
    # Proof.
    "proof-yes": ("能证明", "Proves"),
    "proof-no": ("不能证明", "Cannot prove"),
    "yes-1": (
        "签名人对所列每个文件的大小和 SHA-256 摘要值、文件头与配置作出了陈述，此后一个字节都未改动；",
        "The signer stated size and SHA-256 of every file listed, headers and configs, and not a byte "
        "was changed since.",
    ),
    "yes-2": (
        "这些摘要值与模型清单相符或不符，清单由上列签名人签名；",
        "Whether these digests are those of the manifest, which the signers above signed.",
    ),
    "yes-3": (
        "有有效时间戳的，签名在该时间之前已经存在。",
        "With a good timestamp: that the signature existed before the time it names.",
    ),
    "no-1": (
        "权重不在证据包中：没有模型本身，任何人都不能重新计算权重的摘要值。签名约束的是签名人，不是硬件；",
        "The weights are not in the bundle: without the model nobody can hash them again. A signature "
        "binds the signer, not the hardware.",
    ),
    "no-2": (
        "读取之后，哪台机器、哪个服务实际使用了这些文件；",
        "Which machine or service used the files after they were read.",
    ),
    "no-3": (
        "制作方没有放入的内容；API 回答由哪套权重写成；模型质量好坏。",
        "What the maker left out; which weights wrote an API's answers; how good the model is.",
    ),
    # Yourself.
    "y-intro": (
        "在任何装有 r1prov 的机器上离线执行。pinned 目录里的公钥须由您从持有人处另行取得，不得取自证据包。",
        "Offline, on any machine with r1prov. Have the public keys from their owners by another way, "
        "never from the bundle.",
    ),
    "y-1": (
        "核对文件，应得 {sha256}：",
        "The file; the result must be {sha256}:",
    ),
    "y-2": (
        "固定签名人的公钥（密钥标识 {key}）；清单签名人的公钥同样处理：",
        "Pin the signer's public key (key id {key}); that of the manifest's signers likewise:",
    ),
    "y-3": (
        "重新验证并得出结论（退出状态 0 通过，1 不通过，3 不完整）：",
        "Verify and make the verdict again (exit status 0 pass, 1 fail, 3 incomplete):",
    ),
    "y-model": (
        "手头有模型本身时，加上 --model 目录，即与之逐文件比对。",
        "With the model itself at hand, --model DIR compares it file by file.",
    ),
    "y-renamed": (
        "文件名含有不宜写入命令的字符，此处以 bundle.zip 代替。",
        "The file's name has characters that no command should carry: bundle.zip stands for it.",
    ),
    # Digests.
    "d-file": ("文件", "file"),
    "d-bytes": ("字节", "bytes"),
    "digest-head": ("SHA-256 摘要值", "SHA-256"),
    "d-intro": (
        "摘要值由证据包签名人陈述。“一致”表示大小和摘要值都与清单相同。",
        "The signer of the bundle states the digests. Equal: size and digest are those of the "
        "manifest.",
    ),
    "d-unlisted": ("清单未列", "not listed"),
    "d-missing": ("缺失", "missing"),
    "d-more": (
        "另有 {count} 个文件未在此列出，全部见证据包的 model/files.json；上面的文件树摘要值覆盖清单所列全部文件。",
        "{count} more files are not listed here; model/files.json in the bundle has them all.",
    ),
    "d-none": ("没有可列的摘要值。", "No digest to list."),
    "withheld": (
        "证据包已被改动，此处不展示其内容。",
        "The bundle was altered; its content is not shown here.",
    ),
    "footer": (
        "由 r1prov {version} 生成。本文件的内容以证据包为准；验证证据包，而不是相信本文件。",
        "Made by r1prov {version}. The bundle is what counts: verify it rather than believe this paper.",
    ),
}

# What coverage is of, as the checks call it.
ITEMS: Final[dict[str, str]] = {
    "members of the bundle": "证据包的成员",
    "signature of the bundle": "证据包的签名",
    "timestamp of the bundle": "证据包的时间戳",
    "verdict on the model": "对模型的结论",
    "report": "制作方的报告",
    "manifest": "模型清单",
    "manifest signature": "清单签名",
    "Hub commit proof": "Hub 提交证明",
    "inventory against the manifest": "张量清单与模型清单比对",
    "config.json against headers": "config.json 与文件头比对",
    "structure of weight files": "权重文件结构",
    "SHA-256 of weight files": "权重文件的 SHA-256 摘要值",
    "SHA-256 of other files": "其他文件的 SHA-256 摘要值",
    "SHA-256 of code files": "代码文件的 SHA-256 摘要值",
    "SHA-256 of tensors": "张量的 SHA-256 摘要值",
    "model at hand": "与手头的模型比对",
    "policy": "策略",
    "environment": "制作环境",
    "trust": "制作方的信任文件",
    "audit": "其他工具的结果",
}

# Details of coverage: pattern, and Chinese with its groups.
DETAILS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (r"([\d,]+) members? held to the index", "{0} 个成员均与索引逐一比对"),
        (r"good signature of key (\w+) of (.*)", "{1} 的密钥 {0}，签名有效"),
        (
            r"signed by key (.*), which is not among the pinned keys",
            "由密钥 {0} 签名，该密钥不在固定公钥之列",
        ),
        (r"not a signature by the key it names, of (.*)", "不是其所称密钥（{0}）的签名"),
        (
            r"(.*) signed another index than this one, or something else",
            "{0} 签名的是另一份索引，或别的内容",
        ),
        (
            r"it has none: when it was made is its maker's word, and keys are judged by now",
            "没有时间戳：制作时间仅为制作方所称，密钥按当前时间判定",
        ),
        (r"([\d,]+) tensors?, all equal", "{0} 个张量，全部一致"),
        (r"([\d,]+) tensors?, all as described", "{0} 个张量，全部与配置所述相符"),
        (r"only ([\d,]+) tensors? could be read", "只读到 {0} 个张量"),
        (r"([\d,]+) of ([\d,]+) files? equal", "{1} 个文件中 {0} 个一致"),
        (r"([\d,]+) of ([\d,]+) files? equal, ([\d,]+) differ", "{1} 个文件中 {0} 个一致，{2} 个不同"),
        (r"the others are missing or of another size", "其余的缺失或大小不同"),
        (
            r"([\d,]+) by the digest that the signer of the evidence states, not read",
            "其中 {0} 个以证据包签名人陈述的摘要值为准，并非此次读取",
        ),
        (r"([\d,]+) digests? of ([\d,]+) compared, as read now", "{1} 个摘要值中的 {0} 个已与此次读取比对"),
        (r"([\d,]+) members?: the maker's word", "{0} 个成员：仅为制作方所称"),
        (
            r"([\d,]+) members?: what the maker trusted; only the pinned keys count",
            "{0} 个成员：制作方信任的公钥；只有固定公钥才作数",
        ),
        (
            r"([\d,]+) members?: bound by digest; what it says is not computed again",
            "{0} 个成员：以摘要值绑定，其内容未重新计算",
        ),
        (r"none given", "未提供"),
        (r"not in the bundle", "不在证据包中"),
        (r"differs", "不一致"),
        (r"holds", "成立"),
        (r"does not hold", "不成立"),
        (r"level `structure` reads headers only", "structure 级别只读文件头"),
        (
            r"the manifest has no digest for ([\d,]+) of ([\d,]+) files",
            "清单缺少 {1} 个文件中 {0} 个的摘要值",
        ),
        (r"the manifest lists no weight file", "清单未列任何权重文件"),
        (r"the manifest states none", "清单未说明"),
        (r"no config\.json", "没有 config.json"),
        (r"none fits this model", "没有适用于此模型的清单"),
        (r"no digest is known of (.*)", "没有已知摘要值：{0}"),
        (
            r"not made again: members are not those that were signed",
            "未重新计算：成员与签名时不一致",
        ),
        (
            r"cannot be made again: the bundle was made without its headers or manifest",
            "无法重新计算：证据包未收入文件头或清单",
        ),
    )
)


def item_in_chinese(item: str) -> str | None:
    """What a coverage item is called in Chinese; None where only English is known."""
    return ITEMS.get(item)


def detail_in_chinese(detail: str) -> str | None:
    """A coverage detail in Chinese; None where only English is known.

    Several things in one detail stand between semicolons; all of them must be known.
    """
    whole = _one_detail(detail)
    if whole is not None or "; " not in detail:
        return whole
    pieces = [_one_detail(one) for one in detail.split("; ")]
    return None if None in pieces else "；".join(one for one in pieces if one is not None)


def _one_detail(detail: str) -> str | None:
    for pattern, text in DETAILS:
        found = pattern.fullmatch(detail)
        if found:
            return text.format(*found.groups())
    return None
