"""An event loop without sockets whose time jumps to the next timer, and the seams of chance."""

import asyncio
import contextvars
import os
import random
import secrets
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

ENDLESS = 200_000


class Owner(Protocol):
    """Whoever loses its tasks when it dies."""

    tasks: dict["asyncio.Task[Any]", None]


#: The simulated process in which code runs; tasks inherit it from the task that made them.
OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("owner", default=None)


class Stuck(Exception):
    """Nothing is scheduled any more, or time stands still although code runs."""


class _Jump:
    """In the place of a selector: waiting is moving the clock."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop
        self._still = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing is scheduled")
        if timeout > 0:
            self._still = 0
            self._loop.jump()
        else:
            self._still += 1
            if self._still > ENDLESS:
                raise Stuck(f"time stands still at {self._loop.time():.3f} s")
        return []

    def close(self) -> None:
        """Nothing was opened."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what is ready, then jumps. One thread, no files, no sockets: the same code runs the same way each time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = _Jump(self)
        self._clock_resolution = 1e-9
        self.set_task_factory(_owned)  # type: ignore[arg-type]

    def time(self) -> float:
        return self._now

    def jump(self) -> None:
        """To the next timer."""
        self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]

    def _process_events(self, _events: list[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        return


def _owned(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: contextvars.Context | None = None
) -> "asyncio.Task[Any]":
    task = asyncio.Task(coro, loop=loop, context=context)
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None))

    return task


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> None:
    """Run `main` to its end; what is still scheduled then is dropped."""
    loop = VirtualLoop()
    try:
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.run_until_complete(main(loop))
    finally:
        _drop(loop)
        loop.close()


def _drop(loop: VirtualLoop) -> None:
    left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


@contextmanager
def seeded(chance: random.Random) -> Iterator[None]:
    """Every source of random bytes that the product uses, in one place."""
    kept = os.urandom, secrets.token_bytes, uuid.uuid4

    def some(count: int | None = None) -> bytes:
        return chance.randbytes(32 if count is None else count)

    os.urandom = some
    secrets.token_bytes = some  # type: ignore[assignment]
    uuid.uuid4 = lambda: uuid.UUID(bytes=chance.randbytes(16), version=4)
    try:
        yield
    finally:
        os.urandom, secrets.token_bytes, uuid.uuid4 = kept
