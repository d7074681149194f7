"""A Flask app.

    pip install flask
    rgun-async --chdir examples/python -w 4 -b 0.0.0.0:8000 demo:app
"""

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello, World!"


@app.get("/hello/<name>")
def greet(name):
    return jsonify(message=f"Hello, {name}!", agent=request.user_agent.string)


@app.post("/echo")
def echo():
    return request.get_data(), 200, {"Content-Type": request.content_type or "text/plain"}
