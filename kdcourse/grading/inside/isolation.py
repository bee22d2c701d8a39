"""What a process of a learner gives up before it runs their code, on Linux: the inner half of the sandbox.

The grader. Standard library only, and no import from the package: ``python isolation.py`` inside bubblewrap is also the
probe that shows whether all of it is allowed here. Bubblewrap gives one read-only file system without network; in it a
process that has imported torch forks once per submission, and each fork gets namespaces of its own, so that it sees no
other process, leaves nothing behind, and dies as a whole.
"""

import contextlib
import ctypes
import os
import select
import struct
import sys
from collections.abc import Callable, Mapping

WORK = "/learner"
_NEWNS, _NEWUSER, _NEWPID, _NEWIPC = 0x00020000, 0x10000000, 0x20000000, 0x08000000
_PRIVATE, _NOSUID, _NODEV, _NOEXEC, _RDONLY = 0x4000 | 0x40000, 2, 4, 8, 1
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_NO_NEW_PRIVS = 1, 4, 38
_SET_SECCOMP, _FILTER = 22, 2
# System calls that no exercise needs and that would get around the limits: namespaces and mounts of one's own, memory
# that is counted for nobody, a look into other processes. By machine: its name for the filter, clone, clone3, others.
_REFUSED = {
    "x86_64": (
        0xC000003E, 56, 435,
        (29, 101, 155, 161, 165, 166, 248, 249, 250, 272, 298, 308, 310, 311, 312, 319, 321, 323),
    ),
    "aarch64": (
        0xC00000B7, 220, 435,
        (39, 40, 41, 51, 97, 117, 194, 217, 218, 219, 241, 268, 270, 271, 272, 279, 280, 282),
    ),
}  # fmt: skip
_REFUSED_EVERYWHERE = (*range(425, 434), 438, 440, 442, 447)  # newer calls have one number on all machines
FIRST_WORD = 30.0  # seconds until a fork has said which process it is
DEFAULT_LIMITS = {"memory": 1_500_000_000, "disk": 64_000_000, "processes": 32, "cpu": 600, "uid": 65534}


def limit(limits: Mapping[str, int], *, processes: bool) -> None:
    """Set this process's limits; no child of it can raise them again.

    Parameters
    ----------
    limits : mapping
        ``memory`` is what may be added to what the process holds now; ``disk`` is the largest file; ``cpu`` seconds.
    processes : bool
        Limit their number too. Not outside a sandbox, where it would count everything that the user runs.
    """
    import resource

    held = _data_memory()
    wanted = {
        "RLIMIT_CPU": limits["cpu"],
        "RLIMIT_FSIZE": limits["disk"],
        "RLIMIT_CORE": 0,
        # Data, not address space: torch reserves tens of gigabytes of addresses that it never touches.
        "RLIMIT_DATA": held + limits["memory"] if held else None,
        "RLIMIT_NOFILE": 256,
        "RLIMIT_NPROC": limits["processes"] if processes else None,
    }
    for name, value in wanted.items():
        kind = getattr(resource, name, None)
        if kind is not None and value is not None:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with contextlib.suppress(ValueError, OSError):  # macOS has the names and refuses some values
                resource.setrlimit(kind, (value, value))


def fork_isolated(run: Callable[[], object], limits: Mapping[str, int]) -> tuple[int, int]:
    """Run a function in a fork with namespaces of its own.

    Parameters
    ----------
    run : callable
        Runs as process 1 of its own process namespace. It sees an empty work folder, no ``/proc``, no other process.
    limits : mapping
        As for `limit`; ``disk`` is also the size of the work folder, ``uid`` the user it becomes if we are root.

    Returns
    -------
    tuple of int
        The process to wait for, and the process to kill, as numbered here.
    """
    privileged = os.getuid() == 0
    read, write = os.pipe()
    keeper = os.fork()
    if keeper:
        os.close(write)
        answered = bool(select.select([read], [], [], FIRST_WORD)[0])
        text = os.read(read, 20) if answered else b""
        os.close(read)
        if not text:
            with contextlib.suppress(ProcessLookupError):
                os.kill(keeper, 9)
            _, status = os.waitpid(keeper, 0)
            reason = f"namespaces are refused here (status {status})" if answered else "the fork does not answer"
            raise OSError(reason)
        return keeper, int(text)
    try:
        os.close(read)
        _unshare(privileged)
        # The first child after unshare is process 1 of the new namespace: when it ends, all that is in there ends.
        first = os.fork()
        if first == 0:
            os.close(write)
            _settle(limits, privileged)
            run()
            os._exit(0)
        os.write(write, b"%d" % first)
        os.close(write)
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    except BaseException as error:
        with contextlib.suppress(Exception):
            print(f"isolation: {error!r}", file=sys.stderr, flush=True)
        os._exit(70)


