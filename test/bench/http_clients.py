#!/usr/bin/env python3
"""Clients of a chat server over HTTP, as llama-server is one, each asking again as soon as it has its answer: a line as engine.sh makes.

usage: http_clients.py URL CLIENTS SECONDS PID       PID: of the server, for its CPU time
"""
import http.client
import json
import random
import sys
import threading
import time
import urllib.parse


def ask(address, until, taken):
    connection = http.client.HTTPConnection(address, timeout=120)
    while time.monotonic() < until:
        begin = time.monotonic()
        text = f"Tell a long story about the number {random.randint(1, 1000000)}"
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 32, "temperature": 0}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = json.load(connection.getresponse())
        if answer["usage"]["completion_tokens"] != 32:
            raise SystemExit("an answer of another length")
        taken.append(1000 * (time.monotonic() - begin))


def cpu_ms(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return 10 * (int(fields[11]) + int(fields[12]))


def main(url, clients, seconds, pid):
    taken, until, before = [], time.monotonic() + seconds, cpu_ms(pid)
    threads = [threading.Thread(target=ask, args=(urllib.parse.urlparse(url).netloc, until, taken)) for _ in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    taken.sort()
    n, elapsed = len(taken), time.monotonic() - until + seconds
    print(f"llama-server,{clients},{n / elapsed:.1f},{taken[n // 2]:.1f},{taken[int(n * 0.95)]:.1f},{(cpu_ms(pid) - before) / n:.1f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
