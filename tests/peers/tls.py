"""OpenSSL as a client, by Python's ssl: does what it is told line by line, in JSON, and answers likewise."""

import hashlib
import http.client
import json
import socket
import ssl
import sys

contexts = {}
connections = {}
sessions = {}


def context(told):
    key = json.dumps([told.get(k) for k in ("ca", "cert", "min", "max", "alpn", "ciphers")])
    if key not in contexts:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(told["ca"])
        if told.get("cert"):
            made.load_cert_chain(told["cert"] + ".pem", told["cert"] + ".key")
        for name, number in (("min", "minimum_version"), ("max", "maximum_version")):
            if told.get(name):
                setattr(made, number, getattr(ssl.TLSVersion, told[name]))
        if told.get("alpn"):
            made.set_alpn_protocols(told["alpn"])
        if told.get("ciphers"):
            made.set_ciphers(told["ciphers"])
        contexts[key] = made
    return contexts[key]


def connect(told):
    if "path" in told:
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(told["path"])
    else:
        plain = socket.create_connection(("127.0.0.1", told["port"]))
    plain.settimeout(told["timeout"])
    made = context(told)
    if not told.get("name"):
        made.check_hostname = False
    secure = made.wrap_socket(
        plain,
        server_hostname=told.get("name"),
        session=sessions.get(told.get("session")),
        suppress_ragged_eofs=False,
    )
    if not told.get("name"):
        made.check_hostname = True
    connections[told["id"]] = secure
    shown = secure.getpeercert()
    return {
        "version": secure.version(),
        "cipher": secure.cipher()[0],
        "alpn": secure.selected_alpn_protocol(),
        "resumed": secure.session_reused,
        "serial": shown["serialNumber"],
        "names": [name for _, name in shown.get("subjectAltName", ())],
    }


def request(told):
    secure = connections[told["id"]]
    body = b"x" * told.get("body", 0)
    head = f"{told.get('method', 'GET')} {told['path']} HTTP/1.1\r\nHost: test\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    for name, value in told.get("headers", {}).items():
        head += f"{name}: {value}\r\n"
    secure.sendall(head.encode() + b"\r\n" + body)
    return response(secure)


def response(secure):
    answer = http.client.HTTPResponse(secure)
    answer.begin()
    content = answer.read()
    return {
        "status": answer.status,
        "headers": {name.lower(): value for name, value in answer.getheaders()},
        "body": content.decode("latin-1") if len(content) < 65536 else "",
        "length": len(content),
        "digest": hashlib.sha256(content).hexdigest(),
    }


def send(told):
    connections[told["id"]].sendall(told["bytes"].encode("latin-1"))
    return {}


def read_end(told):
    """Reads to the end; whether TLS said that it is one."""
    secure = connections[told["id"]]
    came = b""
    try:
        while chunk := secure.recv(65536):
            came += chunk
    except ssl.SSLEOFError:
        return {"bytes": came.decode("latin-1"), "clean": False}
    return {"bytes": came.decode("latin-1"), "clean": True}


def unwrap(told):
    """Ends the sending half by TLS, and waits for the server's end."""
    connections.pop(told["id"]).unwrap().close()
    return {}


def websocket(told):
    from websockets.sync.client import connect as open_websocket

    made = context(told)
    answers = []
    with open_websocket(f"wss://{told['name']}:{told['port']}{told['path']}",
                        sock=socket.create_connection(("127.0.0.1", told["port"])),
                        ssl=made, max_size=None) as client:
        for message in told["messages"]:
            client.send(message * told.get("times", 1))
            answers.append(client.recv(timeout=told["timeout"]))
    return {"answers": [hashlib.sha256(answer.encode()).hexdigest() for answer in answers]}


COMMANDS = {
    "connect": connect,
    "request": request,
    "response": lambda told: response(connections[told["id"]]),
    "send": send,
    "read_end": read_end,
    "unwrap": unwrap,
    "websocket": websocket,
    "drop": lambda told: connections.pop(told["id"]).close() or {},
    "save": lambda told: sessions.__setitem__(told["session"], connections[told["id"]].session) or {},
}

for line in sys.stdin:
    told = json.loads(line)
    try:
        answer = COMMANDS[told["do"]](told)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
