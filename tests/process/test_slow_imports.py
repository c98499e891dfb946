"""Modules whose import hangs or is slow: only their own pools wait for them."""

from __future__ import annotations

from pool_directory import PoolDirectory, until

from supervisor.control.status import one_line

HANGS = "import time\nfrom wf import activity\ntime.sleep({s})\n@activity\ndef {name}(): ...\n"


def test_pools_start_while_the_modules_of_others_hang(pool: PoolDirectory) -> None:
    names = [f"job{number}" for number in range(13)]
    for name in names:
        pool.module(name, HANGS.format(s=600, name=name))
    pool.module("slow", HANGS.format(s=4, name="slow"))
    pool.module("mail")
    pool.configure({"mail": 2})
    pool.start(imports_s=[3.0, 6.0, 30.0], worker={"config_open_s": 300.0})
    assert pool.state() == "running"
    until(lambda: len(pool.pids("mail")) == 2, "the sound pool works")
    late = {one["module"].rpartition("/")[2] for one in pool.logged("module.late")}
    assert late >= {f"{name}.py" for name in names}
    assert "import not done: job0.py" in one_line(pool.status())
    assert pool.pool("job3")["state"] == "failed"
    broken = {one["path"].rpartition("/")[2]: one for one in pool.status()["broken_modules"]}
    assert broken["job7.py"]["late"]
    assert "not done in" in broken["job7.py"]["error"]
    until(lambda: pool.pids("slow"), "the slow one works as soon as it can")
