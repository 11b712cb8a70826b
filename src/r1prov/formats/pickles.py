"""Tell a pickle, and what it imports, without unpickling it.

An unpickler is a small machine with a stack; what it would carry out is followed here on a stack
of nothing but kinds, as `pickletools` describes each operation. Nothing is imported or called.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterator
from typing import Final

_MAX_HEAD_BYTES: Final = 4096


def is_pickle(head: bytes) -> bool:
    """Whether bytes are the start of a pickle that would run something, or say that they are one.

    A pickle of protocol 0 or 1 has no magic: one whose first 4 KiB do nothing gives False.

    Args:
        head: The first bytes; 4,096 or fewer are taken for a whole file.
    """
    # PEP 307: protocol 2 and up starts with PROTO, and a version that a byte of text never is.
    proto = len(head) >= 3 and head[0] == 0x80 and 2 <= head[1] <= 5
    unpickler = _Unpickler()
    operations = 0
    try:
        for opcode, argument, _ in _operations(head):
            if opcode.name == "PERSID" and not proto:
                # Only loaders that define `persistent_load` take it, and theirs start with PROTO;
                # a line of text that starts with `P` is commoner.
                return False
            if unpickler.step(opcode, argument):
                return True
            operations += 1
            stop = opcode.name == "STOP"
            if (proto and (stop or operations >= 8)) or (stop and unpickler.imports):
                return True
            if stop:  # Several pickles may follow one another, each with a stack of its own.
                unpickler = _Unpickler()
    except _NoPickleError:
        return proto and operations >= 4
    except EOFError:
        pass
    # The data, or the head of it, ends here. A FRAME (PEP 3154) is proof enough.
    if proto and (operations >= 4 or head[2] == 0x95):
        return True
    return len(head) >= _MAX_HEAD_BYTES and bool(unpickler.imports)


def is_data_pickle(data: bytes) -> bool:
    """Whether bytes are one whole pickle, and nothing else, that imports and calls nothing.

    Plain data: numbers, strings, lists, dicts and their kind. Nothing is unpickled.
    """
    unpickler = _Unpickler()
    try:
        for opcode, argument, end in _operations(data):
            if opcode.name in _MORE_THAN_DATA:
                return False
            unpickler.step(opcode, argument)
            if opcode.name == "STOP":
                return end == len(data) and not unpickler.stack
    except (_NoPickleError, EOFError):
        pass
    return False


def pickle_imports(data: bytes) -> list[str]:
    """The globals that a pickle would import, as sorted `module.name`, without executing it.

    Reads as far as the data is a pickle, and every pickle when several follow one another. A name
    that the pickle computes in a way not followed here shows as `?`.
    """
    imports: set[str] = set()
    unpickler = _Unpickler()
    try:
        for opcode, argument, _ in _operations(data):
            unpickler.step(opcode, argument)
            imports |= unpickler.imports
            if opcode.name == "STOP":
                unpickler = _Unpickler()
    except (_NoPickleError, EOFError):
        imports |= unpickler.imports  # what was found so far stands
    return sorted(imports)


class _NoPickleError(Exception):
    """An unpickler would refuse the bytes here."""


class _Thing:
    """What a value on the stack is, where its text does not matter."""


_MARK: Final = _Thing()
_DATA: Final = _Thing()
# Imported, or made by something imported: what a pickle can call.
_OBJECT: Final = _Thing()

_OPCODES: Final = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
# Width and sign of the count that stands before a counted argument.
_COUNTS: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
    pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
    pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
    pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}
_EXTENSIONS: Final = frozenset({"EXT1", "EXT2", "EXT4"})
_CALLING: Final = frozenset({"REDUCE", "OBJ", "INST", "NEWOBJ", "NEWOBJ_EX"})
# These call `__setstate__`, `append`, `extend`, `add` or `__setitem__` of what they find.
_CHANGING: Final = frozenset({"BUILD", "APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS"})
_PERSISTENT: Final = frozenset({"PERSID", "BINPERSID"})
_MORE_THAN_DATA: Final = (
    _CALLING
    | _EXTENSIONS
    | _PERSISTENT
    | {"GLOBAL", "STACK_GLOBAL", "BUILD", "NEXT_BUFFER", "READONLY_BUFFER"}
)
_IDENTIFIER = re.compile(r"[^\W\d][\w.]*")
# The C unpickler reads up to a NUL, takes `0x1L`, and nothing at all before a NUL as zero.
_INTEGER = re.compile(rb"\s*[+-]?[0-9][0-9A-Za-z_]*\s*")


def _operations(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, bytes, int]]:
    """Each operation as an unpickler reads it: opcode, bytes of its argument, and where it ends.

    `pickletools.genops` refuses arguments that the unpicklers take. A line comes without its
    newline, two lines with the one between them.

    Raises:
        _NoPickleError: A byte is no opcode, or a count is negative.
        EOFError: The data ends in the middle of an operation.
    """
    at = 0
    while at < len(data):
        opcode = _OPCODES.get(data[at])
        if opcode is None:
            raise _NoPickleError
        at += 1
        if opcode.arg is None:
            start = end = at
        elif opcode.arg.n == pickletools.UP_TO_NEWLINE:
            start, end = at, data.find(b"\n", at)
            if end >= 0 and opcode.name in ("GLOBAL", "INST"):
                end = data.find(b"\n", end + 1)
            if end < 0:
                raise EOFError
            at = end + 1
        else:
            start, size = at, opcode.arg.n
            if size < 0:
                width, signed = _COUNTS[size]
                start += width
                size = int.from_bytes(data[at:start], "little", signed=signed)
            at = end = start + size
            if size < 0:
                raise _NoPickleError
            if end > len(data):
                raise EOFError
        yield opcode, data[start:end], at


class _Unpickler:
    """What the stack and the memo of an unpickler would hold; nothing is built or imported.

    Where the unpicklers of CPython (the one in C, and `pickle._Unpickler`, which joblib uses)
    differ, whatever one of them takes is taken.
    """

    __slots__ = ("_memo", "imports", "stack")

    def __init__(self) -> None:
        self.stack: list[str | _Thing] = []
        self.imports: set[str] = set()
        self._memo: dict[int, str | _Thing] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: bytes) -> bool:
        """Carry out one operation, and say whether it calls into something imported.

        Raises:
            _NoPickleError: An operand, a mark or a value of the memo is not there, or the argument
                is none.
        """
        name = opcode.name
        if name == "PROTO" and argument[0] > 5:
            raise _NoPickleError
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else _key(name, argument)] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            key = _key(name, argument)
            if key not in self._memo:
                raise _NoPickleError
            self.stack.append(self._memo[key])
        elif name == "DUP":
            self.stack.append(self._top())
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name == "POP" and self.stack and self.stack[-1] is _MARK:
            self.stack.pop()
        else:
            return self._apply(opcode, argument)
        return False

    def _apply(self, opcode: pickletools.OpcodeInfo, argument: bytes) -> bool:
        """An operation that takes operands and pushes what it makes of them."""
        name = opcode.name
        before = [item.name for item in opcode.stack_before]
        operands: list[str | _Thing] = []
        if "mark" in before:
            while self.stack and self.stack[-1] is not _MARK:
                operands.append(self.stack.pop())
            if not self.stack:
                raise _NoPickleError
            self.stack.pop()
            if name == "OBJ" and not operands:
                raise _NoPickleError
            before = before[: before.index("mark")]
        for _ in before:
            operands.append(self._top())
            self.stack.pop()
        pushed: str | _Thing = _DATA
        calls = False
        if name in ("GLOBAL", "INST"):
            module, _, attribute = argument.decode("utf-8", "replace").partition("\n")
            if not (_IDENTIFIER.fullmatch(module) and _IDENTIFIER.fullmatch(attribute)):
                raise _NoPickleError
            self.imports.add(f"{module}.{attribute}")
            pushed = _OBJECT
            calls = name == "INST"
        elif name == "STACK_GLOBAL":
            texts = (item if isinstance(item, str) else "?" for item in reversed(operands))
            self.imports.add(".".join(texts))
            pushed = _OBJECT
        elif name in _EXTENSIONS:
            # What a number stands for is registered with `copyreg`, outside the pickle.
            self.imports.add("?")
            pushed = _OBJECT
        elif name in _PERSISTENT:
            pushed = _OBJECT
        elif name in _CALLING:
            # The first operand was taken last.
            if operands[-1] is not _OBJECT:
                raise _NoPickleError
            pushed = _OBJECT
            calls = True
        elif name in _CHANGING:
            pushed = operands[-1]
            calls = pushed is _OBJECT
        else:
            pushed = _value(opcode, argument)
        if opcode.stack_after:
            self.stack.append(pushed)
        return calls

    def _top(self) -> str | _Thing:
        if not self.stack or self.stack[-1] is _MARK:
            raise _NoPickleError
        return self.stack[-1]


def _key(name: str, argument: bytes) -> int:
    """The number of a value in the memo."""
    if name not in ("PUT", "GET"):
        return int.from_bytes(argument, "little")
    try:
        return int(argument.partition(b"\0")[0])
    except ValueError:
        raise _NoPickleError from None


def _value(opcode: pickletools.OpcodeInfo, argument: bytes) -> str | _Thing:
    """What an operation with a plain argument pushes: the text of a string, for the names."""
    text, nul, _ = argument.partition(b"\0")
    match opcode.name:
        case "INT" | "LONG" if not (_INTEGER.fullmatch(text) or (nul and not text)):
            raise _NoPickleError
        case "FLOAT":
            try:
                float(text)
            except ValueError:
                raise _NoPickleError from None
        case "STRING":
            quoted = argument.strip()
            if len(quoted) < 2 or quoted[0] != quoted[-1] or quoted[:1] not in (b"'", b'"'):
                raise _NoPickleError
            return quoted[1:-1].decode("unicode_escape", "replace")
        case "UNICODE":
            return argument.decode("raw_unicode_escape", "replace")
        case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "SHORT_BINSTRING" | "BINSTRING":
            return argument.decode("utf-8", "replace")
    return _DATA
