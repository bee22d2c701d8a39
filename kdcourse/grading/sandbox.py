"""The outer half of the sandbox: bubblewrap, tried by running it, since where it is installed it may be refused.

The grader. Two ways, the better one that works here: one sandbox whose process forks into namespaces of its own for
each submission (torch is imported once), or a sandbox for each submission.
"""

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from .inside.isolation import DEFAULT_LIMITS, WORK

PACKAGE = Path(__file__).resolve().parent.parent
PROBE = PACKAGE / "grading" / "inside" / "isolation.py"


class Sandbox(NamedTuple):
    """A way to run a program without network, other files and other processes.

    Attributes
    ----------
    program : str
        Path of bubblewrap.
    nested : bool
        Whether a process in it can fork into namespaces of its own.
    """

    program: str
    nested: bool

    def command(self, arguments: list[str]) -> list[str]:
        """Return the command that runs Python with these arguments inside."""
        return [self.program, *_options(self.nested), "--", sys.executable, "-P", *arguments]


def environment() -> dict[str, str]:
    """Return all that a learner's process sees of the environment."""
    return {
        "PATH": "/usr/bin:/bin", "HOME": WORK, "TMPDIR": WORK, "USER": "learner", "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg", "MPLCONFIGDIR": WORK, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(PACKAGE.parent),
        **SETTINGS,
    }  # fmt: skip


# One thread per submission: several run at once, and forks do not inherit a pool of threads. What is decorated with
# torch.compile runs as it was written: a compiler is neither there nor needed to see what a function returns.
SETTINGS = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "KDCOURSE_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1", "TORCH_COMPILE_DISABLE": "1",
}  # fmt: skip


@functools.lru_cache(maxsize=1)
def find_sandbox() -> Sandbox | None:
    """Return the best sandbox that works on this machine, or None."""
    program = shutil.which("bwrap") if sys.platform == "linux" else None
    if program is None:
        return None
    for nested in (True, False):
        sandbox = Sandbox(program, nested)
        if not refusal_of(sandbox):
            return sandbox
    return None


def refusal_of(sandbox: Sandbox) -> str:
    """Run the probe in a sandbox; return why it does not work, empty if it does."""
    command = sandbox.command([str(PROBE), *(["nested"] if sandbox.nested else [])])
    try:
        outcome = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=20, env=environment(), check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if outcome.returncode == 0 and outcome.stdout.strip() == "isolated":
        return ""
    return outcome.stderr.strip()[:120] or outcome.stdout.strip()[:120] or f"exit code {outcome.returncode}"


def sandbox_in_words() -> str:
    """Return what `find_sandbox` finds on this machine as a sentence, for ``kdcourse doctor``."""
    sandbox = find_sandbox()
    if sandbox is not None:
        return "bubblewrap works" + ("" if sandbox.nested else ", one sandbox for each submission, which is slower")
    if sys.platform != "linux":
        return f"none on {sys.platform}: fine for your own work; a class is graded on Linux"
    program = shutil.which("bwrap")
    if program is None:
        return "none (bubblewrap is not installed): fine for your own work; grading a class needs it"
    return f"bubblewrap is installed but refused ({refusal_of(Sandbox(program, nested=False))})"


def _options(nested: bool) -> list[str]:
    """Return bubblewrap's options: all namespaces apart, a file system that holds Python and the package, read-only."""
    options = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    options += ["--unshare-cgroup-try"]
    if os.getuid() == 0:
        # Root needs no user namespace, and must not stay root: its processes would not be counted. The inner half
        # changes the user.
        options += ["--cap-drop", "ALL"]
        for name in ("SYS_ADMIN", "SETUID", "SETGID", "KILL"):
            options += ["--cap-add", f"CAP_{name}"]
    else:
        options += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    # Folders on the way are made first: those that bubblewrap makes by itself are closed to the user we become.
    for folder in sorted({str(parent) for path in _readable() for parent in Path(path).parents} - {"/"}, key=len):
        options += ["--dir", folder]
    for path in _readable():
        options += ["--ro-bind", path, path]
    for path in ("/bin", "/lib", "/lib64", "/lib32", "/sbin"):
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    for path in ("/etc/ld.so.cache", "/etc/localtime", "/etc/fonts", "/etc/alternatives", "/nix/store"):
        options += ["--ro-bind-try", path, path]
    if (PACKAGE / "keys").is_dir():  # hidden tests lie on no disk that a learner's code sees
        options += ["--tmpfs", str(PACKAGE / "keys"), "--remount-ro", str(PACKAGE / "keys")]
    options += ["--proc", "/proc", "--dev", "/dev"]
    if not nested:
        options += ["--size", str(DEFAULT_LIMITS["disk"]), "--tmpfs", "/dev/shm", "--size", str(DEFAULT_LIMITS["disk"])]
    return [*options, "--tmpfs", WORK, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK]


def _readable() -> list[str]:
    """Return the folders that Python and the package need, outer ones first."""
    wanted = {
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        str(PACKAGE),
        os.path.dirname(os.path.realpath(sys.executable)),
    }
    wanted |= {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    wanted |= {path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")}
    folders = sorted({"/usr", *(path for path in wanted if os.path.isdir(path))}, key=len)
    kept: list[str] = []
    for folder in folders:
        if not any(folder == outer or folder.startswith(outer + "/") for outer in kept):
            kept.append(folder)
    return kept
