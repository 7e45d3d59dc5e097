"""Hostile programs in the sandbox: each costs one failed answer and nothing else. And machines that refuse the sandbox."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lehr.post.verifiers import verify
from lehr.post.verifiers.sandbox import Limits, Outcome, Program, refusal, run
from tests.graph.source import ROOT

SHORT = Limits(wall_s=1.0, cpu_s=1, memory_bytes=256 << 20, total_bytes=384 << 20)
BUSY_S = 60.0  # on a machine that does other things too

pytestmark = pytest.mark.skipif(bool(refusal()), reason=f"this machine refuses a sandbox: {refusal()}")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """After each test no process, file or mount of it is there."""
    before = set(os.listdir("/tmp")), Path("/proc/self/mounts").read_text()
    yield
    assert not _processes("hostile"), "a process was left running"
    new = {name for name in set(os.listdir("/tmp")) - before[0] if "hostile" in name}
    assert not new and Path("/proc/self/mounts").read_text() == before[1]


def _processes(mark: str) -> list[str]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            command = Path("/proc", name, "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if mark.encode() in command and int(name) != os.getpid():
            found.append(name)
    return found


def hostile(source: str, limits: Limits = SHORT) -> Outcome:
    """Run a program, which ends in bounded time, and whose file has a name by which its processes are known."""
    began = time.monotonic()
    outcome = run(Program({f"hostile-{secrets.token_hex(4)}.py": source}, limits=limits))
    assert time.monotonic() - began < BUSY_S
    return outcome


def outside(source: str) -> str:
    """The same program without a sandbox: it does what it is after, so that its failure inside means something."""
    done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, text=True, encoding="utf-8", timeout=30)
    return done.stdout


def test_an_honest_program_runs() -> None:
    source = "import sys, json, math, random, re, collections; print(sys.stdin.read()[::-1]); open('notes', 'w').write('x')"
    outcome = run(Program({"main.py": source}, "abc"))
    assert outcome == Outcome("", 0, "cba\n")
    assert run(Program({"main.py": "raise SystemExit(3)"})).code == 3


def test_a_fork_bomb_goes_nowhere() -> None:
    outcome = hostile("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass")
    assert outcome.why == "time"
    counted = (
        "import os, time\nn = 0\ntry:\n    while os.fork():\n        n += 1\n    time.sleep(9)\nexcept OSError:\n    print(n)"
    )
    assert 0 < int(hostile(counted).output) < SHORT.processes


def test_ten_gigabytes_cannot_be_had_at_once_or_in_parts() -> None:
    assert "MemoryError" in hostile("try:\n    bytearray(10 << 30)\nexcept MemoryError as e:\n    print(repr(e))").output
    many = "import os, time\nfor _ in range(8):\n    if not os.fork():\n        break\nkept = b'x' * (150 << 20)\ntime.sleep(9)"
    assert hostile(many, replace(SHORT, wall_s=20.0)).why == "memory"
    unseen = (
        "import os, ctypes\nf = ctypes.CDLL(None, use_errno=True)\nprint(f.memfd_create(b'm', 0), f.shmget(0, 1 << 20, 0o1600))"
    )
    assert hostile(unseen).output == "-1 -1\n", "memory that no limit counts"


def test_no_network_is_there() -> None:
    with socket.socket() as listens:
        listens.bind(("127.0.0.1", 0))
        listens.listen()
        place = listens.getsockname()
        source = f"import socket; s = socket.create_connection({place!r}, timeout=5); s.sendall(b'x'); print('sent')"
        assert outside(source) == "sent\n"
        listens.accept()[0].close()
        assert hostile(source).output == ""
        listens.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listens.accept()
    kinds = "import socket\nfor f in (2, 10, 16, 17, 38, 40):\n    try:\n        socket.socket(f, 3 if f == 17 else 1)\n"
    kinds += "        print('made', f)\n    except OSError as e:\n        assert e.errno == 1, e"
    assert hostile(kinds) == Outcome("", 0, ""), "no internet, netlink, packet, crypto or virtual machine's sockets"


def test_every_namespace_is_its_own_and_so_is_the_user() -> None:
    thread = threading.Thread(target=hostile, args=("import time; time.sleep(60)", replace(SHORT, wall_s=2.0)))
    thread.start()
    until, found = time.monotonic() + 20, None
    while found is None and time.monotonic() < until:
        found = next((name for name in _processes("hostile") if b"-S" in Path("/proc", name, "cmdline").read_bytes()), None)
    kinds = ("user", "mnt", "pid", "net", "ipc", "uts")
    same = [kind for kind in kinds if os.readlink(f"/proc/{found}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{found}/status").read_text().splitlines())
    thread.join()
    assert not same
    users = set(map(int, status["Uid"].split()))
    assert users == {os.geteuid()} if os.geteuid() else min(users) >= 61_000
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0 and status["Seccomp"].strip() == "2"


def test_secrets_in_files_and_environment_are_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "id_rsa"
    key.write_text("secret")
    monkeypatch.setenv("LEHR_TEST_SECRET", "secret")
    source = f"import os; print(os.environ.get('LEHR_TEST_SECRET')); print(open({str(key)!r}).read())"
    assert outside(source) == "secret\nsecret\n"
    assert hostile(source).output == "None\n"
    where = "import os\nfor p in ('/proc', '/etc', '/home', '/sys', '/var', '/run', '~/.ssh'):\n"
    where += "    print(os.path.exists(os.path.expanduser(p)), end=' ')"
    assert hostile(where).output == "False " * 7


def test_other_processes_cannot_be_seen_or_ended() -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        source = f"import os, signal\nfor p in (1, {victim.pid}, {os.getpid()}, -1):\n    try:\n        os.kill(p, 9)\n"
        source += "    except OSError as e:\n        print(type(e).__name__)"
        hostile(source)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_endless_output_is_cut_while_it_is_read() -> None:
    outcome = hostile("while True: print('x' * 1000)")
    assert outcome.why == "output" and len(outcome.output) == SHORT.output_bytes


def test_no_signal_is_ignored_for_long() -> None:
    source = (
        "import signal, time\nfor s in set(signal.Signals) - {9, 19}:\n    signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)"
    )
    assert hostile(source).why == "time"


@pytest.mark.long
def test_processor_time_is_limited() -> None:
    assert hostile("while True: pass", Limits(wall_s=60, cpu_s=1)).code == 137


def test_a_daemon_dies_with_the_program() -> None:
    source = "import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n        os.close(1)\n"
    source += "        time.sleep(60)\n    os._exit(0)\nprint('done')"
    assert hostile(source) == Outcome("", 0, "done\n")


def test_the_disk_cannot_be_filled() -> None:
    source = "n = 0\ntry:\n    while True:\n        open(str(n), 'wb').write(b'x' * (1 << 20)); n += 1\n"
    source += "except OSError:\n    print(n)"
    free = shutil.disk_usage("/").free
    assert 0 < int(hostile(source).output) <= SHORT.disk_bytes >> 20
    assert abs(shutil.disk_usage("/").free - free) < 1 << 30
    many = "n = 0\ntry:\n    while True:\n        open(str(n), 'w').close(); n += 1\nexcept OSError:\n    print(n)"
    assert int(hostile(many).output) < 4096
    assert "OSError" in hostile("try:\n    open('/usr/lib/hostile', 'w')\nexcept OSError as e:\n    print('OSError')").output


def test_links_and_parents_lead_nowhere(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    source = f"import os\nos.symlink({str(key)!r}, 'a')\nos.symlink('/', 'b')\nfor p in ('a', 'b{key}', '../../../..{key}'):\n"
    source += "    for how in 'rw':\n        try:\n            print(open(p, how).read())\n"
    source += "        except OSError as e:\n            pass"
    assert hostile(source).output == ""
    assert key.read_text() == "secret"


def test_no_right_can_be_had_back() -> None:
    source = "import ctypes, os\nf = ctypes.CDLL(None, use_errno=True)\n"
    source += "calls = (f.unshare(0x10000000), f.unshare(0x20000), f.mount(b't', b'/box', b'tmpfs', 0, None), f.chroot(b'/'),\n"
    source += " f.ptrace(16, 1, 0, 0), f.setns(0, 0), f.syscall(425, 1, 0), f.syscall(321, 0, 0, 0))\n"
    source += "print(set(calls), os.getuid(), os.getresuid())\n"
    source += (
        "for change in (os.setuid, os.setgid):\n    try:\n        change(0); print('root')\n    except OSError:\n        pass"
    )
    assert hostile(source).output == "{-1} 1 (1, 1, 1)\n"


def test_no_descriptor_is_inherited() -> None:
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)
    try:
        source = "import os\nfor n in range(3, 64):\n    try:\n        os.fstat(n); print(n)\n    except OSError:\n        pass"
        outcome = hostile(source.replace("import os\n", "import os\nos.closerange(0, 0)\n"))
        assert len(outcome.output.split()) <= 1, "Python's own file, at most"
    finally:
        os.close(reads)
        os.close(writes)


def test_programs_run_side_by_side() -> None:
    outputs: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: outputs.append(run(Program({"main.py": f"print({n})"})).output)) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == ["0\n", "1\n", "2\n", "3\n"]


CODE = {"tests": ["assert f(2) == 4", "assert f(-3) == 9"]}


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("Here:\n```python\ndef f(x):\n    return x * x\n```\nDone.", True),
        ("```\ndef f(x):\n    return x * x\n```", True),
        ("```python\ndef f(x):\n    return x + x\n```", False),
        ("```python\ndef f(x):\n    return 0\n```\nor\n```python\ndef f(x):\n    return x * x\n```", True),
        ("def f(x):\n    return x * x", False),
        ("```python\nimport os; os._exit(0)\n```", False),
        ("```python\nraise SystemExit\n```", False),
        ("```python\nprint('passed')\nimport sys; print(sys.stdin.read()); sys.exit()\n```", False),
        ("```python\ndef f(x:\n```", False),
        ("```python\n\0\n```", False),
    ],
)
def test_code_tests(answer: str, passes: bool) -> None:
    assert verify("code_tests", CODE, answer, True) == float(passes)


def test_code_is_tested_on_inputs_too() -> None:
    cases = {"cases": [{"input": "3\n", "output": "9"}, {"input": "-1\n", "output": "1\n"}]}
    assert verify("code_tests", cases, "```python\nprint(int(input()) ** 2, ' ')\n```", True) == 1.0
    assert verify("code_tests", cases, "```python\nprint(9)\n```", True) == 0.0


REFUSED = """
import platform
from lehr.runtime.jail import calls, kernel
kernel.drop_capabilities(platform.machine())
kernel.filter_calls(calls.program(platform.machine()))  # refuses namespaces, as RuntimeDefault does
from lehr.post.verifiers import check_args, sandbox, verify
print(sandbox.refusal())
print(verify("json_schema", {"schema": {"type": "integer"}}, "5", True), verify("json_schema", {"schema": {}}, "x", True))
for work in (check_args, lambda name, args: verify(name, args, "```\\nprint(1)\\n```", True)):
    try:
        work("code_tests", {"cases": [{"input": "", "output": "1"}]})
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_where_the_kernel_refuses_namespaces_no_program_is_run() -> None:
    done = subprocess.run([sys.executable, "-c", REFUSED], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["[Errno 1] Operation not permitted", "1.0 0.0"], done.stderr
    assert len(lines) == 4
    for line in lines[2:]:
        assert line.startswith("UserError verifier 'code_tests': what a model writes cannot be run safely here ([Errno 1]")


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_trainer_that_is_not_root_has_a_sandbox_too(tmp_path: Path) -> None:
    python = Path("/usr/bin/python3")
    version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if not python.exists() or subprocess.run([python, "-c", version]).returncode:
        pytest.skip("there is no other Python of this version that everybody may run")
    source = "from lehr.post.verifiers.sandbox import *; print(refusal()); print(run(Program({'hostile.py': '''import os\n"
    source += "print(os.getresuid(), os.path.exists('/etc'))'''})).output)"
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))])
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "env", f"PYTHONPATH={paths}", python]
    done = subprocess.run([*command, "-c", source], cwd="/", capture_output=True, text=True, encoding="utf-8")
    assert done.stdout == "\n(1, 1, 1) False\n\n", done.stderr
