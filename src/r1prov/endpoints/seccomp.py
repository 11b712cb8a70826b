"""A filter of system calls for code that a model wrote: no process, no thread, no socket.

A program of classic BPF as the kernel takes it (`linux/filter.h`, `linux/seccomp.h`;
Documentation/userspace-api/seccomp_filter.rst). It is the second wall: namespaces are the first.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from r1prov.errors import UsageError

# linux/audit.h, and the numbers of `asm/unistd_64.h` and `asm-generic/unistd.h`.
_ARCHITECTURES: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41,
            "socketpair": 53,
            "clone": 56,
            "fork": 57,
            "vfork": 58,
            "kill": 62,
            "ptrace": 101,
            "mount": 165,
            "umount2": 166,
            "tkill": 200,
            "io_setup": 206,
            "tgkill": 234,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "setns": 308,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "bpf": 321,
            "userfaultfd": 323,
            "io_uring_setup": 425,
            "clone3": 435,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "io_setup": 0,
            "umount2": 39,
            "mount": 40,
            "unshare": 97,
            "ptrace": 117,
            "kill": 129,
            "tkill": 130,
            "tgkill": 131,
            "socket": 198,
            "socketpair": 199,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "clone": 220,
            "perf_event_open": 241,
            "setns": 268,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "bpf": 280,
            "userfaultfd": 282,
            "io_uring_setup": 425,
            "clone3": 435,
        },
    ),
}
# The calls of the x32 interface have this bit, and pass the architecture of x86_64.
_X32 = 0x4000_0000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in `struct seccomp_data`
_KILL, _ALLOW, _REFUSE = 0x8000_0000, 0x7FFF_0000, 0x0005_0000 | 1  # EPERM


def refusing_filter(machine: str) -> bytes:
    """The filter for one kind of machine, `struct sock_filter` after `struct sock_filter`.

    Args:
        machine: As `os.uname` calls it.

    Raises:
        UsageError: None is known for it.
    """
    if machine not in _ARCHITECTURES:
        raise UsageError(
            f"there is no filter of system calls for {machine}",
            hint=f"code is run on {', '.join(sorted(_ARCHITECTURES))}",
        )
    architecture, refused = _ARCHITECTURES[machine]
    numbers = sorted(refused.values())
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        # From here on a jump leads behind all comparisons, and allowing.
        (_AT_LEAST, len(numbers) + 1, 0, _X32),
        *((_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
