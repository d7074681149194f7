//! `--compress`: answers of every kind of app, and of none, in the encodings that their clients take.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::harness::client::{Client, Response};
use crate::harness::{Rgun, Server, patience, venv};

fn ask(client: &mut Client, method: &str, path: &str, accepts: &str) -> Response {
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {accepts}\r\n\r\n"
    ));
    client.response_to(method)
}

/// What Python's decoders make of a body.
fn decoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    const SCRIPT: &str = r#"
import sys
name, data = sys.argv[1], sys.stdin.buffer.read()
if name == "identity":
    text = data
elif name == "gzip":
    import gzip
    text = gzip.decompress(data)
elif name == "br":
    import brotli
    text = brotli.decompress(data)
else:
    import zstandard
    text = zstandard.ZstdDecompressor().decompressobj().decompress(data)
sys.stdout.buffer.write(text)
"#;
    python(SCRIPT, encoding, body)
}

/// What a script makes of some bytes.
fn python(script: &str, encoding: &str, body: &[u8]) -> Vec<u8> {
    let mut python = Command::new(venv().join("bin/python"))
        .args(["-c", script, encoding])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a Python");
    let mut input = python.stdin.take().expect("it is piped");
    input.write_all(body).expect("it reads");
    drop(input);
    let mut text = Vec::new();
    let mut output = python.stdout.take().expect("it is piped");
    output.read_to_end(&mut text).expect("it writes");
    assert!(python.wait().expect("it ends").success(), "{encoding}");
    text
}

/// The text of `tests/apps/files.py`.
fn text() -> Vec<u8> {
    b"All the same words, again and again, are compressed well.\n".repeat(400)
}

fn start(driver: &str, app: &str, more: &[&str]) -> Server {
    Rgun::app(app).args(["-k", driver]).args(more).start()
}

#[test]
fn each_encoding_is_decoded_to_the_same_text() {
    for (driver, app) in [
        ("sync", "files:app"),
        ("gevent", "files:app"),
        ("gthread", "files:app"),
        ("asgi", "files:asgi"),
    ] {
        let server = start(driver, app, &["--compress", "on"]);
        let mut client = server.connect();
        for encoding in ["br", "zstd", "gzip"] {
            let answer = ask(&mut client, "GET", "/text", encoding);
            assert_eq!(
                answer.header("content-encoding"),
                Some(encoding),
                "{driver}"
            );
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            assert!(answer.body().len() < 2000, "{}", answer.body().len());
            assert!(
                decoded(encoding, answer.body()) == text(),
                "{driver} {encoding}"
            );
        }
        let plain = ask(&mut client, "GET", "/text", "identity");
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.header("vary"), Some("accept-encoding"));
        assert!(plain.body() == text());
        assert_eq!(client.get("/text").header("content-encoding"), None);
    }
}

#[test]
fn nothing_is_compressed_unless_that_is_asked_for() {
    let server = start("sync", "files:app", &[]);
    let mut client = server.connect();
    let answer = ask(&mut client, "GET", "/text", "gzip, br, zstd");
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary"), None);
    assert!(answer.body() == text());
    let server = start("sync", "files:app", &["--compress", "gzip"]);
    let mut client = server.connect();
    let answer = ask(&mut client, "GET", "/text", "br, zstd, gzip");
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let answer = ask(&mut client, "GET", "/text", "br, zstd");
    assert_eq!(answer.header("content-encoding"), None);
}

#[test]
fn what_must_stay_as_it_is_does() {
    let server = start("sync", "files:app", &["--compress", "on"]);
    let mut client = server.connect();
    for fields in [
        "Content-Encoding=identity-of-its-own",
        "Cache-Control=no-transform",
        "Content-Type=text/event-stream",
        "Content-Type=image/png",
        "Content-Range=bytes+0-23199/99999",
    ] {
        // The app's text/plain comes first: a second Content-Type would not count.
        let fields = fields.replace("Content-Type=", "X=1&Content-Type=");
        let path = format!("/typed?{fields}");
        let answer = ask(&mut client, "GET", &path, "gzip");
        assert!(answer.body() == text(), "{fields}");
        assert_ne!(answer.header("content-encoding"), Some("gzip"), "{fields}");
    }
    // Short, or without a body.
    let answer = ask(&mut client, "GET", "/short-text", "gzip");
    assert_eq!(answer.header("content-encoding"), None);
    let answer = ask(&mut client, "HEAD", "/text", "gzip");
    assert_eq!(answer.header("content-encoding"), None);
    // Nothing suits: the answer is the app's, not a 406.
    let answer = ask(&mut client, "GET", "/short-text", "identity;q=0");
    assert_eq!(answer.status(), 200);
}

