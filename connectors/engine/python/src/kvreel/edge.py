"""The edge to an engine, where a fault of ours may cost it a cache but not a request."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from .report import Report

T = TypeVar("T")


def never_raises(report: Report, otherwise: Callable[..., Any] = lambda *_: None) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """For methods that an engine calls: what they raise is said in the log, and `otherwise` of their arguments is returned."""

    def decorate(method: Callable[..., T]) -> Callable[..., T]:
        @wraps(method)
        def guarded(self: Any, *args: Any, **kwargs: Any) -> T:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:
                report.failed(type(error).__name__, f"{method.__name__} failed, the engine goes on without its cache: {error}")
                return otherwise(*args)

        return guarded

    return decorate
