"""Notes in Flask: a session, a login, an upload, a stream, error pages."""

import hashlib
import os

from flask import (
    Flask, Response, abort, flash, get_flashed_messages, jsonify, redirect, render_template_string,
    request, send_file, session, stream_with_context, url_for,
)

app = Flask(__name__)
app.secret_key = "a key that only the tests have"
app.config["MAX_CONTENT_LENGTH"] = 16 * 1024 * 1024
# What teardown handlers saw: they run when the answer is closed.
ended = []


@app.get("/")
def front():
    session["visits"] = session.get("visits", 0) + 1
    page = "visit {{ visits }}{% for message in messages %}, {{ message }}{% endfor %}"
    return render_template_string(page, visits=session["visits"], messages=get_flashed_messages())


@app.post("/login")
def login():
    if request.form["password"] != "sesame":
        abort(403)
    session.clear()
    session["name"] = request.form["name"]
    flash("welcome")
    return redirect(url_for("private"))


@app.get("/private")
def private():
    if "name" not in session:
        abort(401)
    return f"for {session['name']}: {', '.join(get_flashed_messages())}"


@app.post("/upload")
def upload():
    files = {
        name: {
            "filename": file.filename,
            "digest": hashlib.sha256(data := file.read()).hexdigest(),
            "size": len(data),
        }
        for name, file in request.files.items()
    }
    return jsonify(files=files, form=request.form.to_dict()), 201


@app.get("/stream")
def stream():
    """The request is still there while the answer is being made."""

    def lines():
        for number in range(int(request.args["lines"])):
            yield f"{request.path} {number}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.get("/file")
def file():
    """A file with ETag, ranges and If-None-Match."""
    return send_file(os.path.abspath(__file__), mimetype="text/plain", conditional=True)


@app.get("/broken")
def broken():
    raise ValueError("this page is broken")


@app.get("/ended")
def what_ended():
    return jsonify(ended)


@app.teardown_request
def remember(error):
    ended.append([request.path, type(error).__name__])


@app.errorhandler(404)
def missing(error):
    return f"no page {request.path}", 404


@app.errorhandler(500)
def failed(error):
    return f"sorry: {error.original_exception}", 500
