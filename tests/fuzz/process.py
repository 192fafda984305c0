"""The calls run in a process of their own, which may hang or crash: then it is BARE, and another process goes on."""

import multiprocessing
import resource
import traceback
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module

from tests.fuzz.outcomes import Outcome

SECONDS = 90  # in which every call answers
MEMORY = 6 * 2**30  # bytes of addresses for the process: what asks for more gets a MemoryError


def run(
    seed: int, indices: Iterable[int], cases: str = "tests.fuzz.calls", seconds: float = SECONDS
) -> Iterator[tuple[int, str, Outcome]]:
    """The index of each call, its arguments in words, and its outcome; the module `cases` enters its cases."""
    context, left = multiprocessing.get_context("spawn"), list(indices)
    while left:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_call, args=(theirs, seed, left, cases), daemon=True)
        process.start()
        theirs.close()
        function = text = ""
        try:
            _next(ours, SECONDS)  # it has imported everything
            while left:
                function, text, found = _next(ours, seconds)
                if found is not None:
                    yield left.pop(0), text, found
            process.join(SECONDS)
        except (EOFError, ConnectionError, TimeoutError) as error:
            if not function:
                raise RuntimeError("the process ended before its first call") from error
            how = f"no answer in {seconds} s" if isinstance(error, TimeoutError) else "the process died"
            yield left.pop(0), text, Outcome(function, "BARE", how)
        finally:
            process.kill()
            process.join()


def _next(pipe, seconds: float) -> tuple[str, str, Outcome | None]:
    """What is about to be called, or what came of it."""
    if not pipe.poll(seconds):
        raise TimeoutError
    message = pipe.recv()
    if isinstance(message, str):
        raise RuntimeError(f"a fault of the fuzz itself:\n{message}")
    return message


def _call(pipe, seed: int, indices: list[int], cases: str) -> None:
    """Draw and judge one call after the other, as users run them: no strict promotion, no checks of signatures."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_traceback_filtering", "off")  # so that the last frame is the one that raised
    import_module(cases)
    from tests.fuzz.cases import case
    from tests.fuzz.outcomes import outcome

    pipe.send(("", "", None))
    for index in indices:
        try:
            drawn = case(seed, index)
            pipe.send((drawn.function, drawn.text, None))
            if drawn.usual:
                drawn.call(**drawn.usual)  # JAX may treat a shape that is not new in another way: make it so always
            found = outcome(drawn)
        except Exception:
            pipe.send(f"--seed {seed} --only {index}\n{traceback.format_exc()}")
            raise
        pipe.send((drawn.function, drawn.text, found))
