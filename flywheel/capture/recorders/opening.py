"""The ways to record a trajectory: a block, a block of asyncio, or a function whose every call is one."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from flywheel.capture.recorders.recording import CURRENT, Recording
from flywheel.schema import EndState, FlywheelError

if TYPE_CHECKING:
    from contextvars import Token

    from flywheel.capture.recorders.recorder import Recorder

Function = TypeVar("Function", bound=Callable[..., Any])


class Opening:
    """A trajectory to record: enter it by `with` or `async with`, or put it before a function (`@`).

    Completed when the block or call ends; failed when it raises, and the exception goes on; partial when its task is
    cancelled, or nobody asks a generator on. Within it `capture.current()` gives the recording.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        task_id: str | Callable[..., str],
        task_group: str,
        task_type: str,
        id: str | None,
        metadata: Mapping[str, Any],
    ) -> None:
        self._recorder, self._task = recorder, task_id
        self._group, self._type, self._id, self._metadata = task_group, task_type, id, metadata
        self._recording: Recording | None = None
        self._token: Token[Recording | None] | None = None
        self._around = True

    def __enter__(self) -> Recording:
        recording = self._begun()
        try:
            recording.begin()
        except BaseException:
            self._recorder.leave(recording)
            raise
        return self._entered(recording)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        recording = self._left()
        try:
            if recording.here and not recording.ended:
                recording.end(*ending(error))
        finally:
            self._recorder.leave(recording)

    async def __aenter__(self) -> Recording:
        recording = self._begun()
        try:
            await recording.abegin()
        except BaseException:
            self._recorder.leave(recording)
            raise
        return self._entered(recording)

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        recording = self._left()
        try:
            if recording.here and not recording.ended:
                await recording.aend(*ending(error))
        finally:
            self._recorder.leave(recording)

    def __call__(self, function: Function) -> Function:
        """The function, each call of which is a trajectory: plain, `async`, or a generator of either kind.

        `task_id` may be a function of the call's arguments. A call within a recorded one is a trajectory of its own;
        its metadata name the other as `parent`.
        """
        if self._id is not None:
            raise FlywheelError("a function is called more than once: leave the id out, and each call has its own")
        if inspect.isasyncgenfunction(function):
            wrapped = self._async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapped = self._generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapped = self._coroutine(function)
        else:
            wrapped = self._plain(function)
        return functools.wraps(function)(wrapped)  # pyright: ignore[reportReturnType]  # it is called alike

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._call(function, args, kwargs):
                return function(*args, **kwargs)

        return wrapped

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            async with self._call(function, args, kwargs):
                return await function(*args, **kwargs)

        return wrapped

    def _generator(self, function: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self._call(function, args, kwargs)._apart() as recording:
                inner = function(*args, **kwargs)
                resume = functools.partial(inner.send, None)
                while True:
                    try:
                        with _within(recording):
                            item = resume()
                    except StopIteration as stop:
                        return stop.value
                    try:
                        resume = functools.partial(inner.send, (yield item))
                    except GeneratorExit:
                        with _within(recording):
                            inner.close()
                        raise
                    except BaseException as error:
                        resume = functools.partial(inner.throw, error)

        return wrapped

    def _async_generator(self, function: Callable[..., AsyncGenerator[Any, Any]]) -> Callable[..., Any]:
        async def wrapped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            async with self._call(function, args, kwargs)._apart() as recording:
                inner = function(*args, **kwargs)
                resume = functools.partial(inner.asend, None)
                while True:
                    try:
                        with _within(recording):
                            item = await resume()
                    except StopAsyncIteration:
                        return
                    try:
                        resume = functools.partial(inner.asend, (yield item))
                    except GeneratorExit:
                        with _within(recording):
                            await inner.aclose()
                        raise
                    except BaseException as error:
                        resume = functools.partial(inner.athrow, error)

        return wrapped

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opening:
        outer = CURRENT.get()
        return Opening(
            self._recorder,
            task_id=self._task(*args, **kwargs) if callable(self._task) else self._task,
            task_group=self._group,
            task_type=self._type,
            id=None,
            metadata={"function": function.__qualname__, **({"parent": outer.id} if outer else {}), **self._metadata},
        )

    def _apart(self) -> Opening:
        """As it is, but that what runs between a generator's turns, in the same context, is not within it."""
        self._around = False
        return self

    def _begun(self) -> Recording:
        if self._recording is not None:
            raise FlywheelError("this trajectory was begun before; ask the recorder for another one")
        if callable(self._task):
            raise FlywheelError("task_id is a function of a call's arguments: use it before a function, or give a text")
        self._recording = self._recorder.begun(self._task, self._group, self._type, self._id, self._metadata)
        return self._recording

    def _entered(self, recording: Recording) -> Recording:
        if self._around:
            self._token = CURRENT.set(recording)
        return recording

    def _left(self) -> Recording:
        assert self._recording is not None
        if self._token is not None:
            # Fixtures and frameworks may leave it in another context than they entered it: there it ends by itself.
            with suppress(ValueError):
                CURRENT.reset(self._token)
        return self._recording


@contextmanager
def _within(recording: Recording) -> Iterator[None]:
    token = CURRENT.set(recording)
    try:
        yield
    finally:
        CURRENT.reset(token)


def ending(error: BaseException | None) -> tuple[EndState, str]:
    """How a trajectory ends whose block ended so."""
    if error is None:
        return "completed", ""
    broken_off = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return "partial" if broken_off else "failed", f"{type(error).__name__}: {error}"
