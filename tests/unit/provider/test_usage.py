import os
import subprocess
import sys
import time

from holdfast.provider.usage import CpuMeter

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_processor_time_is_counted_from_the_first_question_on_and_that_of_ended_children_too() -> None:
    meter, own = CpuMeter(), [os.getpid()]
    assert meter.spent_s(own) == 0.0, "what was spent before is no load"
    subprocess.run([sys.executable, "-c", BURN], check=True)
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert 0.35 < meter.spent_s(own) < 5.0
    assert meter.spent_s(own) < 0.35, "nothing is counted twice"


def test_a_process_that_has_ended_adds_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    meter = CpuMeter()
    assert meter.spent_s([ended.pid]) == 0.0
    assert meter.spent_s([ended.pid]) == 0.0
