//! Files that apps send: by `wsgi.file_wrapper`, by ASGI's pathsend, and by naming them (`X-Sendfile`).

use std::fs;
use std::path::PathBuf;

use crate::harness::client::{Client, Response};
use crate::harness::{Rgun, Server, patience, process, until};

const DRIVERS: [&str; 3] = ["sync", "gevent", "gthread"];

/// More than is copied, and no number of whole blocks.
fn large() -> Vec<u8> {
    (0..3_000_017_u32)
        .map(|place| place.to_le_bytes()[0] ^ place.to_le_bytes()[2])
        .collect()
}

/// A server whose app may name the files of a directory of its own.
fn start(driver: &str, app: &str) -> (Server, PathBuf) {
    let rgun = Rgun::app(app).args(["-k", driver]);
    let files = rgun.directory().join("files");
    fs::create_dir(&files).expect("a directory");
    fs::write(files.join("digits.txt"), "0123456789").expect("a file");
    fs::write(files.join(".hidden"), "hidden").expect("a file");
    fs::write(files.join("a b.txt"), "spaced").expect("a file");
    fs::write(files.join("large"), large()).expect("a file");
    rgun.write("outside.txt", "outside");
    std::os::unix::fs::symlink("../outside.txt", files.join("out")).expect("a link");
    (rgun.arg("--sendfile-root").arg(&files).start(), files)
}

fn ask(client: &mut Client, method: &str, path: &str, fields: &str) -> Response {
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"
    ));
    client.response_to(method)
}

#[test]
fn a_large_file_of_an_app_is_sent_whole_and_closed() {
    for (driver, app, path) in [
        ("sync", "files:app", "/wrapped"),
        ("gevent", "files:app", "/wrapped"),
        ("gthread", "files:app", "/wrapped"),
        ("asgi", "files:asgi", "/path"),
    ] {
        let (server, files) = start(driver, app);
        let pid = server.wait_for_workers(1)[0];
        let file = files.join("large");
        let open = || {
            process::open_files(pid)
                .into_iter()
                .filter(|path| *path == file)
                .count()
        };
        let mut client = server.connect();
        for _ in 0..2 {
            let answer = client.get(&format!("{path}?{}", file.display()));
            assert!(answer.body() == large(), "{driver}");
        }
        until("it is closed", patience(), || open() == 0);
        // A client that leaves in the middle.
        let huge = files.join("huge");
        fs::File::create(&huge)
            .and_then(|file| file.set_len(100 << 20))
            .expect("a file");
        client.send_get(&format!("{path}?{}", huge.display()));
        until("the answer begins", patience(), || client.has_bytes());
        drop(client);
        until("it is closed, too", patience(), || {
            !process::open_files(pid).contains(&huge)
        });
        assert_eq!(server.count_lines("[ERROR]"), 0, "{driver}");
        assert_eq!(server.get("/text").response().status(), 200);
    }
}

#[test]
fn a_file_of_an_app_that_shrinks_cuts_the_connection() {
    for (driver, app, path) in [
        ("sync", "files:app", "/wrapped"),
        ("asgi", "files:asgi", "/path"),
    ] {
        let (server, files) = start(driver, app);
        let huge = files.join("huge");
        let file = fs::File::create(&huge).expect("a file");
        file.set_len(64 << 20).expect("it is sparse");
        let mut client = server.connect();
        client.send_get(&format!("{path}?{}", huge.display()));
        until("the answer begins", patience(), || client.has_bytes());
        file.set_len(1000).expect("it is ours");
        assert!(
            client.try_response("GET").is_err(),
            "{driver}: it must not look whole"
        );
        server.wait_for_line("became shorter while it was sent");
        assert_eq!(server.get("/text").response().status(), 200);
        assert_eq!(server.count_lines("became shorter"), 1);
    }
}

#[test]
fn a_file_that_the_app_names_is_sent_in_place_of_its_body() {
    for driver in DRIVERS {
        let (server, files) = start(driver, "files:app");
        let mut client = server.connect();
        let full = files.join("digits.txt").display().to_string();
        for name in ["digits.txt", &full] {
            let answer = client.get(&format!("/named?{name}"));
            assert_eq!(
                (answer.status(), &*answer.text()),
                (200, "0123456789"),
                "{driver}"
            );
            assert_eq!(answer.header("content-type"), Some("text/csv"));
            assert_eq!(answer.header("x-app"), Some("was here"));
            assert_eq!(answer.header("x-sendfile"), None);
            assert_eq!(answer.all("content-length"), ["10"]);
        }
        assert!(client.get("/named?large").body() == large(), "{driver}");
        assert_eq!(client.get("/named?.hidden").text(), "hidden");
        assert_eq!(client.get("/named?a%20b.txt").text(), "spaced");
        let part = ask(
            &mut client,
            "GET",
            "/named?digits.txt",
            "Range: bytes=2-4\r\n",
        );
        assert_eq!((part.status(), &*part.text()), (206, "234"));
        let tag = client
            .get("/named?digits.txt")
            .header("etag")
            .expect("a tag")
            .to_owned();
        let fields = format!("If-None-Match: {tag}\r\n");
        let same = ask(&mut client, "GET", "/named?digits.txt", &fields);
        assert_eq!(
            (same.status(), same.header("x-app")),
            (304, Some("was here"))
        );
        let head = ask(&mut client, "HEAD", "/named?digits.txt", "");
        assert_eq!(head.header("content-length"), Some("10"));
        // A page of the app's own for what is wrong: it stays so, whole.
        let fields = "Range: bytes=2-4\r\n";
        let page = ask(
            &mut client,
            "GET",
            "/named?digits.txt,403+Forbidden",
            fields,
        );
        assert_eq!(
            (page.status(), &*page.text()),
            (403, "0123456789"),
            "{driver}"
        );
        let post = ask(&mut client, "POST", "/named?digits.txt", fields);
        assert_eq!((post.status(), &*post.text()), (200, "0123456789"));
    }
}

#[test]
fn an_app_can_name_no_file_elsewhere() {
    let (server, files) = start("sync", "files:app");
    let outside = server.directory().join("outside.txt").display().to_string();
    let mut client = server.connect();
    let dots = format!("{}/../outside.txt", files.display());
    for name in [
        "../outside.txt",
        "%2e%2e/outside.txt",
        &outside,
        &dots,
        "/etc/passwd",
        "out",
        "missing",
        ".",
        "",
    ] {
        let answer = client.get(&format!("/named?{name}"));
        assert_eq!(answer.status(), 404, "{name}: {}", answer.text());
        assert!(!answer.text().contains("outside"), "{name}");
    }
    assert!(server.count_lines("X-Sendfile: there is no file") >= 8);
}

#[test]
fn without_a_directory_the_field_is_like_any_other() {
    let server = Rgun::app("files:app").args(["-k", "sync"]).start();
    let answer = server.get("/named?/etc/passwd").response();
    assert_eq!(answer.text(), "not this");
    assert_eq!(answer.header("x-sendfile"), Some("/etc/passwd"));
}

#[test]
fn an_asgi_app_names_files_too() {
    let (server, _) = start("asgi", "files:asgi");
    let mut client = server.connect();
    assert_eq!(client.get("/named?digits.txt").text(), "0123456789");
    assert!(client.get("/named?large").body() == large());
    assert_eq!(client.get("/named?../outside.txt").status(), 404);
}
