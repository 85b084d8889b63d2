#!/usr/bin/env python3
"""An example outside of the server: /v1/chat/completions and /v1/embeddings over slm_pg, for clients that speak OpenAI's protocol.

usage: openai_proxy.py [PORT]      default 8080, on this machine only; needs psycopg 3; the database by PGHOST, PGDATABASE, ...

It has the rights of the role that it connects as, and no others: give it one of its own.  A request's model is a model of slm.models.
"""
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
from psycopg.types.json import Jsonb


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def embeddings(self, c, request):
        texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
        rows = c.execute("SELECT * FROM slm_embed_many(%s, model => %s)", (texts, request.get("model")))
        data = [{"object": "embedding", "index": i, "embedding": e} for i, (e,) in enumerate(rows)]
        self.answer(200, {"object": "list", "model": request.get("model"), "data": data})

    def piece(self, delta, finish=None):
        chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def chat(self, c, request):
        options = (request.get("model"), request.get("max_tokens") or 256, request.get("temperature") or 0)
        messages = request["messages"]
        if not request.get("stream"):
            sql = "SELECT slm_chat(%s, model => %s, max_tokens => %s, temperature => %s)"
            text = c.execute(sql, (Jsonb(messages), *options)).fetchone()[0]
            message = {"role": "assistant", "content": text}
            self.answer(200, {"object": "chat.completion", "created": int(time.time()), "model": options[0],
                              "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
            return
        # a stream takes the last message, and a system message if the first is one
        system = messages[0]["content"] if messages[0]["role"] == "system" else None
        sql = "SELECT slm_generate_stream(%s, model => %s, max_tokens => %s, temperature => %s, system => %s)"
        rows = c.cursor().stream(sql, (messages[-1]["content"], *options, system))
        first = next(rows, None)  # an error comes before the first row
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if first is not None:
            self.piece({"role": "assistant", "content": first[0]})
        for text, in rows:
            self.piece({"content": text})
        self.piece({}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def do_POST(self):
        serve = {"/v1/embeddings": self.embeddings, "/v1/chat/completions": self.chat}.get(self.path)
        try:
            if serve is None:
                raise KeyError(self.path)
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with psycopg.connect(autocommit=True) as c:
                serve(c, request)
        except psycopg.Error as e:
            self.answer(400, {"error": {"message": str(e), "code": e.sqlstate}})
        except (KeyError, IndexError, TypeError, ValueError) as e:
            self.answer(404 if serve is None else 400, {"error": {"message": f"bad request: {e}"}})


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080), Proxy).serve_forever()
