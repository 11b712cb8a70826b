"""Components of a signature base: the line that each of them adds (RFC 9421 sections 2 and 2.5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from r1prov.errors import ResponseError
from r1prov.responses.exchange import Headers
from r1prov.responses.message import (
    Message,
    RequestMessage,
    ResponseMessage,
    query_parameter,
)
from r1prov.responses.structured_fields import (
    BareItem,
    Item,
    parse_dictionary,
    parse_item,
    parse_list,
    write_bare,
    write_dictionary,
    write_list,
    write_member,
    write_parameters,
)
from r1prov.text import quoted

_T = TypeVar("_T")
_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+\-.^_`|~]+")
# Flags stand without a value; the others have a string.
_FLAGS: Final = frozenset({"sf", "bs", "req", "tr"})
_STRINGS: Final = frozenset({"key", "name"})
# Optional folding (RFC 9112 section 5.2) becomes one space (RFC 9421 section 2.1).
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")

# Structured types of common fields: RFC 9421, 9530, 9211, 9209, 9213, 9218, 9440, 9842 and those
# that the retrofit draft of the HTTP working group lists without a caveat.
_DICTIONARIES: Final = frozenset(
    {
        *("accept-signature", "cdn-cache-control", "content-digest", "priority", "repr-digest"),
        *("signature", "signature-input", "want-content-digest", "want-repr-digest"),
    }
)
_LISTS: Final = frozenset({"cache-status", "client-cert-chain", "proxy-status"})
_ITEMS: Final = frozenset({"client-cert"})


class MissingPart(ResponseError):
    """A component cannot be built because what it needs was not captured or was redacted."""


@dataclass(frozen=True, slots=True)
class Component:
    """What a signature covers: a field or a derived component, with its parameters.

    Attributes:
        name: Field name in lower case, or a name that begins with `@`.
        parameters: In the order in which they stand.
    """

    name: str
    parameters: tuple[tuple[str, BareItem], ...] = ()

    def __str__(self) -> str:
        """As policies write it: `@path;req`."""
        return self.name + write_parameters(dict(self.parameters))

    @property
    def identifier(self) -> str:
        """As a signature base writes it: `"@path";req`."""
        return write_bare(self.name) + write_parameters(dict(self.parameters))

    @property
    def identity(self) -> tuple[str, frozenset[tuple[str, BareItem]]]:
        """Equal for two spellings of one component: parameters have no order there."""
        return self.name, frozenset(self.parameters)

    def has(self, flag: str) -> bool:
        """Whether a parameter is there."""
        return any(key == flag for key, _ in self.parameters)

    def text(self, key: str) -> str | None:
        """The value of a parameter that is a string."""
        return next((str(value) for name, value in self.parameters if name == key), None)


def component_of(item: Item) -> Component:
    """The component that an item of `Signature-Input` names.

    Raises:
        ResponseError: `response-signature-malformed`: no such component, or parameters that cannot
            go together.
    """
    name = item.value
    component = Component(name if isinstance(name, str) else "", tuple(item.parameters.items()))
    if type(name) is not str or not (
        _FIELD_NAME.fullmatch(name) or (name in DERIVED or name == "@query-param")
    ):
        raise _malformed(f"{quoted(str(name), limit=80)} is no component of a message")
    for key, value in component.parameters:
        if key in _FLAGS and value is not True:
            raise _malformed(f"parameter {key} of {name} has a value")
        if key in _STRINGS and type(value) is not str:
            raise _malformed(f"parameter {key} of {name} is no string")
        if key not in _FLAGS | _STRINGS:
            raise _malformed(f"component {name} has the unknown parameter {quoted(key)}")
    derived = name.startswith("@")
    allowed = {"req", "name"} if name == "@query-param" else {"req"} if derived else None
    if allowed is not None and not {key for key, _ in component.parameters} <= allowed:
        raise _malformed(f"component {component} has a parameter of fields")
    if component.has("name") != (name == "@query-param"):
        raise _malformed(f"component {component}: `name` belongs to @query-param, and to it alone")
    if component.has("bs") and (component.has("sf") or component.has("key")):
        raise _malformed(f"component {component} is both wrapped and structured")
    if name == "@status" and component.has("req"):
        raise _malformed("a request has no @status")
    return component


def parse_component(text: str) -> Component:
    """A component as a policy writes it: `@path;req`, `content-digest`.

    Raises:
        ResponseError: It is none.
    """
    name, semicolon, rest = text.partition(";")
    return component_of(parse_item([write_bare(name) + semicolon + rest], name="component"))


def _malformed(message: str) -> ResponseError:
    return ResponseError(
        "response-signature-malformed",
        message,
        subject="Signature-Input",
        hint="RFC 9421 section 2 has the components",
    )


def component_value(component: Component, message: Message) -> str:
    """What a component of a message is.

    Raises:
        MissingPart: It was not captured, or was redacted.
        ResponseError: `response-component-missing`: the message has no such component, or it cannot
            be written on one line of ASCII.
    """
    source: Message = message
    if component.has("req"):
        if not isinstance(message, ResponseMessage):
            raise _absent(component, "a request has no request of its own")
        if message.request is None:
            raise MissingPart(
                "response-component-missing",
                f"{component} is signed, and the request was not captured",
                subject=str(component),
            )
        source = message.request
    if component.name.startswith("@"):
        value = _derived(component, source)
    else:
        value = _field(component, source)
    if not value.isascii() or any(ord(one) < 0x20 and one != "\t" for one in value):
        raise _absent(component, "is no line of ASCII, so that it can only be signed with `;bs`")
    return value


def _absent(component: Component, why: str) -> ResponseError:
    return ResponseError(
        "response-component-missing", f"{component}: {why}", subject=str(component)
    )


def _redacted(component: Component, part: str) -> MissingPart:
    return MissingPart(
        "response-component-missing",
        f"{component} is signed, and {part} was redacted",
        subject=str(component),
        hint="verify before redaction; the signature cannot be checked any more",
    )


# ---- derived components (section 2.2) ---------------------------------------------------------

_OF_REQUESTS: Final[dict[str, Callable[[RequestMessage], str]]] = {
    "@method": lambda request: request.method,
    "@target-uri": lambda request: request.target_uri,
    "@authority": lambda request: request.authority,
    "@scheme": lambda request: request.scheme,
    "@request-target": lambda request: request.target,
    "@path": lambda request: request.path,
    # Section 2.2.7: without a query, the question mark alone.
    "@query": lambda request: f"?{request.query or ''}",
}
_WITH_QUERY: Final = frozenset({"@target-uri", "@request-target", "@query", "@query-param"})
DERIVED: Final = frozenset({*_OF_REQUESTS, "@status"})


def _derived(component: Component, source: Message) -> str:
    if component.name == "@status":
        if isinstance(source, RequestMessage):
            raise _absent(component, "a request has no status")
        return f"{source.status:03d}"
    if isinstance(source, ResponseMessage):
        raise _absent(component, "a response has none of its own; `;req` means the request's")
    if component.name in _WITH_QUERY and "url:query" in source.redacted:
        raise _redacted(component, "the query")
    if component.name == "@query-param":
        return query_parameter(source.query, component.text("name") or "")
    return _OF_REQUESTS[component.name](source)


# ---- fields (section 2.1) ----------------------------------------------------------------------


def _lines(component: Component, headers: Headers) -> list[str]:
    return [
        _FOLD.sub(" ", value).strip(" \t")
        for key, value in headers
        if key.lower() == component.name
    ]


def _field(component: Component, source: Message) -> str:
    if f"header:{component.name}" in source.redacted:
        raise _redacted(component, "the field")
    if component.has("tr") and not source.trailers:
        raise MissingPart(
            "response-component-missing",
            f"{component} is signed, and trailers were not captured",
            subject=str(component),
            hint="most HTTP clients drop trailers",
        )
    lines = _lines(component, source.trailers if component.has("tr") else source.headers)
    if not lines:
        raise _absent(component, "the message has no such field")
    if component.has("bs"):
        return ", ".join(write_bare(_raw(line, component)) for line in lines)
    key = component.text("key")
    if key is not None:
        members = _structured(component, parse_dictionary, lines)
        if key not in members:
            raise _absent(component, f"the dictionary has no member {quoted(key)}")
        return write_member(members[key])
    return _strict(component, lines) if component.has("sf") else ", ".join(lines)


def _raw(line: str, component: Component) -> bytes:
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        raise _absent(component, "holds what is no byte") from None


def _structured(component: Component, parse: Callable[..., _T], lines: list[str]) -> _T:
    try:
        return parse(lines, name=component.name, unique=False)
    except ResponseError as error:
        raise _absent(component, error.message) from None


def _strict(component: Component, lines: list[str]) -> str:
    """The field written as structured (section 2.1.1), by its type.

    A field whose type is not known is taken where every type that it can be gives the same line.
    """
    name = component.name
    if name in _DICTIONARIES:
        return write_dictionary(_structured(component, parse_dictionary, lines))
    if name in _LISTS:
        return write_list(_structured(component, parse_list, lines))
    if name in _ITEMS:
        return write_member(_structured(component, parse_item, lines))
    readings = set()
    for read in (_as_dictionary, _as_list, _as_item):
        try:
            readings.add(read(lines, name))
        except ResponseError:
            continue
    if len(readings) != 1:
        raise _absent(component, "the type of this structured field is not known")
    return readings.pop()


def _as_dictionary(lines: list[str], name: str) -> str:
    return write_dictionary(parse_dictionary(lines, name=name, unique=False))


def _as_list(lines: list[str], name: str) -> str:
    return write_list(parse_list(lines, name=name, unique=False))


def _as_item(lines: list[str], name: str) -> str:
    return write_member(parse_item(lines, name=name, unique=False))
