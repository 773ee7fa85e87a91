"""One listener's end of a stream of news, which never lets the news pile up without end."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Subscription(Generic[T]):
    """An endless async iterator. Begins with `lost`; when `limit` pile up unread, `lost` replaces them."""

    def __init__(self, limit: int, *, lost: T) -> None:
        self._limit = limit
        self._lost = lost
        self._unread: deque[T] = deque([lost])
        self._filled = asyncio.Event()

    def tell(self, news: T) -> None:
        if len(self._unread) >= self._limit:
            self._unread.clear()
            news = self._lost
        self._unread.append(news)
        self._filled.set()

    def __aiter__(self) -> "Subscription[T]":
        return self

    async def __anext__(self) -> T:
        while not self._unread:
            self._filled.clear()
            await self._filled.wait()
        return self._unread.popleft()
