import asyncio
import threading

from holdfast.watchdog.threads import Threads


async def test_jobs_that_block_run_side_by_side_and_end_on_the_loop() -> None:
    together = threading.Barrier(100)
    done: asyncio.Queue[tuple[int, int, str]] = asyncio.Queue()

    def work(job: int) -> int:
        together.wait(20)
        return job * 2

    def finish(job: int, outcome: int) -> None:
        done.put_nowait((job, outcome, threading.current_thread().name))

    threads = Threads(asyncio.get_running_loop(), work, finish, most=200)
    for job in range(100):
        threads.submit(job)
    async with asyncio.timeout(20):
        results = [await done.get() for _ in range(100)]
    assert {(job, outcome) for job, outcome, _ in results} == {(job, job * 2) for job in range(100)}
    assert {name for *_, name in results} == {threading.current_thread().name}


async def test_jobs_beyond_the_most_threads_wait_and_threads_are_used_again() -> None:
    names: set[str] = set()
    done: asyncio.Queue[int] = asyncio.Queue()

    def work(job: int) -> int:
        names.add(threading.current_thread().name)
        return job

    threads = Threads(asyncio.get_running_loop(), work, lambda job, _: done.put_nowait(job), most=2)
    for job in range(50):
        threads.submit(job)
    async with asyncio.timeout(20):
        assert sorted([await done.get() for _ in range(50)]) == list(range(50))
    assert len(names) <= 2
