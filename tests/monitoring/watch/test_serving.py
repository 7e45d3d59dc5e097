"""The page over HTTP: for browsers of this machine, and for nobody else."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lehr.monitoring.watch import page
from lehr.monitoring.watch.serving import is_local, serve
from lehr.monitoring.watch.watcher import Watcher
from lehr.runtime.errors import UserError
from tests.monitoring.watch import runs


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    folder = runs.begin(tmp_path / "run")
    runs.work(folder, "stage1", runs.curves(5))
    watcher = Watcher([folder])
    watcher.look()
    server, url = serve(watcher, 0)
    yield int(url.split(":")[2].rstrip("/"))
    server.shutdown()
    server.server_close()


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()


def test_page_style_script_and_news(port: int) -> None:
    for path, kind in (("/", "text/html"), ("/watch.css", "text/css"), ("/watch.js", "text/javascript")):
        status, headers, body = get(port, path)
        assert status == 200 and headers["content-type"].startswith(kind) and body
        assert headers["content-security-policy"] == page.SERVED and "unsafe" not in page.SERVED
        assert headers["x-content-type-options"] == "nosniff" and headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers and "python" not in headers["server"].lower()
    first = json.loads(get(port, "/news?since=0")[2])
    again = json.loads(get(port, f"/news?since={first['number']}&session={first['session']}")[2])
    assert first["board"]["panels"] and first["lines"] and again["lines"] == [] and "board" not in again
    other = json.loads(get(port, f"/news?since={first['number']}&session=another")[2])
    assert other["lines"] == first["lines"] and other["whole"]
    for odd in ("since=-1", "since=1e9", "since=" + "9" * 50, "since=%00&since=x", "&&&=="):
        assert json.loads(get(port, f"/news?{odd}")[2])["whole"]
    assert get(port, "/../../etc/passwd")[0] == get(port, "/page/watch.html")[0] == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost:8000", "LOCALHOST", "[::1]:80", "[::1]"])
def test_names_of_this_machine(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "127.0.0.1:x", "127.0.0.1@evil.example",
             "evil.example:80", "0.0.0.0", "127.0.0.1:", "[::1]:", "x[::1]"]
)  # fmt: skip
def test_other_names_are_dns_rebinding(host: str, port: int) -> None:
    assert not is_local(host)
    status, _, body = get(port, "/news", Host=host)
    assert status == 403 and "lines" not in body


def test_a_request_without_a_host_or_with_two_is_refused(port: int) -> None:
    for hosts in (b"", b"Host: localhost\r\nHost: evil.example\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET /news HTTP/1.1\r\n" + hosts + b"\r\n")
            assert b" 403 " in client.recv(100)


def test_nothing_but_get(port: int) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"):
        assert get(port, "/news", method)[0] == 501


def test_it_listens_on_loopback_and_a_taken_port_is_said(port: int) -> None:
    with pytest.raises(UserError, match="another --port"):
        serve(Watcher([]), port)
    server, url = serve(Watcher([]), 0)
    assert server.server_address[0] == "127.0.0.1" and url.startswith("http://127.0.0.1:")
    server.shutdown()
    server.server_close()


def test_the_page_as_a_file_holds_all_that_it_needs_and_no_way_out(tmp_path: Path) -> None:
    folder = runs.begin(tmp_path / "run")
    runs.made(folder, "scores-x", "scores", runs.scores("x", 0.5, runs.HOSTILE))
    watcher = Watcher([folder])
    watcher.look()
    text = page.static(watcher.news(0))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and "default-src 'none'" in policy[1] and "unsafe" not in policy[1] and "connect-src" not in policy[1]
    assert policy[1].count("'sha256-") == 2
    data = re.search(r'<script type="application/json" id="news">(.*)</script>\n', text)
    assert data and "<" not in data[1]
    known = json.loads(data[1])["runs"][0]["facts"]["samples"][0]["answers"]["x"]
    assert known.startswith("</script><img src=x onerror=alert(1)>") and "\u202e" not in known
    outside = text.replace(data[1], "")
    assert "{{" not in outside and not re.search(r"(?:src|href)=\"(?!data:,|#|/watch)", outside)
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", outside))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_no_text_of_others_can_become_markup() -> None:
    script = page.script()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc|DOMParser", script)


@pytest.mark.skipif(shutil.which("node") is None, reason="node checks the scripts")
def test_scripts_are_valid_alone_and_together(tmp_path: Path) -> None:
    places = [page._HERE / name for name in page.SCRIPTS]
    (tmp_path / "whole.js").write_text(page.script())
    for place in (*places, tmp_path / "whole.js"):
        done = subprocess.run(["node", "--check", str(place)], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
