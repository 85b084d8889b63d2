"""What docs/COOKBOOK.md shows of programs outside of the server: demo/openai_proxy.py, and the classes for LangChain and LlamaIndex, whose
base classes are stood in for by empty ones."""
import json
import re
import socket
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request

import psycopg

from checks import check, done


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def post(port, path, body):
    """status and body; of an error too"""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def listens(port, proxy):
    for _ in range(200):
        if proxy.poll() is not None:
            return False
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False


def test_proxy(c, port):
    status, body = post(port, "/v1/embeddings", {"model": "minilm", "input": ["a parcel", "an invoice"]})
    vectors = [d["embedding"] for d in json.loads(body)["data"]]
    check(status == 200 and len(vectors) == 2, "two embeddings")
    own = c.execute("SELECT slm_embed('an invoice', 'minilm')").fetchone()[0]
    check(max(abs(x - y) for x, y in zip(vectors[1], own)) < 1e-6, "they are those of slm_embed")
    status, body = post(port, "/v1/embeddings", {"model": "minilm", "input": "a parcel"})
    check(status == 200 and json.loads(body)["data"][0]["embedding"] == vectors[0], "one text")
    messages = [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "What is the capital of France?"}]
    request = {"model": "smollm2", "messages": messages, "max_tokens": 8}
    status, body = post(port, "/v1/chat/completions", request)
    text = json.loads(body)["choices"][0]["message"]["content"]
    check(status == 200 and "Paris" in text, f"a chat: {text}")
    status, body = post(port, "/v1/chat/completions", request | {"stream": True})
    events = [line[6:] for line in body.split("\n") if line.startswith("data: ")]
    pieces = [json.loads(e)["choices"][0] for e in events[:-1]]
    check(status == 200 and events[-1] == "[DONE]" and pieces[-1]["finish_reason"] == "stop", "a stream ends")
    check("".join(p["delta"].get("content", "") for p in pieces) == text, "and is the same answer in pieces")
    status, body = post(port, "/v1/embeddings", {"model": "nothing", "input": "x"})
    check(status == 400 and json.loads(body)["error"]["code"] == "42704", "an unknown model is an error with its SQLSTATE")
    check(post(port, "/v1/chat/completions", request | {"model": "nothing", "stream": True})[0] == 400, "also of a stream")
    check(post(port, "/v1/nothing", {})[0] == 404, "an unknown address")
    check(post(port, "/v1/embeddings", b"{")[0] == 400 and post(port, "/v1/embeddings", {})[0] == 400, "no JSON, or no input")


def snippet(text, word, names):
    """the block of Python in which a word stands, run in a module of its own"""
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if word in block)
    exec(compile(code, "docs/COOKBOOK.md", "exec"), names)
    return names


def test_snippets(c):
    with open("docs/COOKBOOK.md", encoding="utf-8") as f:
        text = f.read()
    for module, base in (("langchain_core.embeddings", "Embeddings"), ("llama_index.core.embeddings", "BaseEmbedding")):
        parts = module.split(".")
        for i in range(1, len(parts) + 1):
            sys.modules[".".join(parts[:i])] = types.ModuleType(parts[i - 1])
        setattr(sys.modules[module], base, type(base, (), {}))
    chain = snippet(text, "langchain_core", {})["SlmEmbeddings"](c)
    index = snippet(text, "llama_index", {"connection": c})["SlmEmbedding"]()
    documents = chain.embed_documents(["a parcel", "an invoice"])
    check([len(e) for e in documents] == [384, 384], "LangChain: documents")
    check(documents == index._get_text_embeddings(["a parcel", "an invoice"]), "LlamaIndex: the same ones")
    check(index._get_text_embedding("a parcel") == documents[0], "and one")
    check(chain.embed_query("a parcel") == index._get_query_embedding("a parcel"), "a query")


port = free_port()
proxy = subprocess.Popen([sys.executable, "demo/openai_proxy.py", str(port)], stderr=subprocess.DEVNULL)
try:
    with psycopg.connect(autocommit=True) as connection:
        if listens(port, proxy):
            test_proxy(connection, port)
        else:
            check(False, "the proxy listens")
        test_snippets(connection)
finally:
    proxy.terminate()
    proxy.wait()
done("examples")
