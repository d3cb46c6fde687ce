"""Spans of runs, stages and batches: opening, closing, and driving generators inside them.

A `Block` is one such construct while it runs. It is current in the OpenTelemetry context, together
with its span, for the code inside it and for nobody else: a generator's body runs in a context of
its own, so its span is never current in the consumer.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import traceback
import types
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    NoOpTracer,
    ProxyTracer,
    SpanKind,
    Status,
    StatusCode,
)

from otel_pipeline import clock, lifecycle, semconv
from otel_pipeline.context import UNTRACED, current_scope, scope_in, with_scope_and_span
from otel_pipeline.diagnostics import warn_once
from otel_pipeline.semconv import Attr
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Coroutine,
        Generator,
        Iterable,
        Mapping,
    )

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer

    from otel_pipeline.context import Scope
    from otel_pipeline.pipeline import Pipeline, Run, Stage

__all__ = ["Block", "Opener", "attribute_value", "log_event", "outcome"]

SCOPE_NAME = "otel_pipeline"
_MOST_TEXT = 65_536
_CANCELLATIONS = {
    ("asyncio", "CancelledError"),
    ("concurrent", "CancelledError"),
    ("trio", "Cancelled"),
}
_tracer = trace.get_tracer(SCOPE_NAME, __version__)

BlockT = TypeVar("BlockT", bound="Block")
FunctionT = TypeVar("FunctionT", bound="Callable[..., Any]")


def outcome(exception: BaseException | None) -> str:
    """Return how code ended that was left with `exception`: success, error or cancelled.

    Cancellation, a closed generator, Ctrl-C and `sys.exit(0)` are no errors.
    """
    if exception is None:
        return semconv.Status.SUCCESS
    if isinstance(exception, SystemExit):
        return semconv.Status.ERROR if exception.code else semconv.Status.CANCELLED
    if isinstance(exception, (GeneratorExit, KeyboardInterrupt)) or _is_cancellation(exception):
        return semconv.Status.CANCELLED
    return semconv.Status.ERROR


def _is_cancellation(exception: BaseException) -> bool:
    """Tell whether a framework cancelled the code, without importing any."""
    return any(
        (kind.__module__.partition(".")[0], kind.__name__) in _CANCELLATIONS
        for kind in type(exception).__mro__
    )


def _real_tracer() -> Tracer:
    """Return the tracer that the API's stand-in, and our switch, stand for."""
    tracer: Tracer = _tracer
    if type(tracer) is ProxyTracer:
        tracer = getattr(tracer, "_tracer", tracer)
        if type(tracer) is NoOpTracer:
            return tracer
    return getattr(tracer, "switched_to", tracer)


def text_of(value: object) -> str:
    """Return `str(value)`, cut at 64 Ki characters; a broken `__str__` gives a mark instead."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  any user class may fail here
        return f"<unprintable {type(value).__name__}>"
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…[truncated]"


def attribute_value(value: object) -> Any:
    """Return `value` in a form that a span attribute can hold, marking what it cannot."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        if value and all(type(item) is type(value[0]) for item in value):
            return [attribute_value(item) for item in value]
        return [text_of(item) for item in value]
    return text_of(value)


def log_event(level: str, event: str, **fields: object) -> None:
    """Log one of the library's own events, where logging is set up; never raises."""
    import structlog  # noqa: PLC0415  keeps the import of the library light

    if not structlog.is_configured():
        return
    from otel_pipeline.logs import get_logger  # noqa: PLC0415

    try:
        getattr(get_logger(SCOPE_NAME), level)(event, **fields)
    except Exception as error:  # noqa: BLE001  an application's own processors may fail
        warn_once(f"log:{event}", "logging %s failed: %s", event, text_of(error))


def _fingerprint(exception: BaseException) -> tuple[int, int, int]:
    """Identify an exception on its way up, without keeping it or its frames alive."""
    origin = exception.__traceback__
    while origin is not None and origin.tb_next is not None:
        origin = origin.tb_next
    return (id(exception), id(origin), origin.tb_lasti if origin is not None else 0)


