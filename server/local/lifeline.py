"""Runs a command that ends with its parent, as another account where asked.

Called by path with an isolated interpreter (see processes.py), so it imports the standard library
only. Arguments: MODE SIGNAL PARENT_PID UID:GID|- COMMAND...

Mode `kernel` (Linux) asks the kernel for SIGNAL when the parent dies and becomes the command, with
the same process id. Mode `pipe` (elsewhere) starts the command and sends it SIGNAL when standard
input ends, which it does when the parent dies.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
CANNOT_RUN = 127  # what shells answer too


def become(account: str) -> None:
    """Give up root for `uid:gid`; "-" stays."""
    if account == "-":
        return
    uid, gid = (int(part) for part in account.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def run_with_kernel(death_signal: int, parent_pid: int, command: list[str]) -> None:
    """Become the command; the kernel sends `death_signal` when the parent dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent_pid:  # it died before the line above
        sys.exit(128 + death_signal)
    os.execv(command[0], command)  # noqa: S606 - the caller's own command, no shell on purpose


def run_with_pipe(death_signal: int, command: list[str]) -> int:
    """Run the command as a child; its exit code, as a shell gives it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the whole group gets them, so the command does

    def restore_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    child = subprocess.Popen(  # noqa: S603 - the caller's own command
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=restore_signals,  # noqa: PLW1509 - no thread runs yet, and exec keeps SIG_IGN
    )

    def watch() -> None:
        while os.read(0, 1024):  # no buffered reading: its lock would outlive us
            pass
        child.send_signal(death_signal)

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    """Run the command of the arguments; returns only where it could not become it."""
    mode, death_signal, parent_pid, account, *command = arguments
    try:
        become(account)
        if mode == "pipe":
            return run_with_pipe(int(death_signal), command)
        run_with_kernel(int(death_signal), int(parent_pid), command)
    except OSError as error:
        sys.stderr.write(f"FATAL:  cannot run {command[0]}: {error.strerror or error}\n")
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
