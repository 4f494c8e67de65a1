"""A paper exchange as a process, and python-binance pointed at one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import requests
from binance.client import Client

from paper_fixed import until
from patience import patience

ROOT = Path(__file__).resolve().parents[1]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, home, **settings):
        self.home, self.port = home, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {**os.environ, "BOTYARD_HOME": str(home), "PAPER_PORT": str(self.port), "PAPER_START": "2024-03-01", "PAPER_SPEED": "0", **settings}
        self.session = requests.Session()
        self.session.trust_env = False
        self.process = None

    def start(self):
        self.output = open(self.home / "output.txt", "ab")  # noqa: SIM115 - closed in `stop`
        self.process = subprocess.Popen([sys.executable, "-m", "core.paper"], cwd=ROOT, env=self.env, stdout=self.output, stderr=subprocess.STDOUT)
        until(self.answers)

    def answers(self):
        assert self.process.poll() is None, (self.home / "output.txt").read_text()
        try:
            return self.session.get(self.url + "/api/v3/ping", timeout=patience(5)).ok
        except requests.ConnectionError:
            return False

    def paper(self, method, path, value=None):
        answer = self.session.request(method, f"{self.url}/paper/{path}", json=value, timeout=patience(10))
        assert answer.ok, answer.text
        return answer.json()

    def client(self, **params):
        client = Client("paper", "paper", ping=False, requests_params=params or None)
        client.session.trust_env = False
        return pointed(client, self.url)

    def stop(self, sent=signal.SIGTERM):
        self.process.send_signal(sent)
        code = self.process.wait(patience(10))
        self.output.close()
        return code


def pointed(client, url):
    client.API_URL, client.MARGIN_API_URL = url + "/api", url + "/sapi"
    return client


@contextmanager
def serving(home, **settings):
    server = Server(home, **settings)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(patience(10))
        server.output.close()
