//! `rgun-async uwsgi`: the test client.

use super::{builtin, front};
use crate::harness::tools::free_port;
use crate::harness::{Rgun, Server, patience};

/// The command `uwsgi`, ended with `code`; its output.
#[track_caller]
fn uwsgi(code: i32, words: &[&str]) -> String {
    let command = command(words);
    command.assert_exits(code).within(patience());
    command.output().join("\n")
}

fn command(words: &[&str]) -> Server {
    let rgun = Rgun::bare().configured_for(0).arg("uwsgi").args(words);
    rgun.spawn()
}

/// Where `server` listens, as the command line takes it.
fn place(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

#[test]
fn prints_the_answer_as_curl_does() {
    let server = builtin("hello").start();
    let said = uwsgi(0, &["get", &place(&server), "/"]);
    let (head, body) = said.split_once("\n\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.0 200 OK"), "{said}");
    assert!(head.contains("content-length: 12"), "{said}");
    assert_eq!(body, "hello world!");
    let said = uwsgi(0, &["head", &place(&server), "/"]);
    assert!(said.contains("content-length: 12"), "{said}");
    assert!(!said.contains("hello"), "{said}");
}

#[test]
fn sends_what_it_is_told() {
    let rgun = front("sync");
    let socket = rgun.directory().join("s");
    let file = rgun.write("body", &"x".repeat(200_000));
    let address = format!("uwsgi:unix:{}", socket.display());
    let _server = rgun.bind(&address).start();
    let said = uwsgi(
        0,
        &[
            "get",
            &address,
            "/a%20b?c",
            "--header",
            "X-Mine: yes",
            "--var",
            "REMOTE_ADDR=192.0.2.1",
            "--var",
            "HTTPS=on",
        ],
    );
    for part in [
        "\"PATH_INFO\": \"/a b\"",
        "\"QUERY_STRING\": \"c\"",
        "\"HTTP_X_MINE\": \"yes\"",
        "\"REMOTE_ADDR\": \"192.0.2.1\"",
        "\"wsgi.url_scheme\": \"https\"",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let said = uwsgi(0, &["post", &address, "/digest", "--data", "abc"]);
    assert!(said.contains("\n\n[3, "), "{said}");
    let data = format!("@{}", file.display());
    let said = uwsgi(0, &["post", &address, "/digest", "--data", &data]);
    assert!(said.contains("\n\n[200000, "), "{said}");
    // An answer that comes while the request is still on its way.
    let said = uwsgi(0, &["post", &address, "/unread", "--data", &data]);
    assert!(said.ends_with("unread"), "{said}");
}

#[test]
fn tells_by_its_exit_code_what_came_of_it() {
    let server = builtin("hello")
        .args(["--uwsgi-allow-from", "10.0.0.1"])
        .start();
    let said = uwsgi(22, &["get", &place(&server), "/"]);
    assert!(said.starts_with("HTTP/1.1 403 Forbidden"), "{said}");
    let server = builtin("hello").start();
    let said = uwsgi(22, &["get", &place(&server), "/", "--modifier1", "5"]);
    assert!(said.starts_with("HTTP/1.1 501 "), "{said}");
    assert_eq!(uwsgi(2, &["get", "nowhere"]), "");
    assert!(uwsgi(0, &["--help"]).contains("Exit codes:"));
    let nobody = format!("127.0.0.1:{}", free_port());
    let refused = command(&["get", &nobody, "/"]);
    refused.assert_exits(1).within(patience());
    refused.wait_for_line(&format!("Error: cannot connect to {nobody}: "));
    // Who speaks HTTP does not understand, and says so in its own way.
    let http = Rgun::app("builtin:hello")
        .args(["--header-timeout", "60"])
        .start();
    let silent = command(&["get", &place(&http), "/", "--timeout", "1"]);
    silent.assert_exits(1).within(patience());
    silent.wait_for_line("Error: no word from the server for 1 s");
}
