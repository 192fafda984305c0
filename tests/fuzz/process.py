"""The calls run in a process of their own, which may hang or crash: then it is BARE, and another process goes on."""

import multiprocessing
import resource
import traceback
import warnings
from collections.abc import Iterable, Iterator

from tests.fuzz.outcomes import Outcome

SECONDS = 90  # in which every call answers
MEMORY = 6 * 2**30  # bytes of addresses for the process: what asks for more gets a MemoryError


def run(seed: int, indices: Iterable[int]) -> Iterator[tuple[int, str, Outcome]]:
    """The index of each call, its arguments in words, and its outcome."""
    context, left = multiprocessing.get_context("spawn"), list(indices)
    while left:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_call, args=(theirs, seed, left), daemon=True)
        process.start()
        theirs.close()
        function = text = None
        try:
            while left:
                function, text, found = _next(ours)
                if found is not None:
                    yield left.pop(0), text, found
            process.join(SECONDS)
        except (EOFError, ConnectionError, TimeoutError) as error:
            if function is None:
                raise RuntimeError("the process died before its first call") from error
            how = f"no answer in {SECONDS} s" if isinstance(error, TimeoutError) else "the process died"
            yield left.pop(0), text or "", Outcome(function, "BARE", how)
        finally:
            process.kill()
            process.join()


def _next(pipe) -> tuple:
    if not pipe.poll(SECONDS):
        raise TimeoutError
    message = pipe.recv()
    if isinstance(message, str):
        raise RuntimeError(f"a fault of the fuzz itself:\n{message}")
    return message


def _call(pipe, seed: int, indices: list[int]) -> None:
    """Draw and judge one call after the other, telling each before it is made."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_traceback_filtering", "off")  # so that the last frame is the one that raised
    import tests.fuzz.calls  # noqa: F401 - its cases
    from tests.fuzz.cases import case
    from tests.fuzz.outcomes import outcome

    for index in indices:
        try:
            drawn = case(seed, index)
            pipe.send((drawn.function, drawn.text, None))
            if drawn.usual:
                drawn.call(**drawn.usual)  # for JAX may treat a shape that is not new in another way
            found = outcome(drawn)
        except Exception:
            pipe.send(f"--seed {seed} --only {index}\n{traceback.format_exc()}")
            raise
        pipe.send((drawn.function, drawn.text, found))