class Block:
    """A run, a stage or a batch in progress."""

    __slots__ = (
        "_inner",
        "_outer",
        "_raised",
        "_run_id",
        "_stage",
        "_started",
        "ended",
        "parent",
        "pipeline",
        "run",
        "span",
        "status",
    )

    #: Whether the span starts with the status that it will have unless something happens.
    _says_success = False
    #: What a stage was asked to look at, in one that was.
    _observing: Any = None

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.parent: Block | None = None
        self.run: Run | None = None
        self._run_id: str | None = None  # of a run in another process
        self._stage: Stage | None = None
        self.span: Span = INVALID_SPAN
        self.status: str | None = None
        self.ended = False
        self._raised: tuple[int, int, int] | None = None
        self._inner: Context | None = None  # of the code inside, where that is not `_outer`

    # What the scope tells those inside it.

    @property
    def stage(self) -> Stage | None:
        """The innermost stage, or None outside one."""
        return self._stage

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline."""
        return self.pipeline.name

    @property
    def stage_name(self) -> str | None:
        """Name of the innermost stage, or None outside one."""
        return self.stage.name if self.stage is not None else None

    @property
    def run_id(self) -> str | None:
        """Id of the run, or None outside one."""
        return self.run.id if self.run is not None else self._run_id

    @property
    def trace_id(self) -> str:
        """Trace id as 32 hex digits; zeros where nothing is traced."""
        return trace.format_trace_id(self.span.get_span_context().trace_id)

    def set_attribute(self, key: str, value: object) -> None:
        """Set an attribute of the span.

        Args:
            key: Its name, such as `orders.file`.
            value: A string, number, bool or a list of one of them; anything else is turned to text.
        """
        try:
            self.span.set_attribute(key, _redacted(key, attribute_value(value)))
        except Exception as error:  # noqa: BLE001  telemetry never reaches user code
            warn_once("set_attribute", "setting a span attribute failed: %s", text_of(error))

    # What each kind of block defines.

    def yielded_cell(self) -> list[float]:
        """Return the cell in which a generator inside the block counts its records."""
        return [0]

    def count_records(self, number: int) -> None:
        """Count `number` records as a success of the block."""

    def _span_name(self) -> str:
        raise NotImplementedError

    def _attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {Attr.PIPELINE_NAME: self.pipeline.name}
        if (run_id := self.run_id) is not None:
            attributes[Attr.RUN_ID] = run_id
        if self.stage is not None:
            attributes[Attr.STAGE] = self.stage.name
        return attributes

    def _opened(self) -> None:
        """Prepare what the block counts into."""

    def _finish(self, exception: BaseException | None, seconds: float, *, first: bool) -> None:
        """Count, log and set attributes; `first` tells that no inner block saw the exception."""

    # Opening and closing.

    def _join(self, scope: Scope) -> None:
        """Take over pipeline context from the block around."""
        around = _innermost_open(scope)
        if isinstance(around, Block):
            self.parent = around
            self.run = around.run
            self._run_id = around._run_id  # noqa: SLF001  the same class
            if around.pipeline.name == self.pipeline.name:
                self._stage = around.stage
        elif around is not None:
            self._run_id = around.run_id

    def open(
        self,
        links: Iterable[Link] = (),
        attributes: Mapping[str, object] | None = None,
        parent: Context | None = None,
    ) -> None:
        """Start the span and make the block current.

        Args:
            links: Links of the span.
            attributes: More attributes of the span.
            parent: The context to be a child of, instead of the current one.
        """
        self._outer = outer = otel_context.get_current()
        if (scope := current_scope(outer)) is not None:
            self._join(scope)
        try:
            self._opened()
            tracer = _real_tracer()
            if (
                type(tracer) is not NoOpTracer
                or outer
                or parent is not None
                or ((hooks := lifecycle.hooks()) is not None and hooks.parent is not None)
            ):
                self.span = self._start_span(tracer, outer, links, attributes, parent)
        except Exception as error:  # noqa: BLE001  a foreign tracer or sampler may fail
            warn_once("start_span", "starting a span failed: %s", text_of(error))
        lifecycle.opened(self)
        self._started = clock.current.perf_counter()
        if outer or self.span is not INVALID_SPAN:
            self._inner = self._inside(outer)
            otel_context.attach(self._inner)
        else:
            UNTRACED.set(self)

    def _start_span(
        self,
        tracer: Tracer,
        outer: Context,
        links: Iterable[Link],
        attributes: Mapping[str, object] | None,
        parent: Context | None,
    ) -> Span:
        above, more_links = self._place(outer, parent)
        if type(tracer) is NoOpTracer:  # nobody would see what is prepared below
            return tracer.start_span("", above)
        every = self._attributes()
        if attributes:
            for key, value in attributes.items():
                every[key] = _redacted(key, attribute_value(value))
        # By position, which is faster through switches. The exception is ours to set.
        return tracer.start_span(
            self._span_name(),
            above,
            SpanKind.INTERNAL,
            every,
            [*links, *more_links],
            clock.current.time_ns(),
            False,  # noqa: FBT003
            False,  # noqa: FBT003
        )

    def _inside(self, outer: Context) -> Context:
        """Return the context of the code inside the block."""
        return with_scope_and_span(self, self.span, outer)

    def _place(self, outer: Context, parent: Context | None) -> tuple[Context, list[Link]]:
        """Return the context whose span is the parent, and links that come with it."""
        if parent is not None:
            return parent, []
        run = self.run
        if run is not None and run.is_stream and self.parent is run:
            link = run.link()
            links = [link] if link else []
            # A sender's span that was attached inside the run is the parent all the same.
            if trace.get_current_span(outer) is not trace.get_current_span(run._outer):  # noqa: SLF001
                return outer, links
            return trace.set_span_in_context(INVALID_SPAN, outer), links
        hooks = lifecycle.hooks()
        if (
            hooks is not None
            and hooks.parent is not None
            and not trace.get_current_span(outer).get_span_context().is_valid
        ):
            return hooks.parent, []
        return outer, []

    def close(self, exception: BaseException | None = None, seconds: float | None = None) -> None:
        """End the span, count, log, and make the block around current again.

        Args:
            exception: What the code was left with.
            seconds: Time spent inside, if that is not the wall time.

        Raises:
            DataQualityError: What the stage saw must not go on to the next one.
        """
        judged: BaseException | None = None
        if lifecycle.closed(self):
            if self._observing is not None:
                judged = self._judge(exception)
            self._end(exception or judged, seconds)
        if self._inner is not None:
            self._leave(self._inner)
        elif UNTRACED.get() is self:
            UNTRACED.set(self.parent and _innermost_open(self.parent))
        if judged is not None:
            raise judged

    def _judge(self, exception: BaseException | None) -> BaseException | None:  # noqa: ARG002
        """Judge the data that were observed; return what is to be raised, which has a traceback."""
        return None

    def place_of_run(self) -> Context | None:
        """Return the context of the code inside, if this is a run."""
        return None

    def end_early(self) -> None:
        """End the block from outside, as the program is about to end."""
        if lifecycle.closed(self):
            self._end(GeneratorExit())

    def _end(self, exception: BaseException | None, seconds: float | None = None) -> None:
        if seconds is None:
            seconds = clock.current.perf_counter() - self._started
        self.ended = True
        self.status = semconv.Status.SUCCESS
        first = True
        try:
            if exception is not None:
                self.status = outcome(exception)
                fingerprint = _fingerprint(exception)
                first = self._raised != fingerprint
                if self.parent is not None:
                    self.parent._raised = fingerprint  # noqa: SLF001  same class
            self._finish(exception, seconds, first=first)
            if type(self.span) is NonRecordingSpan:  # nobody would see what is prepared below
                return
            if self.status == semconv.Status.ERROR and exception is not None:
                self._set_error(exception, first=first)
            if not self._says_success or self.status != semconv.Status.SUCCESS:
                self.span.set_attribute(Attr.STATUS, self.status)
        except Exception as error:  # noqa: BLE001  telemetry never reaches user code
            warn_once("end_span", "ending %r failed: %s", self._span_name(), text_of(error))
        try:
            self.span.end(clock.current.time_ns())
        except Exception as error:  # noqa: BLE001  a foreign span processor may fail
            warn_once("span.end", "ending a span failed: %s", text_of(error))

    def _set_error(self, exception: BaseException, *, first: bool) -> None:
        kind = type(exception)
        message = _redacted("exception.message", text_of(exception))
        self.span.set_status(Status(StatusCode.ERROR, f"{kind.__name__}: {message}"))
        if first:
            stack = "".join(traceback.format_exception(exception))
            module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
            self.span.add_event(
                "exception",
                {
                    "exception.type": f"{module}{kind.__qualname__}",
                    "exception.message": message,
                    "exception.stacktrace": _redacted("exception.stacktrace", stack[-_MOST_TEXT:]),
                },
                clock.time_ns(),
            )

    def _leave(self, inner: Context) -> None:
        """Make the innermost open block around this one current, if this one is.

        Without tokens: a block that is left in another task or after an interleaved one must
        neither fail nor bring an ended span back.
        """
        self._inner = None  # a cycle would keep both until the next collection
        if otel_context.get_current() is not inner and current_scope() is not self:
            return
        outer = self._outer
        # Seldom: the block around has ended before this one.
        while isinstance(scope := scope_in(outer), Block) and scope.ended:
            outer = scope._outer  # noqa: SLF001  same class
        otel_context.attach(outer)


def _innermost_open(scope: Scope | None) -> Scope | None:
    """Return `scope`, or the innermost one around it that has not ended."""
    while isinstance(scope, Block) and scope.ended:
        scope = scope.parent
    return scope


def _redacted(key: str, value: Any) -> Any:
    """Mask secrets where the exporter is not ours to do it."""
    hooks = lifecycle.hooks()
    if hooks is None or hooks.redact is None:
        return value
    return hooks.redact(key, value)


class Opener(Generic[BlockT]):
    """Opens a block: a context manager (`with`, `async with`) and a decorator in one."""

    __slots__ = ("_count", "_entered")

    def __init__(self, count: Callable[[Any], int] | None = None) -> None:
        self._count = count
        self._entered: list[BlockT] = []

    def _make(self, function: Callable[..., Any] | None) -> BlockT:
        """Open a block: for a call of `function`, or for a `with` block where that is None."""
        raise NotImplementedError

    def __enter__(self) -> BlockT:
        block = self._make(None)
        self._entered.append(block)
        return block

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        stack: types.TracebackType | None,
    ) -> None:
        # One opener may be entered several times at once: the current block says which this is.
        entered = self._entered
        block: Any = entered[0]
        if len(entered) > 1:
            block = current_scope()
            if block not in entered:
                block = entered[-1]
        entered.remove(block)
        block.close(exception)

    async def __aenter__(self) -> BlockT:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        stack: types.TracebackType | None,
    ) -> None:
        self.__exit__(kind, exception, stack)

    def __call__(self, function: FunctionT) -> FunctionT:
        """Wrap each call of `function` (sync, async, generator, async generator) in a block."""
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        wrapper: Callable[..., Any]
        if inspect.isasyncgenfunction(function):
            wrapper = _drive_async(self._make, function, self._count)
        elif inspect.isgeneratorfunction(function):
            wrapper = _drive(self._make, function, self._count)
        elif inspect.iscoroutinefunction(function):
            wrapper = self._wrap_coroutine(function)
        else:
            wrapper = self._wrap_function(function)
        return cast("FunctionT", functools.wraps(function)(wrapper))

    def _wrap_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            block = self._make(function)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                block.close(error)
                raise
            self._count_result(block, result)
            block.close()
            return result

        return call

    def _wrap_coroutine(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            block = self._make(function)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                block.close(error)
                raise
            self._count_result(block, result)
            block.close()
            return result

        return call

    def _count_result(self, block: BlockT, result: object) -> None:
        if self._count is not None:
            block.count_records(_safe_count(self._count, result))


def _safe_count(count: Callable[[Any], int], value: object) -> int:
    """Return how many records `value` is; a `count` that fails counts none, and is said once."""
    try:
        number = int(count(value))
    except Exception as error:  # noqa: BLE001  user code that only serves telemetry
        warn_once(
            f"count:{getattr(count, '__qualname__', count)}",
            "count=%s failed on a %s: %s; no records are counted for it",
            getattr(count, "__qualname__", count),
            type(value).__name__,
            text_of(error),
        )
        return 0
    return max(number, 0)


class _StepWatch:
    """Measures the time spent inside a generator's steps.

    A cycle is a wait for the consumer and the step after it. To time one takes half a microsecond,
    as long as many short ones. So after the first few, as many are timed as make one in 20
    microseconds so far: all of those that are slow, a sample of those that are not. The stretches
    between are shared out as the timed cycle behind them, and what makes one longer than usual, as
    all timed cycles so far.
    """

    __slots__ = (
        "_allowed_at",
        "_between",
        "_cycle",
        "_in_step",
        "_inside",
        "_now",
        "_since",
        "_step",
        "_stretch",
        "_timed",
        "_untimed",
        "_usual",
    )

    _FIRST = 64
    _EVERY = 20e-6
    _MOST_UNTIMED = 1000

    def __init__(self) -> None:
        self._now = clock.stopwatch()
        self._inside = self._timed = 0.0  # of all timed cycles: their steps, and the whole
        self._between = 0.0  # what the stretches between them add to the steps
        self._step = self._cycle = self._usual = 0.0  # of the last timed one, and the one before
        self._stretch = 0.0
        self._untimed = 0
        self._in_step = True
        self._since = self._now()
        self._allowed_at = self._since - self._FIRST * self._EVERY

    def untimed(self) -> int:
        """Return how many cycles there are before the next one that is timed."""
        early = self._allowed_at - self._since
        if early <= 0:
            self._untimed = 0
        elif early < self._cycle * self._MOST_UNTIMED:
            self._untimed = int(early / self._cycle)
        else:
            self._untimed = self._MOST_UNTIMED
        return self._untimed

    def wait(self) -> None:
        """A timed cycle begins: the consumer has its item."""
        now = self._now()
        self._stretch, self._since = now - self._since, now

    def step(self) -> None:
        """The consumer of a timed cycle asks for the next item."""
        now = self._now()
        self._usual, self._cycle = self._cycle, now - self._since
        self._since = now
        self._in_step = True

    def ready(self) -> None:
        """The step of a timed cycle is over, or the first of all."""
        now = self._now()
        self._step, self._since = now - self._since, now
        self._in_step = False
        self._allowed_at += self._EVERY
        self._cycle += self._step
        self._timed += self._cycle
        self._inside += self._step
        if self._untimed:
            self._between += self._shared_out(self._stretch)

    def _shared_out(self, stretch: float) -> float:
        usual = min(stretch, self._untimed * min(self._usual, self._cycle))
        here = self._step / self._cycle if self._cycle > 0 else 1.0
        overall = self._inside / self._timed if self._timed > 0 else 1.0
        return usual * here + (stretch - usual) * overall

    def end(self) -> float:
        """Return the time inside, now that the last step is over."""
        last = self._now() - self._since
        if not self._in_step:
            last = self._shared_out(last)
        return self._inside + self._between + last


def _drive(  # noqa: C901  only a generator itself can yield: its parts are no functions
    make: Callable[[Callable[..., Any] | None], Block],
    function: Callable[..., Generator[Any, Any, Any]],
    count: Callable[[Any], int] | None,
) -> Callable[..., Generator[Any, Any, Any]]:
    """Run a generator's steps inside a block that opens at the first and closes at the last.

    The steps run in a context of their own, taken from the consumer at the first step. The block's
    time is the time spent inside the steps.
    """

    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:  # noqa: C901  as above
        run = contextvars.copy_context().run
        block = run(make, function)
        cell = block.yielded_cell()
        turn: list[Any] = cell if count is None else [0]  # the loop itself counts the records
        watch = _StepWatch()
        try:
            generator = run(function, *args, **kwargs)
            step = generator.__next__
            item = run(step)
            watch.ready()
            while True:
                for turn[0] in range(turn[0] + 1, turn[0] + 1 + watch.untimed()):  # noqa: B020
                    if count is not None:
                        cell[0] += _safe_count(count, item)
                    try:
                        sent = yield item
                    except BaseException as error:  # noqa: BLE001  what the consumer throws is the generator's
                        item = run(_throw, generator, error)
                    else:
                        item = run(step) if sent is None else run(generator.send, sent)
                # The same once more, timed; to ask in each turn would be dear.
                watch.wait()
                turn[0] += 1
                if count is not None:
                    cell[0] += _safe_count(count, item)
                try:
                    sent = yield item
                except BaseException as error:  # noqa: BLE001  as above
                    watch.step()
                    item = run(_throw, generator, error)
                else:
                    watch.step()
                    item = run(step) if sent is None else run(generator.send, sent)
                watch.ready()
        except StopIteration as stop:
            _close_last(run, block, watch.end())
            return stop.value
        except BaseException as error:
            run(block.close, error, watch.end())
            _mark_consumer(error)
            raise

    return call


def _throw(generator: Generator[Any, Any, Any], error: BaseException) -> Any:
    """Raise in a generator what its consumer threw, or close it."""
    if isinstance(error, GeneratorExit):
        generator.close()
        raise error
    return generator.throw(error)


def _drive_async(  # noqa: C901  as `_drive`
    make: Callable[[Callable[..., Any] | None], Block],
    function: Callable[..., AsyncGenerator[Any, Any]],
    count: Callable[[Any], int] | None,
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Do for an async generator what `_drive` does; time spent waiting inside a step counts."""

    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:  # noqa: C901
        run = contextvars.copy_context().run
        block = run(make, function)
        cell = block.yielded_cell()
        watch = _StepWatch()
        try:
            generator = run(function, *args, **kwargs)
            item = await _await_in(run, generator.__anext__())
            watch.ready()
            while True:
                for untimed in range(watch.untimed(), -1, -1):
                    if not untimed:
                        watch.wait()
                    cell[0] += 1 if count is None else _safe_count(count, item)
                    try:
                        sent = yield item
                    except GeneratorExit:
                        if not untimed:
                            watch.step()
                        await _await_in(run, generator.aclose())
                        raise
                    except BaseException as error:  # noqa: BLE001  what the consumer throws is the generator's
                        if not untimed:
                            watch.step()
                        awaited = generator.athrow(error)
                    else:
                        if not untimed:
                            watch.step()
                        awaited = generator.asend(sent)
                    item = await _await_in(run, awaited)
                    if not untimed:
                        watch.ready()
        except StopAsyncIteration:
            _close_last(run, block, watch.end())
        except BaseException as error:
            run(block.close, error, watch.end())
            _mark_consumer(error)
            raise

    return call


def _close_last(run: Callable[..., Any], block: Block, seconds: float) -> None:
    """Close the block of a generator that came to its end."""
    try:
        run(block.close, None, seconds)
    except BaseException as error:
        _mark_consumer(error)
        raise


@types.coroutine
def _await_in(
    run: Callable[..., Any], awaitable: Awaitable[Any] | Coroutine[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Await inside a context, given its `run`: each resumption of the awaitable runs there."""
    steps = awaitable.__await__()
    resume: Callable[..., Any] = steps.__next__
    given: tuple[Any, ...] = ()
    while True:
        try:
            waiting_for = run(resume, *given)
        except StopIteration as stop:
            return stop.value
        try:
            sent = yield waiting_for
        except BaseException as error:  # noqa: BLE001  cancellation goes to whatever is awaited
            resume, given = steps.throw, (error,)
        else:
            resume, given = steps.send, (sent,)


def _mark_consumer(exception: BaseException) -> None:
    """Tell the block that consumes a generator that the exception has been reported."""
    consumer = current_scope()
    if isinstance(consumer, Block):
        consumer._raised = _fingerprint(exception)  # noqa: SLF001  same module