def _unshare(privileged: bool) -> None:
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", _NEWNS | _NEWPID | _NEWIPC | (0 if privileged else _NEWUSER))
    if not privileged:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _settle(limits: Mapping[str, int], privileged: bool) -> None:
    """Become a process without rights in a file system of which it can write one small folder."""
    # kill(0, …) reaches the whole process group, across namespaces: have one of our own.
    os.setsid()
    _mount(None, "/", None, _PRIVATE, None)
    small = f"size={limits['disk']},nr_inodes=4096,mode=1777"
    _mount("tmpfs", WORK, "tmpfs", _NOSUID | _NODEV, small)
    _mount("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV | _NOEXEC, small)
    limit(limits, processes=True)  # reads how much memory it holds: before /proc goes
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # if memory runs out all the same, the kernel takes this process first
    _mount("tmpfs", "/proc", "tmpfs", _NOSUID | _NODEV | _NOEXEC | _RDONLY, "size=4096,nr_inodes=2")
    os.chdir(WORK)
    drop_rights(limits["uid"] if privileged else None)


def drop_rights(uid: int | None) -> None:
    """Become an unprivileged user (if ``uid`` is given), without capabilities, for good."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    libc = _libc()
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _refuse_system_calls()
    # After the change of user, which clears both: no debugger of the same user, and no life without our keeper.
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_SET_PDEATHSIG, 9, 0, 0, 0)


def _refuse_system_calls() -> None:
    """Install a filter, for good and for all children; on a machine whose numbers are not known here, none."""
    if os.uname().machine not in _REFUSED:
        return
    arch, clone, clone3, refused = _REFUSED[os.uname().machine]
    load, equal, any_bit, above, answer = 0x20, 0x15, 0x45, 0x35, 0x06
    allow, kill, not_permitted, not_there = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
    steps = [
        (load, 0, 0, 4), (equal, 1, 0, arch), (answer, 0, 0, kill),  # another machine's calls would have other numbers
        (load, 0, 0, 0), (above, 0, 1, 0x40000000), (answer, 0, 0, kill),
        (equal, 0, 1, clone3), (answer, 0, 0, not_there),  # its flags cannot be read; libraries fall back to clone
    ]  # fmt: skip
    for number in (*refused, *_REFUSED_EVERYWHERE):
        steps += [(equal, 0, 1, number), (answer, 0, 0, not_permitted)]
    steps += [(equal, 0, 3, clone), (load, 0, 0, 16), (any_bit, 0, 1, 0x7E020000), (answer, 0, 0, not_permitted)]
    steps += [(answer, 0, 0, allow)]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(_kept(code))))
    _call("prctl", _SET_SECCOMP, _FILTER, program, 0, 0)


def _kept(code: bytes) -> ctypes.Array:
    """Return the bytes at an address that stays."""
    _buffers.append(ctypes.create_string_buffer(code, len(code)))
    return _buffers[-1]


_buffers: list[ctypes.Array] = []


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def _data_memory() -> int:
    """Return the bytes of data memory that this process holds, 0 where that cannot be read."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData"))
    except (OSError, StopIteration):
        return 0


def _probe() -> None:
    """Fork once, fully isolated, and have the fork say what it is; whoever runs this file reads it."""

    def run() -> None:
        alone = os.getpid() == 1 and not os.listdir("/proc") and not os.listdir(WORK)
        with open(f"{WORK}/file", "w") as file:
            file.write("can write")
        try:
            with open("/file", "w"):
                alone = False
        except OSError:
            pass
        print("isolated" if alone and os.getuid() != 0 else "not isolated", flush=True)

    if sys.argv[1:] == ["nested"]:
        keeper, _ = fork_isolated(run, DEFAULT_LIMITS)
        os.waitpid(keeper, 0)
    else:
        print("isolated" if os.getuid() != 0 and os.getppid() <= 1 else "not isolated", flush=True)


if __name__ == "__main__":
    _probe()
