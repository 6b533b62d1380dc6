"""Requests that come at once share a thread and a transaction."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Carries out what is asked in a thread of its own: what comes while that is busy waits, and goes together.

    `work` answers each of what was asked, in order, with a value or with the error to be raised; an error that it
    raises itself is everybody's. `most`: taken at once.
    """

    def __init__(self, work: Callable[[Sequence[Asked]], Sequence[Answer | Exception]], *, most: int) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[tuple[Asked, asyncio.Future[Answer]]] = deque()
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="together")

    async def ask(self, asked: Asked) -> Answer:
        """The answer to this one; to be called in one event loop only."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if not self._busy:
            self._begin()

        return await future

    def _begin(self) -> None:
        self._busy = True
        taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        asked = [each for each, _ in taken]
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._answers, asked)
        done.add_done_callback(partial(self._end, [future for _, future in taken]))

    def _answers(self, asked: Sequence[Asked]) -> list[Answer | Exception]:
        return [answer for _, answer in zip(asked, self._work(asked), strict=True)]

    def _end(
        self, futures: Sequence["asyncio.Future[Answer]"], done: "asyncio.Future[Sequence[Answer | Exception]]"
    ) -> None:
        self._busy = False
        if self._waiting:
            self._begin()
        error = done.exception()
        answers = done.result() if error is None else [error] * len(futures)
        for future, answer in zip(futures, answers, strict=True):
            if future.cancelled():  # the client has gone
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
