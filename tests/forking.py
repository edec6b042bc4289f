"""Programs that start at once: copies of a process that has imported torch and advbench, which takes seconds.

`Programs` starts that process, the server, and makes a folder with `advbench` and `python` for the front of PATH. Each
sends its arguments, variables, folder and open files to the server, which forks; the copy runs what the program would
have run. multiprocessing can start its processes with that `python`, too. Tests of how processes start and are
interrupted use the real programs.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import json
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["Programs"]

MODULES = (
    "torch", "torch.fx.experimental.symbolic_shapes", "numpy", "PIL.Image", "rich.console", "advbench.session.run",
    *(f"advbench_{kind}.plugin" for kind in ("attacks", "datasets", "defenses", "models", "studies")),
)  # fmt: skip
"""What nearly every command imports. None of them starts a thread when it is imported; a copy would lack it."""

FIXED = ("PYTHONPATH", "PYTHONWARNINGS")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that are read at the start: where they differ from the server's, the real program runs."""

CLIENT = """
import json, os, socket, sys
program, *words = sys.argv[1:]
real, fixed, threads, path = json.loads({settings!r})
words = words[words[:1] == ["-B"] :]
script = program == "advbench" or bool(words) and (words[0] in ("-c", "-m") or not words[0].startswith("-"))
tracker = words[0:1] == ["-c"] and "resource_tracker" in words[1]  # that of multiprocessing, which needs no torch
same = all(os.environ.get(name, "") == value for name, value in fixed.items())
if tracker or not script or not same or any(os.environ.get(name, "1") != "1" for name in threads):
    os.execv(real[program], [real[program], *words])
command = [real["advbench"], *words] if program == "advbench" else words
descriptors = [0, 1, 2]
for name in map(int, os.listdir("/proc/self/fd")) if words[-1:] == ["--multiprocessing-fork"] else ():
    try:
        descriptors += [name] * (name > 2 and os.get_inheritable(name))
    except OSError:
        pass  # that of the listing
content = json.dumps([descriptors, command, os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect(path)
    socket.send_fds(server, [len(content).to_bytes(8, "big")], descriptors)
    server.sendall(content)
    status = int(server.makefile().read() or 1)
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class Programs:
    """The server and the folder of its programs.

    Attributes:
        path: A value of PATH with that folder at its front.
        python: The program that starts worker processes.
    """

    def __init__(self) -> None:
        self.path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self.python = sys.executable
        self._server: subprocess.Popen[bytes] | None = None
        if sys.platform != "linux":  # elsewhere, the system's own libraries do not support a fork
            return
        self._folder = Path(tempfile.mkdtemp(prefix="advbench-"))  # its path is short, as a socket's must be
        socket_path = str(self._folder / "socket")
        real = {"python": sys.executable, "advbench": shutil.which("advbench", path=self.path)}
        fixed = {name: os.environ.get(name, "") for name in FIXED}
        settings = json.dumps([real, fixed, THREADS, socket_path])
        (self._folder / "client.py").write_text(CLIENT.format(settings=settings))
        for program in real:
            client = self._folder / program
            client.write_text(f"#!/bin/sh\nexec '{sys.executable}' -IS '{self._folder}/client.py' {program} \"$@\"\n")
            client.chmod(0o755)
        words = [sys.executable, __file__, socket_path]
        variables = {**os.environ, **dict.fromkeys(THREADS, "1")}
        self._server = subprocess.Popen(words, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"
        self.path = os.pathsep.join((str(self._folder), self.path))
        self.python = str(self._folder / "python")

    def close(self) -> None:
        """Ends the server."""
        if self._server is not None:
            self._server.communicate()  # it ends with its stdin


def serve(path: str) -> list[Any]:
    """Forks for each request, and sends the exit code of the copy; returns the request, in each copy."""
    wakeup, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    clients: dict[int, socket.socket] = {}
    while True:
        ready = select.select([0, wakeup, listener, *clients.values()], [], [])[0]
        if 0 in ready:  # the tests have ended, or were killed
            shutil.rmtree(Path(path).parent)
            sys.exit()
        if wakeup in ready:
            os.read(wakeup, 4096)
            _send_exit_codes(clients)
        for child, client in clients.items():
            if client in ready:  # the client was killed
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        if listener in ready:
            client, _ = listener.accept()
            size, streams, _, _ = socket.recv_fds(client, 8, 100)
            with client.makefile("rb") as file:
                numbers, *request = json.loads(file.read(int.from_bytes(size, "big")))
            child = os.fork()
            if not child:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for opened in (listener, client, *clients.values()):
                    opened.close()
                for descriptor in (wakeup, wake):
                    os.close(descriptor)
                _place(streams, numbers)
                return request
            clients[child] = client
            for stream in streams:
                os.close(stream)


def _place(received: list[int], numbers: list[int]) -> None:
    """Gives descriptors the numbers that they have in the client."""
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 200) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _send_exit_codes(clients: dict[int, socket.socket]) -> None:
    """Sends the exit codes of the copies that have ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with clients.pop(ended[0]) as client, suppress(BrokenPipeError):
                client.sendall(str(os.waitstatus_to_exitcode(ended[1])).encode())


def run(words: list[str], folder: str, variables: dict[str, str]) -> None:
    """Runs a program as Python does: a script, or what follows ``-c`` or ``-m``."""
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    streams: Any = sys
    streams.stdin = streams.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    streams.stdout = streams.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    streams.stderr = streams.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = words
    if words[0] == "-m":
        sys.path[0] = folder
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), vars(main))
    else:
        sys.path[0] = str(Path(words[0]).resolve().parent)
        main.__file__ = words[0]
        exec(compile(Path(words[0]).read_bytes(), words[0], "exec"), vars(main))


def run_and_exit(*request: Any) -> NoReturn:
    """Runs a program and ends this process as Python does, but without the time that freeing all its objects takes."""
    try:
        run(*request)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            print(error.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    ending: Any = threading
    ending._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    for module in MODULES:
        __import__(module)
    multiprocessing.set_executable(str(Path(sys.argv[1]).with_name("python")))
    gc.freeze()  # a pass in a copy would copy the memory that it goes through
    run_and_exit(*serve(sys.argv[1]))
