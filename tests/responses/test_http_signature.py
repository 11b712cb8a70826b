"""RFC 9421: every vector, every component of the RFC's text, and what must be refused."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, algorithms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed import (
    CREATED,
    KEYID,
    RFC,
    RFC_ALGORITHMS,
    URL,
    hmac_signing_key,
    message_of_vector,
    rfc_key,
    rfc_signing_key,
    signed,
    signing_key,
    unsigned,
    with_header,
)

from r1prov.errors import ResponseError
from r1prov.responses.components import component_value, parse_component
from r1prov.responses.exchange import Request
from r1prov.responses.http_signature import (
    create_signature,
    read_signatures,
    requested_nonces,
    signature_base,
    signature_input,
    verify_signature,
)
from r1prov.responses.message import (
    RequestMessage,
    ResponseMessage,
    exchange_message,
    request_message,
)
from r1prov.responses.structured_fields import parse_dictionary

CASES = {case["id"]: case for case in RFC["cases"]}
AGAIN = [n for n, one in CASES.items() if one["alg"] == "ed25519" and one["expect_valid"]]


def signature_of(case):
    fields = (("Signature-Input", case["signature_input"]), ("Signature", case["signature"]))
    return next(one for one in read_signatures(fields) if one.input.label == case["label"])


@pytest.mark.parametrize("name", CASES)
def test_vector_of_the_rfc(name):
    case = CASES[name]
    signature, message = signature_of(case), message_of_vector(case)
    base = signature_base(signature.input, message)
    assert base.decode() == case["signature_base"]
    if case["signature_base_in_rfc"] is not None:
        assert base.decode() == case["signature_base_in_rfc"]
    key = rfc_key(case["keyid"], case["alg"])
    assert verify_signature(signature, message, key) is case["expect_valid"]
    assert signature.signature == base64.b64decode(case["signature_b64"])


@pytest.mark.parametrize("name", AGAIN)
def test_deterministic_vectors_are_signed_again_to_the_same_bytes(name):
    case = CASES[name]
    signature, message = signature_of(case), message_of_vector(case)
    fields = create_signature(
        message,
        [str(one) for one in signature.input.components],
        rfc_signing_key("ed25519"),
        created=signature.input.created,
        keyid=signature.input.keyid,
        label=case["label"],
    )
    assert fields == (
        ("Signature-Input", case["signature_input"]),
        ("Signature", case["signature"]),
    )


# ---- component lines of the RFC's text ----------------------------------------------------------


def parsed(text):
    """The message of an example of the RFC, with folded lines as they stand."""
    head, _, rest = text.replace("(SP)", " ").partition("\n\n")
    first, *lines = head.split("\n")
    if ":" in first and not first.startswith(("GET", "POST", "OPTIONS", "CONNECT")):
        lines.insert(0, first)
        first = "HTTP/1.1 200 OK"
    fields = []
    for line in lines:
        if line[0] in " \t":
            name, value = fields[-1]
            fields[-1] = (name, f"{value}\r\n{line}")
        else:
            name, _, value = line.partition(":")
            fields.append((name, value))
    trailers = tuple(
        tuple(line.split(": ", 1)) for line in rest.split("\n") if ": " in line and rest
    )
    if first.startswith("HTTP/"):
        status = int(first.split()[1])
        return ResponseMessage(status=status, headers=tuple(fields), trailers=trailers)
    method, target, _ = first.split()
    host = dict(fields).get("Host", "www.example.com").strip()
    path, mark, query = target.partition("?")
    if "://" in path or path == "*" or method == "CONNECT":
        path, query, mark = "/", "", ""
    return RequestMessage(
        method=method,
        scheme="https",
        authority=host,
        path=path,
        query=query if mark else None,
        target=target,
        headers=tuple(fields),
    )


@pytest.mark.parametrize("number", range(len(RFC["pairs_for_component_tests"])))
def test_component_lines_of_the_rfc(number):
    pair = RFC["pairs_for_component_tests"][number]
    message = parsed(pair["message"])
    for line in pair["expected_lines"].split("\n"):
        identifier, _, expected = line.replace("(SP)", " ").partition(": ")
        name, _, parameters = identifier.partition('"')[2].partition('"')
        component = parse_component(name + parameters)
        assert component.identifier == identifier
        if name == "@scheme":  # the example says "plain HTTP" in its prose
            message = RequestMessage(
                **{f: getattr(message, f) for f in message.__slots__} | {"scheme": "http"}
            )
        assert component_value(component, message) == expected


def test_examples_of_signature_parameters_parse():
    for text in RFC["signature_params_examples"]:
        value = text.partition(": ")[2] or f"sig={text}"
        members = parse_dictionary([value], name="signature-input")
        assert all(member.items for member in members.values())
    accept = RFC["signature_params_examples"][2].partition(": ")[2]
    assert requested_nonces((("Accept-Signature", accept),)) == ()
    assert requested_nonces((("Accept-Signature", 'a=();nonce="x", b=();nonce="y"'),)) == ("x", "y")


# ---- creation, and a second opinion -------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [*RFC_ALGORITHMS, "ecdsa-p384-sha384", "hmac-sha256"])
def test_what_is_created_verifies_and_only_under_its_key(algorithm):
    if algorithm == "hmac-sha256":
        key = hmac_signing_key()
    elif algorithm == "ecdsa-p384-sha384":
        key = signing_key("ecdsa-p384")
    else:
        key = rfc_signing_key(algorithm)
    exchange = signed(key=key, nonce="n-1", tag="t", expires=CREATED + 60, alg=algorithm)
    (signature,) = read_signatures(exchange.response.headers)
    message = exchange_message(exchange)
    assert verify_signature(signature, message, key.public)
    assert not verify_signature(signature, message, signing_key(number=9).public)
    given = signature.input
    assert (given.created, given.expires, given.nonce) == (CREATED, CREATED + 60, "n-1")
    assert (given.keyid, given.alg, given.tag) == (KEYID, algorithm, "t")


THEIRS = {
    "rsa-pss-sha512": algorithms.RSA_PSS_SHA512,
    "rsa-v1_5-sha256": algorithms.RSA_V1_5_SHA256,
    "ecdsa-p256-sha256": algorithms.ECDSA_P256_SHA256,
    "ed25519": algorithms.ED25519,
}


class Resolver:
    """Keys as http-message-signatures asks for them."""

    def __init__(self, private):
        self.private = private

    def resolve_public_key(self, key_id):
        return self.private.public_key()

    def resolve_private_key(self, key_id):
        return self.private


class Theirs:
    """A request as http-message-signatures reads it."""

    def __init__(self, request):
        self.method, self.url = request.method, request.url
        self.headers = {name: value for name, value in request.headers}


COVERED = ["@method", "@authority", "@path", "@query", "@target-uri", "content-digest", "date"]


def their_request():
    exchange = unsigned(url=URL + "?a=b%20c", request_headers=(("Date", "today"),))
    return exchange.request


@pytest.mark.parametrize("algorithm", THEIRS)
def test_http_message_signatures_takes_what_is_created(algorithm):
    request, key = their_request(), rfc_signing_key(algorithm)
    now = int(datetime.now(UTC).timestamp())
    fields = create_signature(request_message(request), COVERED, key, created=now, keyid="k")
    message = Theirs(request)
    message.headers |= dict(fields)
    verifier = HTTPMessageVerifier(
        signature_algorithm=THEIRS[algorithm], key_resolver=Resolver(key._material)
    )
    results = verifier.verify(message, max_age=timedelta(hours=1), body=request.body)
    assert len(results) == 1


@pytest.mark.parametrize("algorithm", THEIRS)
def test_what_http_message_signatures_makes_verifies(algorithm):
    request, key = their_request(), rfc_signing_key(algorithm)
    message = Theirs(request)
    signer = HTTPMessageSigner(
        signature_algorithm=THEIRS[algorithm], key_resolver=Resolver(key._material)
    )
    signer.sign(
        message,
        key_id="k",
        covered_component_ids=COVERED,
        nonce="n",
        tag="t",
        body=request.body,
        use_existing_digest=True,
    )
    fields = tuple((name, str(value)) for name, value in message.headers.items())
    (signature,) = read_signatures(fields)
    assert verify_signature(signature, request_message(request), key.public)
    changed = Request(method="GET", url=request.url, headers=request.headers, body=request.body)
    assert not verify_signature(signature, request_message(changed), key.public)


# ---- what must be refused -----------------------------------------------------------------------

INPUTS = {
    "twice": '("@status" "@status")',
    "twice in another order": '("a";req;key="b" "a";key="b";req)',
    "no component": '("@nonsense")',
    "upper case": '("Content-Type")',
    "a token": "(date)",
    "a status of the request": '("@status";req)',
    "a flag with a value": '("date";bs=1)',
    "an unknown parameter": '("date";x)',
    "a key that is a token": '("date";key=a)',
    "wrapped and structured": '("date";bs;sf)',
    "wrapped and a key": '("date";bs;key="a")',
    "a derived trailer": '("@method";tr)',
    "a query parameter without its name": '("@query-param")',
    "a name elsewhere": '("date";name="a")',
    "signature-params itself": '("@signature-params")',
    "created as text": '();created="1"',
    "created as a decimal": "();created=1.5",
    "keyid as a token": "();keyid=a",
    "nonce as bytes": "();nonce=:YQ==:",
    "no list": '"date"',
    "a list of lists": '(("date"))',
    "too many": "(" + " ".join(f'"h{n}"' for n in range(129)) + ")",
    "a parameter twice": '();keyid="a";keyid="b"',
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_are_refused(name):
    fields = (("Signature-Input", f"sig1={INPUTS[name]}"), ("Signature", "sig1=:YQ==:"))
    with pytest.raises(ResponseError) as caught:
        read_signatures(fields)
    assert caught.value.rule in ("response-signature-malformed", "response-field-malformed")


@pytest.mark.parametrize(
    ("inputs", "signatures"),
    [
        ("a=()", ""),
        ("", "a=:YQ==:"),
        ("a=(), b=()", "a=:YQ==:"),
        ("a=()", "b=:YQ==:"),
        ("a=(), a=()", "a=:YQ==:"),
        ("a=()", "a=:YQ==:, a=:Yg==:"),
        ("a=()", "a=:YR==:"),  # base64 with stray bits
        ("a=()", "a=:YQ:"),  # without padding
        ("a=()", "a=(:YQ==:)"),
        ("a=()", 'a="x"'),
        (", ".join(f"a{n}=()" for n in range(17)), ", ".join(f"a{n}=:YQ==:" for n in range(17))),
    ],
)
def test_fields_that_do_not_go_together(inputs, signatures):
    with pytest.raises(ResponseError):
        read_signatures((("Signature-Input", inputs), ("Signature", signatures)))


REQUEST = request_message(
    Request(
        method="GET",
        url="HTTPS://API.Example.com:443/a%20b?x=1&x=2&%FF=3&y",
        headers=(
            ("X", "é"),
            ("D", "a=1, a=2"),
            ("E", "a, a"),
            ("Twice", "a"),
            ("Twice", "b"),
            ("Odd", "(1"),
        ),
        body=None,
    )
)


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ("@authority", "api.example.com"),
        ("@scheme", "https"),
        ("@path", "/a%20b"),
        ("@query", "?x=1&x=2&%FF=3&y"),
        ("@target-uri", "https://api.example.com/a%20b?x=1&x=2&%FF=3&y"),
        ("@request-target", "/a%20b?x=1&x=2&%FF=3&y"),
        ("x;bs", ":6Q==:"),
        ('d;key="a"', "2"),
        ("d;sf", "a=2"),  # only a dictionary
        ("e;sf", None),  # a dictionary and a list, which differ
        ('@query-param;name="y"', ""),
        ("twice", "a, b"),
        ("twice;bs", ":YQ==:, :Yg==:"),
        ("x", None),
        ("absent", None),
        ('d;key="b"', None),
        ("odd;sf", None),
        ("@status", None),
        ("@method;req", None),
        ('@query-param;name="x"', None),  # twice
        ('@query-param;name="z"', None),
        ('@query-param;name="%FF"', None),
        ("date;tr", None),
    ],
)
def test_values_of_components(component, expected):
    if expected is None:
        with pytest.raises(ResponseError) as caught:
            component_value(parse_component(component), REQUEST)
        assert caught.value.rule == "response-component-missing"
    else:
        assert component_value(parse_component(component), REQUEST) == expected


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_line_cannot_become_two(value):
    message = ResponseMessage(status=200, headers=(("X", value),))
    with pytest.raises(ResponseError, match="line of ASCII"):
        component_value(parse_component("x"), message)


@pytest.mark.parametrize("url", ["", "/v1", "https://", "https://a:b/", "https://[::1", "x:y"])
def test_a_request_needs_an_absolute_url(url):
    with pytest.raises(ResponseError):
        request_message(Request(method="GET", url=url, headers=(), body=None))


def test_the_host_field_is_the_authority_and_stands_once():
    request = Request(
        method="GET", url="http://127.0.0.1:8080/", headers=(("Host", "a.example:80"),), body=None
    )
    assert request_message(request).authority == "a.example"
    twice = Request(
        method="GET", url=request.url, headers=(("Host", "a"), ("host", "b")), body=None
    )
    with pytest.raises(ResponseError, match="several Host"):
        request_message(twice)


# ---- properties ---------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_other_exception_whatever_the_fields_hold(inputs, signatures):
    try:
        read_signatures((("Signature-Input", inputs), ("Signature", signatures)))
    except ResponseError as error:
        assert error.message


@settings(max_examples=200, deadline=None)
@given(
    st.from_regex(
        r'\("[@a-z-]{1,12}"(;[a-z]{1,4}(="?[a-z]{0,3}"?)?){0,3}\)(;[a-z]{1,7}=[0-9]{1,3})?'
    )
)
def test_inputs_that_nearly_fit_are_read_or_refused(text):
    try:
        member = parse_dictionary([f"s={text.strip()}"], name="signature-input")["s"]
        signature_base(signature_input("s", member), exchange_message(unsigned()))
    except ResponseError as error:
        assert error.message


SIGNED = signed()
(SIGNATURE,) = read_signatures(SIGNED.response.headers)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.sampled_from(["content-type", "content-digest"]), st.data())
def test_any_changed_byte_of_a_covered_field_fails(name, data):
    value = next(v for k, v in SIGNED.response.headers if k.lower() == name)
    at = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
    changed = value[:at] + other + value[at + 1 :]
    message = exchange_message(with_header(SIGNED, name, changed))
    same = changed.strip(" \t") == value
    assert verify_signature(SIGNATURE, message, signing_key().public) is same


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 511))
def test_any_changed_bit_of_a_signature_fails(bit):
    raw = bytearray(SIGNATURE.signature)
    raw[bit // 8] ^= 1 << bit % 8
    message = exchange_message(SIGNED)
    key = signing_key().public
    assert key.verify(SIGNATURE.signature, signature_base(SIGNATURE.input, message))
    assert not key.verify(bytes(raw), signature_base(SIGNATURE.input, message))
