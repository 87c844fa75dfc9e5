import asyncio
import threading

from prometheus_client import CollectorRegistry, Histogram

from holdfast import tally
from holdfast.tally import Observations, Tally


async def test_what_is_added_is_written_once_and_whole() -> None:
    written: list[float] = []
    done = asyncio.Event()

    def write(amount: float) -> None:
        written.append(amount)
        done.set()

    count = Tally(write)
    for _ in range(5):
        count.add()
    count.add(-2)
    assert not written
    async with asyncio.timeout(10):
        await done.wait()
    assert written == [3]
    count.add()
    tally.write_all()
    assert written == [3, 1]


def test_without_an_event_loop_it_is_written_at_once() -> None:
    written: list[float] = []
    Tally(written.append).add()
    assert written == [1]


async def test_readers_in_other_threads_neither_lose_nor_double_anything() -> None:
    total = 0.0

    def write(amount: float) -> None:
        nonlocal total
        total += amount

    count, stop = Tally(write), threading.Event()

    def read() -> None:
        while not stop.is_set():
            tally.write_all()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(20_000):
        count.add()
    stop.set()
    for reader in readers:
        await asyncio.to_thread(reader.join, 30)
    tally.write_all()
    assert total == 20_000


def test_a_histogram_counts_each_value_where_it_would_itself() -> None:
    bounds, values = (0.1, 1.0, 10.0), (0.0, 0.1, 0.100001, 1.0, 5.0, 10.0, 11.0)
    ours, theirs = (Histogram("h", "h", buckets=bounds, registry=CollectorRegistry()) for _ in range(2))
    observations = Observations(ours)
    for value in values:
        observations.observe(value)
        theirs.observe(value)
    samples = [
        [(sample.name, sample.labels, sample.value) for sample in histogram._samples() if "created" not in sample.name]
        for histogram in (ours, theirs)
    ]
    assert samples[0] == samples[1]
