"""Several processes: how they find each other, and how they stay one program.

Every process runs the same program on its own devices, and a mesh of all devices makes them one: a step is one
computation, which each has to reach. So whatever a process learns by itself (a signal, the answer of a callback, the
end of its stream, an error) is told to all before any of them acts on it. `Team` is where they do that.

A process that ends by itself leaves the others waiting in a computation that will not come. JAX ends these as soon as
its heartbeats are missed; one that beats and does not step is ended by the watchdog, with the stacks of its threads.
"""

import contextlib
import faulthandler
import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jaxnet._arguments import count

NAMES = {  # what a launcher of two shells sets
    "coordinator_address": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}
SECONDS = {  # what may take how long, and the variable of the environment that says otherwise
    "JAXNET_START_TIMEOUT": 300,  # until all processes have come
    "JAXNET_HEARTBEAT_TIMEOUT": 10,  # until one that is silent counts as dead
    "JAXNET_STEP_TIMEOUT": 1800,  # until a process that takes no step is ended; the first has the start's time more
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
POLL = 0.1  # seconds


class OtherProcessError(RuntimeError):
    """Another process of this training has failed; its own error says how."""


def start(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the processes of one program, before JAX is used; all devices of all are then in `parallel.mesh()`.

    What is not given is read from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; where none of these is
    set either, JAX asks the launcher: SLURM, Open MPI, Kubernetes, Cloud TPU. A process that dies ends the others
    within JAXNET_HEARTBEAT_TIMEOUT (10) seconds, one that takes no step in a fit within JAXNET_STEP_TIMEOUT (1,800);
    these, and JAXNET_START_TIMEOUT (300), are variables of the environment. Who can reach the coordinator's port can
    take part: give an address of a private network.

    Args:
        coordinator_address: "host:port" of process 0, the same in all. On a loopback address none but this machine can
            connect.
        num_processes: how many there are.
        process_id: which of them this one is, from 0.

    Raises:
        ValueError: only some of the three are set, one is out of range, or no launcher tells them.
        OSError: process 0 cannot listen at the address, such as a port that is taken.
        TimeoutError: not all processes have come in time; or the coordinator cannot be reached.
        RuntimeError: JAX has been used already, or started before.
    """
    given = dict(zip(NAMES, (coordinator_address, num_processes, process_id), strict=True))
    for name, variable in NAMES.items():
        if given[name] is None and variable in os.environ:
            given[name] = os.environ[variable]
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(NAMES):
        said = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        raise ValueError(
            f"{' and '.join(missing)} of this process {'is' if len(missing) == 1 else 'are'} not set, beside {said};"
            f" give all three, or set {', '.join(NAMES.values())}, or none where a launcher tells them"
        )
    if jax.distributed.is_initialized():
        raise RuntimeError(
            "parallel.start() was called before in this process; call it once, at the top of the program"
        )
    timeout, heartbeat, _ = map(seconds, SECONDS)
    if missing:
        arguments, where = {}, "its launcher's address"
    else:
        arguments, where = _checked(given), str(given["coordinator_address"])
        _meet(arguments, timeout)
    _initialize(arguments, timeout, heartbeat, where)


def seconds(variable: str) -> int:
    """What a variable of the environment allows, or the default; 0 of JAXNET_STEP_TIMEOUT is for ever."""
    value = os.environ.get(variable)
    if value is None:
        return SECONDS[variable]
    least = 0 if variable == "JAXNET_STEP_TIMEOUT" else 1
    if not value.isdecimal() or int(value) < least:
        raise ValueError(f"{variable} is {value!r}; expected a whole number of seconds, at least {least}")
    return int(value)


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as JAX takes them."""
    address = given["coordinator_address"]
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"coordinator_address is {address!r}; expected 'host:port' of process 0, as '10.0.0.1:1234'")
    numbers = {}
    for name, least in (("num_processes", 1), ("process_id", 0)):
        value = given[name]
        numbers[name] = count(name, int(value) if isinstance(value, str) and value.isdecimal() else value, least=least)
    if numbers["process_id"] >= numbers["num_processes"]:
        raise ValueError(
            f"process_id is {numbers['process_id']} of {numbers['num_processes']} processes; expected 0 to"
            f" {numbers['num_processes'] - 1}"
        )
    bind = {"coordinator_bind_address": address} if host in LOOPBACK else {}
    return {"coordinator_address": address, **numbers, **bind}


def _meet(arguments: dict[str, Any], timeout: int) -> None:
    """Refuse an address where process 0 cannot listen, or the others cannot reach it: JAX would end the program."""
    address = arguments["coordinator_address"]
    host, _, port = address.rpartition(":")
    place = (host.strip("[]"), int(port))
    if arguments["process_id"] == 0:
        bound = place[0] if host in LOOPBACK else ""
        try:
            with socket.socket(socket.AF_INET6 if ":" in bound else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((bound, place[1]))
        except OSError as error:
            raise OSError(
                error.errno, f"process 0 cannot listen at {address} ({error.strerror}); give a free port of its own"
            ) from error
        return
    end, reason = time.monotonic() + timeout, "no answer"
    while time.monotonic() < end:
        try:
            with socket.create_connection(place, timeout=max(POLL, end - time.monotonic())):
                return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(POLL)
    raise TimeoutError(
        f"process {arguments['process_id']} could not reach the coordinator at {address} within {timeout} s ({reason});"
        " start process 0, and give its address"
    )


def _initialize(arguments: dict[str, Any], timeout: int, heartbeat: int, where: str) -> None:
    """JAX's own start, in a thread: where a process is missing it would wait on, and then end the program."""
    met: list[Any] = []

    def begin() -> None:
        try:
            jax.config.update("jax_enable_preemption_service", False)  # which would take SIGTERM for itself
            jax.distributed.initialize(
                **arguments,
                initialization_timeout=timeout + 60,
                heartbeat_timeout_seconds=heartbeat,
            )
            met.append(None)
        except BaseException as error:
            met.append(error)

    beginning = threading.Thread(target=begin, daemon=True)
    beginning.start()
    beginning.join(timeout)
    if not met:
        of = f" of {arguments['num_processes']}" if arguments else ""
        raise TimeoutError(
            f"not all processes{of} have come to {where} within {timeout} s; start those that are missing, or give more"
            " time in JAXNET_START_TIMEOUT"
        )
    if isinstance(met[0], ValueError) and not arguments:
        raise ValueError(
            "coordinator_address, num_processes and process_id are not given, and no launcher that JAX knows tells"
            f" them; set {', '.join(NAMES.values())}"
        ) from met[0]
    if isinstance(met[0], RuntimeError) and "must be called before" in str(met[0]):
        raise RuntimeError(
            "JAX has been used in this process before parallel.start(): an array, a key or a device was asked for; call"
            " it first"
        ) from met[0]
    if met[0] is not None:
        raise met[0]


class Told:
    """Integers of this process, and, once all have told theirs, of_all: (processes, count)."""

    of_all: np.ndarray

    def __init__(self, numbers: tuple[int, ...]):
        """Begin with those of a process that fails."""
        self.numbers = numbers


class Team:
    """The processes that share a mesh. Where one process has all its devices, nothing is asked and nothing waits.

    number: of processes. index: which this one is; the first of them writes and shows what only one should.
    """

    def __init__(self, mesh: Mesh | None):
        """Look whose devices these are."""
        indices = {0} if mesh is None else {device.process_index for device in mesh.devices.flat}
        self.number = len(indices)
        self.index = jax.process_index() if self.number > 1 else 0
        self.is_first = self.index == 0
        self._known: BaseException | None = None
        self.held_back: list[tuple[int, Any]] = []  # signals that have come too late to be told

    def gathered(self, *numbers: int) -> np.ndarray:
        """Integers of each process, (number, count), to all of them."""
        own = np.asarray(numbers, np.int32)
        return own[None] if self.number == 1 else np.asarray(multihost_utils.process_allgather(own))

    def any(self, flag: Any) -> bool:
        """Whether it is so in any process."""
        return bool(self.gathered(bool(flag)).any())

    def of_first(self, flag: Any) -> bool:
        """What the first process says, such as what its clock tells."""
        return bool(self.gathered(bool(flag))[0, 0])

    def texts(self, text: str | None) -> list[str | None]:
        """A text, or None, of each process, to all of them."""
        if self.number == 1:
            return [text]
        own = b"" if text is None else text.encode()
        lengths = self.gathered(-1 if text is None else len(own))[:, 0]
        room = 1 << max(2, int(lengths.max() - 1).bit_length())  # few different ones, for each is a program
        words = np.frombuffer(own.ljust(room, b"\0"), np.int32)
        rows = (row.astype(np.int32).tobytes() for row in self.gathered(*words))
        return [None if n < 0 else row[:n].decode() for row, n in zip(rows, lengths, strict=True)]

    def union(self, numbers: set[int]) -> set[int]:
        """All numbers that any process has."""
        return set().union(*(json.loads(text or "[]") for text in self.texts(json.dumps(sorted(numbers)))))

    @contextlib.contextmanager
    def together(self, *numbers: int) -> Iterator["Told"]:
        """A part that fails in all processes where it fails in one: none waits for a process that will not come.

        It may tell integers, as many as are given here for one that fails; after it, all have those of all.

        Raises:
            OtherProcessError: it failed in others alone.
        """
        told, before = Told(numbers), self._known
        try:
            yield told
        except BaseException as error:
            if self._known is before or not self.know(error):  # what fails on the way out of another is news too
                self.raises_in_all(error)
                self.gathered(True, *numbers)
            raise
        everything = self.gathered(False, *told.numbers)
        told.of_all = everything[:, 1:]
        failed = np.flatnonzero(everything[:, 0]).tolist()
        if failed:
            raise self.raises_in_all(
                OtherProcessError(
                    f"process {', '.join(map(str, failed))} of {self.number} has failed, as its own error says, and"
                    f" process {self.index} stops with it"
                )
            )

    def raises_in_all(self, error: BaseException) -> BaseException:
        """Note that every process raises this, or its like, and return it."""
        if self.number > 1:
            self._known = error
        return error

    def know(self, error: BaseException | None) -> bool:
        """Whether all processes are on their way out by this error, or by one that it has led to."""
        if self.number == 1:
            return True
        while error is not None and error is not self._known:
            error = error.__cause__ or error.__context__
        return error is not None

    def same(self, settings: Mapping[str, str]) -> None:
        """Refuse settings that are not the same in all processes.

        Raises:
            ValueError: they differ; the message says which, and in which process.
        """
        if self.number == 1:
            return
        digests = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1 for text in settings.values()]
        for name, digest in zip(settings, self.gathered(*digests).T, strict=True):
            if others := np.flatnonzero(digest != digest[0]).tolist():
                raise self.raises_in_all(
                    ValueError(
                        f"{name} of process {', '.join(map(str, others))} is not that of process 0; here, in process"
                        f" {self.index}, it is {settings[name][:200]}; give all processes the same"
                    )
                )

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], None]]:
        """End this process if what this yields has not been called for JAXNET_STEP_TIMEOUT seconds, with its stacks.

        The first call, before which data are read and the step is compiled, may take JAXNET_START_TIMEOUT longer.
        """
        limit = seconds("JAXNET_STEP_TIMEOUT") if self.number > 1 else 0
        if not limit:
            yield lambda: None
            return
        end, ended = [time.monotonic() + seconds("JAXNET_START_TIMEOUT") + limit], threading.Event()

        def watch() -> None:
            while not ended.wait(min(limit, max(POLL, end[0] - time.monotonic()))):
                if time.monotonic() >= end[0]:
                    try:
                        sys.stderr.write(
                            f"jaxnet: process {self.index} of {self.number} has taken no step for {limit} s, and is"
                            " ended; what its threads do stands below. Another process may be the one that is stuck;"
                            " more time gives JAXNET_STEP_TIMEOUT. Training goes on from the last checkpoint\n"
                        )
                        faulthandler.dump_traceback(sys.__stderr__ or 2)
                    finally:
                        os._exit(1)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield lambda: end.__setitem__(0, time.monotonic() + limit)
        finally:
            ended.set()
            watcher.join()


ALONE = Team(None)