#[test]
fn a_strong_tag_becomes_a_weak_one() {
    let server = start("sync", "files:app", &["--compress", "on"]);
    let mut client = server.connect();
    let path = "/text?ETag=%22a%22";
    let answer = ask(&mut client, "GET", path, "gzip");
    assert_eq!(answer.header("etag"), Some("W/\"a\""));
    assert_eq!(
        ask(&mut client, "GET", path, "").header("etag"),
        Some("\"a\"")
    );
}

/// What comes behind the head.
fn body(all: &[u8]) -> &[u8] {
    let head = all.windows(4).position(|four| four == b"\r\n\r\n");
    head.map_or(&[], |head| &all[head + 4..])
}

/// Whether a beginning of a body is decoded to all of the first piece.
fn starts_with_first(encoding: &str, beginning: &[u8]) -> bool {
    const SCRIPT: &str = r#"
import sys, zlib
name, data = sys.argv[1], sys.stdin.buffer.read()
if name == "identity":
    text = data
elif name == "gzip":
    text = zlib.decompressobj(31).decompress(data)
elif name == "br":
    import brotli
    text = brotli.Decompressor().process(data)
else:
    import zstandard
    text = zstandard.ZstdDecompressor().decompressobj().decompress(data)
sys.stdout.buffer.write(text)
"#;
    python(SCRIPT, encoding, beginning) == b"first piece\n"
}

#[test]
fn a_stream_is_not_held_back() {
    for (driver, app) in [
        ("sync", "files:app"),
        ("gevent", "files:app"),
        ("gthread", "files:app"),
        ("asgi", "files:asgi"),
    ] {
        for encoding in ["identity", "gzip", "br", "zstd"] {
            let server = start(driver, app, &["--compress", "on"]);
            let gate = server.directory().join("gate");
            let mut stream =
                TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
            let timeout = Some(patience());
            stream.set_read_timeout(timeout).expect("a timeout");
            let gate_path = gate.display();
            let request = format!(
                "GET /stream?{gate_path} HTTP/1.0\r\nHost: a\r\nAccept-Encoding: {encoding}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).expect("it reads");
            // All of the first piece is there, while the app waits for the gate.
            let mut all = Vec::new();
            let mut piece = [0; 4096];
            while !starts_with_first(encoding, body(&all)) {
                let read = stream.read(&mut piece).expect("the first piece comes");
                assert_ne!(read, 0, "{driver} {encoding}");
                all.extend_from_slice(&piece[..read]);
            }
            fs::write(&gate, "").expect("a file");
            stream.read_to_end(&mut all).expect("the end comes");
            let body = body(&all);
            assert_eq!(
                decoded(encoding, body),
                b"first piece\nsecond piece\n",
                "{driver}"
            );
        }
    }
}

#[test]
fn a_body_shorter_than_announced_is_cut_compressed_or_not() {
    let server = start("sync", "files:app", &["--compress", "on"]);
    let mut client = server.connect();
    client.send("GET /short HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let answer = client.try_response("GET");
    assert!(answer.is_err(), "it must not look whole");
    server.wait_for_line("bytes before its Content-Length");
}

#[test]
fn static_files_are_compressed_but_not_twice_and_not_in_part() {
    let rgun = Rgun::app("builtin:hello");
    let public = rgun.directory().join("public");
    fs::create_dir(&public).expect("a directory");
    fs::write(public.join("text.txt"), text()).expect("a file");
    fs::write(public.join("ready.txt"), text()).expect("a file");
    fs::write(public.join("ready.txt.gz"), "(gzip)").expect("a file");
    fs::write(public.join("large.txt"), text().repeat(50)).expect("a file");
    let mount = format!("/files={}", public.display());
    let server = rgun.args(["--static", &mount, "--compress", "on"]).start();
    let mut client = server.connect();
    for (name, whole) in [("text.txt", text()), ("large.txt", text().repeat(50))] {
        for encoding in ["gzip", "br", "zstd"] {
            let answer = ask(&mut client, "GET", &format!("/files/{name}"), encoding);
            assert_eq!(answer.header("content-encoding"), Some(encoding));
            assert!(
                answer
                    .header("etag")
                    .is_some_and(|tag| tag.starts_with("W/"))
            );
            assert!(decoded(encoding, answer.body()) == whole);
        }
    }
    assert_eq!(
        ask(&mut client, "GET", "/files/ready.txt", "gzip").text(),
        "(gzip)"
    );
    client.send(
        "GET /files/text.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nRange: bytes=0-9\r\n\r\n",
    );
    let part = client.response();
    assert_eq!((part.status(), part.text().as_str()), (206, "All the sa"));
}

#[test]
fn a_rust_apps_answers_are_compressed_too() {
    let server = Rgun::app("builtin:echo")
        .args(["--compress", "gzip", "--compress-min-size", "10"])
        .start();
    let mut client = server.connect();
    let answer = ask(&mut client, "GET", "/", "gzip");
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let text = decoded("gzip", answer.body());
    assert!(text.starts_with(b"{") && text.ends_with(b"}\n"));
}
