//! `--static` and `builtin:static:`: files are served without the app, whole, in part or not at all, and never others.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::harness::client::{Client, Response};
use crate::harness::{Rgun, Server, patience, process, secs, until};

/// A directory with files of every kind, in the server's own.
fn fill(rgun: &Rgun) -> PathBuf {
    let public = rgun.directory().join("public");
    for directory in ["", "site", "empty", ".git", ".well-known", "secret"] {
        fs::create_dir_all(public.join(directory)).expect("a directory");
    }
    for (name, text) in [
        ("digits.txt", "0123456789"),
        ("site/index.html", "<p>home"),
        ("style.css", "body { color: red }"),
        ("style.css.br", "(brotli)"),
        ("style.css.gz", "(gzip)"),
        ("style.css.zst", "(zstd)"),
        (".env", "PASSWORD=x"),
        (".git/config", "[core]"),
        (".well-known/security.txt", "Contact: x"),
        ("100% sure.txt", "sure"),
        ("unreadable", "x"),
    ] {
        fs::write(public.join(name), text).expect("a file");
    }
    rgun.write("outside.txt", "outside");
    symlink("../outside.txt", public.join("out.txt")).expect("a link");
    symlink("digits.txt", public.join("in.txt")).expect("a link");
    symlink("..", public.join("up")).expect("a link");
    nix::unistd::mkfifo(&public.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    fs::write(public.join("large"), large()).expect("a file");
    public
}

/// More than is copied, and no number of whole blocks.
fn large() -> Vec<u8> {
    (0..3_000_017_u32)
        .map(|place| place.to_le_bytes()[0] ^ place.to_le_bytes()[2])
        .collect()
}

/// A server of `files:app` whose `/assets` are files.
fn start(more: &[&str]) -> (Server, PathBuf) {
    let rgun = Rgun::app("files:app").args(["-k", "sync"]).args(more);
    let public = fill(&rgun);
    let mount = format!("/assets={}", public.display());
    (rgun.args(["--static", &mount]).start(), public)
}

fn ask(client: &mut Client, method: &str, path: &str, fields: &str) -> Response {
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"
    ));
    client.response_to(method)
}

#[test]
fn files_are_served_without_the_app() {
    let (server, _) = start(&[]);
    let mut client = server.connect();
    let answer = client.get("/assets/digits.txt");
    assert_eq!((answer.status(), &*answer.text()), (200, "0123456789"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert!(answer.header("etag").is_some() && answer.header("last-modified").is_some());
    let answer = client.get("/assets/100%25%20sure.txt?v=1");
    assert_eq!(answer.text(), "sure");
    assert_eq!(client.get("/assets/large").body(), large());
    // The same connection, with a request behind it.
    client.send("GET /assets/large HTTP/1.1\r\nHost: a\r\n\r\nGET /assets/in.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().body(), large());
    assert_eq!(client.response().text(), "0123456789");
    for path in ["/", "/assetsdigits.txt", "/%61ssets/digits.txt", "/other"] {
        assert!(
            client.get(path).text().starts_with("the app was asked"),
            "{path}"
        );
    }
}

#[test]
fn a_directory_is_its_index_or_not_there() {
    let (server, _) = start(&[]);
    let mut client = server.connect();
    for (path, to) in [
        ("/assets", "/assets/"),
        ("/assets/site?a=b", "/assets/site/?a=b"),
        ("/assets//site", "/assets/site/"),
    ] {
        let answer = client.get(path);
        assert_eq!(
            (answer.status(), answer.header("location")),
            (307, Some(to))
        );
    }
    assert_eq!(client.get("/assets/site/").text(), "<p>home");
    for path in [
        "/assets/",
        "/assets/empty/",
        "/assets/digits.txt/",
        "/assets/missing",
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status(), 404, "{path}");
        assert!(
            answer.text().contains("Not Found") && !answer.says_close(),
            "{path}"
        );
    }
}

#[test]
fn what_is_not_to_be_seen_is_not_there() {
    let (server, public) = start(&[]);
    let hidden = fs::Permissions::from_mode(0o000);
    fs::set_permissions(public.join("unreadable"), hidden).expect("its permissions");
    let mut client = server.connect();
    let long = format!("/assets/{}", "a".repeat(300));
    let absolute = format!("/assets/{}/public/digits.txt", server.directory().display());
    for path in [
        "/assets/../outside.txt",
        "/assets/site/../../outside.txt",
        "/assets/%2e%2e/outside.txt",
        "/assets/..%2foutside.txt",
        "/assets/%2e%2e%2foutside.txt",
        "/assets/site/%2e%2e/%2e%2e/outside.txt",
        "/assets/digits.txt%00",
        "/assets/digits.txt%00.html",
        "/assets//etc/passwd",
        "/assets/%2fetc/passwd",
        "/assets/out.txt",
        "/assets/up/outside.txt",
        "/assets/up/public/digits.txt",
        "/assets/.env",
        "/assets/.git/config",
        "/assets/%2egit/config",
        "/assets/pipe",
        "/assets/%ff",
        &long,
        &absolute,
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&mut client, method, path, "");
            assert_eq!(answer.status(), 404, "{method} {path}: {}", answer.text());
        }
    }
    assert_eq!(client.get("/assets/in.txt").text(), "0123456789");
    assert_eq!(
        client.get("/assets/.well-known/security.txt").text(),
        "Contact: x"
    );
    // Root may read it all the same.
    let unreadable = client.get("/assets/unreadable").status();
    let may = nix::unistd::geteuid().is_root();
    assert_eq!(unreadable, if may { 200 } else { 404 });
    assert_eq!(server.count_lines("Cannot serve"), 0);
}

#[test]
fn links_out_are_followed_where_that_is_asked_for() {
    let (server, _) = start(&["--static-follow-symlinks"]);
    assert_eq!(server.get("/assets/out.txt").response().text(), "outside");
    let dots = server.get("/assets/../outside.txt").response();
    assert_eq!(dots.status(), 404);
}

#[test]
fn only_get_and_head_are_answered() {
    let (server, _) = start(&[]);
    let mut client = server.connect();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let fields = "Content-Length: 3\r\n";
        client.send(format!(
            "{method} /assets/digits.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\nabc"
        ));
        let answer = client.response();
        assert_eq!(
            (answer.status(), answer.header("allow")),
            (405, Some("GET,HEAD"))
        );
    }
    for (path, length) in [("digits.txt", "10"), ("large", "3000017")] {
        let answer = ask(&mut client, "HEAD", &format!("/assets/{path}"), "");
        assert_eq!(
            (answer.status(), answer.header("content-length")),
            (200, Some(length))
        );
    }
    assert_eq!(client.get("/assets/digits.txt").text(), "0123456789");
}

#[test]
fn parts_of_files_are_sent_by_range() {
    let (server, _) = start(&[]);
    let mut client = server.connect();
    let large = large();
    let length = large.len();
    for (range, part) in [
        ("0-9", 0..10),
        ("2999000-", 2_999_000..length),
        ("-17", length - 17..length),
        ("100000-2900000", 100_000..2_900_001),
        ("5-99999999", 5..length),
    ] {
        let fields = format!("Range: bytes={range}\r\n");
        let answer = ask(&mut client, "GET", "/assets/large", &fields);
        assert_eq!(answer.status(), 206, "{range}");
        let stated = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        assert_eq!(answer.header("content-range"), Some(&*stated));
        assert!(answer.body() == &large[part], "{range}");
    }
    let range = |range: &str| format!("Range: {range}\r\n");
    for none in ["bytes=0-1,5-6", "lines=1-2"] {
        let answer = ask(&mut client, "GET", "/assets/digits.txt", &range(none));
        assert_eq!(
            (answer.status(), &*answer.text()),
            (200, "0123456789"),
            "{none}"
        );
    }
    let answer = ask(
        &mut client,
        "GET",
        "/assets/digits.txt",
        &range("bytes=10-"),
    );
    assert_eq!(answer.status(), 416);
    assert_eq!(answer.header("content-range"), Some("bytes */10"));
    // RFC 9110 section 13.1.5.
    for (validator, status) in [("\"other\"", 200), ("Thu, 01 Jan 1970 00:00:00 GMT", 200)] {
        let fields = format!("Range: bytes=2-4\r\nIf-Range: {validator}\r\n");
        let answer = ask(&mut client, "GET", "/assets/digits.txt", &fields);
        assert_eq!(answer.status(), status);
    }
    let tag = client
        .get("/assets/digits.txt")
        .header("etag")
        .expect("a tag")
        .to_owned();
    let fields = format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n");
    let answer = ask(&mut client, "GET", "/assets/digits.txt", &fields);
    assert_eq!((answer.status(), &*answer.text()), (206, "234"));
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let (server, public) = start(&[]);
    let mut client = server.connect();
    let answer = client.get("/assets/digits.txt");
    let header = |answer: &Response, name: &str| answer.header(name).expect(name).to_owned();
    let (tag, date) = (header(&answer, "etag"), header(&answer, "last-modified"));
    for (fields, status) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: \"a\", W/{tag}\r\n"), 304),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"other\"\r\n".to_owned(), 200),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        (
            "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(),
            200,
        ),
        // The tag counts, not the date.
        (
            format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {date}\r\n"),
            200,
        ),
        ("If-Match: \"other\"\r\n".to_owned(), 412),
        (
            "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(),
            412,
        ),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&mut client, method, "/assets/digits.txt", &fields);
            assert_eq!(answer.status(), status, "{method} {fields}");
        }
    }
    fs::write(public.join("digits.txt"), "9876543210-").expect("it can be written");
    let fields = format!("If-None-Match: {tag}\r\n");
    let answer = ask(&mut client, "GET", "/assets/digits.txt", &fields);
    assert_eq!((answer.status(), &*answer.text()), (200, "9876543210-"));
}

#[test]
fn a_compressed_file_beside_it_is_sent_to_who_takes_that() {
    let (server, _) = start(&[]);
    let mut client = server.connect();
    for (accepts, encoding, text) in [
        ("gzip, deflate, br, zstd", Some("zstd"), "(zstd)"),
        ("gzip, br", Some("br"), "(brotli)"),
        ("gzip", Some("gzip"), "(gzip)"),
        ("zstd, gzip;q=0.5", Some("zstd"), "(zstd)"),
        ("br;q=0, gzip;q=0.1", Some("gzip"), "(gzip)"),
        ("identity", None, "body { color: red }"),
        ("deflate", None, "body { color: red }"),
    ] {
        let fields = format!("Accept-Encoding: {accepts}\r\n");
        let answer = ask(&mut client, "GET", "/assets/style.css", &fields);
        assert_eq!(
            (answer.header("content-encoding"), &*answer.text()),
            (encoding, text)
        );
        assert_eq!(answer.header("content-type"), Some("text/css"));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    let fields = "Accept-Encoding: br, gzip\r\n";
    let answer = ask(&mut client, "GET", "/assets/digits.txt", fields);
    assert_eq!(
        (answer.header("content-encoding"), &*answer.text()),
        (None, "0123456789")
    );
}

#[test]
fn a_directory_can_be_all_there_is() {
    let rgun = Rgun::bare();
    let public = fill(&rgun);
    let server = rgun.chdir(&public).arg("builtin:static:.").start();
    let mut client = server.connect();
    assert_eq!(client.get("/digits.txt").text(), "0123456789");
    assert_eq!(client.get("/site/").text(), "<p>home");
    assert_eq!(client.get("/").status(), 404);
    assert_eq!(client.get("/../outside.txt").status(), 404);
    let answer = client.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status(), 405);
}

#[test]
fn the_prefix_and_the_directory_are_checked() {
    let check = |args: &[&str], why: &str| {
        let server = Rgun::app("builtin:hello").args(args).spawn();
        server.assert_exits(1).within(patience());
        let log = server.log().join("\n");
        assert!(log.contains(why), "{args:?}: {log}");
    };
    check(&["--static", "assets=."], "no path of a URL");
    check(&["--static", "/assets"], "NAME=VALUE");
    check(&["--static", "/assets=/no/such"], "no such directory");
    check(&["--static", "/=/tmp"], "would hide the app");
    check(
        &["--static", "/a=/tmp", "--static", "/a/=/tmp"],
        "is there twice",
    );
    check(&["--sendfile-root", "/no/such"], "no such directory");
    check(&["--compress", "rar"], "rar");
}

#[test]
fn a_reload_takes_other_directories() {
    let rgun = Rgun::app("files:app").args(["-k", "sync"]);
    let public = fill(&rgun);
    let config = rgun.directory().join("rgun.toml");
    let write = |prefix: &str| {
        let text = format!(
            "[static]\n\"{prefix}\" = {:?}\n",
            public.display().to_string()
        );
        fs::write(&config, text).expect("it can be written");
    };
    write("/one");
    let server = rgun.arg("-c").arg(&config).start();
    assert_eq!(
        server.get("/one/digits.txt").response().text(),
        "0123456789"
    );
    write("/two");
    server.signal(Signal::SIGHUP);
    until("the new directory is served", patience(), || {
        server.get("/two/digits.txt").response().text() == "0123456789"
    });
    until("the old one is the app's", patience(), || {
        server
            .get("/one/digits.txt")
            .response()
            .text()
            .starts_with("the app")
    });
}

#[test]
fn a_slow_reader_of_a_large_file_costs_no_memory_and_holds_nobody() {
    let (server, public) = start(&[]);
    let file = fs::File::create(public.join("huge")).expect("a file");
    file.set_len(100 << 20).expect("it is sparse");
    let pid = server.wait_for_workers(1)[0];
    assert_eq!(server.get("/assets/digits.txt").response().status(), 200);
    let before = process::status(pid, "VmRSS");
    let mut slow: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = server.connect();
            client.send_get("/assets/huge");
            until("the answer begins", patience(), || client.has_bytes());
            client
        })
        .collect();
    for _ in 0..20 {
        let answer = server.get("/assets/digits.txt").response();
        assert_eq!(answer.text(), "0123456789");
        assert_eq!(server.get("/").response().status(), 200);
    }
    let after = process::status(pid, "VmRSS");
    assert!(after < before + 10 * 1024, "{before} kB, then {after} kB");
    let mut last = slow.pop().expect("twenty");
    drop(slow);
    assert_eq!(last.response().body().len(), 100 << 20);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_cuts_the_connection() {
    let (server, public) = start(&[]);
    let path = public.join("shrinks");
    let mut file = fs::File::create(&path).expect("a file");
    file.write_all(&vec![b'x'; 64 << 20]).expect("its bytes");
    let mut client = server.connect();
    client.send_get("/assets/shrinks");
    until("the answer begins", patience(), || client.has_bytes());
    file.set_len(1000).expect("it is ours");
    let answer = client.try_response("GET");
    assert!(answer.is_err(), "it must not look whole");
    let line = server.wait_for_line("became shorter while it was sent");
    assert!(line.contains("GET /assets/shrinks"), "{line}");
    assert_eq!(server.get("/assets/digits.txt").response().status(), 200);
    assert_eq!(server.count_lines("became shorter"), 1);
    assert_eq!(server.count_lines("[ERROR]"), 1);
}

#[test]
fn a_client_that_leaves_ends_its_file_and_the_log_says_what_it_got() {
    let (server, public) = start(&["--access-logfile", "-"]);
    let file = fs::File::create(public.join("huge")).expect("a file");
    file.set_len(100 << 20).expect("it is sparse");
    let pid = server.wait_for_workers(1)[0];
    let open = || {
        let huge = public.join("huge");
        process::open_files(pid)
            .into_iter()
            .filter(|path| *path == huge)
            .count()
    };
    let mut client = server.connect();
    client.send_get("/assets/huge");
    until("the answer begins", patience(), || client.has_bytes());
    assert_eq!(open(), 1);
    drop(client);
    until("the file is closed", patience(), || open() == 0);
    let line = server.wait_for_output("GET /assets/huge", 1).swap_remove(0);
    let sent: u64 = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .filter(|number| *number != 200)
        .max()
        .expect("a number of bytes");
    assert!(sent > 0 && sent < 100 << 20, "{line}");
    assert_eq!(
        server.get("/assets/large").response().body().len(),
        large().len()
    );
    let whole = server
        .wait_for_output("GET /assets/large", 1)
        .swap_remove(0);
    assert!(whole.contains(" 200 3000017 "), "{whole}");
    assert_eq!(server.count_lines("[ERROR]"), 0);
}

#[test]
fn files_go_over_a_unix_socket_too() {
    let rgun = Rgun::bare();
    let public = fill(&rgun);
    let socket = rgun.directory().join("socket");
    let server = rgun
        .bind(format!("unix:{}", socket.display()))
        .arg(format!("builtin:static:{}", public.display()))
        .start();
    let mut client = server.connect();
    assert_eq!(client.get("/large").body(), large());
    assert_eq!(client.get("/digits.txt").text(), "0123456789");
}

#[test]
fn a_drain_waits_for_a_file_on_its_way() {
    let (server, public) = start(&[]);
    let file = fs::File::create(public.join("huge")).expect("a file");
    file.set_len(32 << 20).expect("it is sparse");
    let mut client = server.connect();
    client.send_get("/assets/huge");
    until("the answer begins", patience(), || client.has_bytes());
    server.signal(Signal::SIGTERM);
    server.wait_for_line("Handling signal: term");
    let answer = client.response();
    assert_eq!(answer.body().len(), 32 << 20);
    server.assert_exits(0).within(secs(10));
}

/// As much as is copied and a little less than that, no two pieces of it the same.
fn medium() -> Vec<u8> {
    (0..10_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_file_that_changes_between_two_requests_is_never_the_old_one() {
    let (server, public) = start(&[]);
    let mut client = server.connect();
    let mut ask = |fields: &str| ask(&mut client, "GET", "/assets/page.txt", fields);
    let takes_all = "Accept-Encoding: gzip, br\r\n";
    fs::write(public.join("page.txt"), "first").expect("a file");
    let first = ask("");
    for fields in ["", takes_all, "", takes_all] {
        let again = ask(fields);
        assert_eq!(again.text(), "first");
        assert_eq!(again.header("etag"), first.header("etag"));
        assert_eq!(again.header("content-length"), Some("5"));
    }
    fs::write(public.join("page.txt"), "second one").expect("a file");
    for fields in ["", takes_all] {
        let answer = ask(fields);
        assert_eq!(answer.text(), "second one");
        assert_ne!(answer.header("etag"), first.header("etag"));
    }
    fs::write(public.join("page.txt.gz"), "(gzip)").expect("a file");
    assert_eq!(ask("").text(), "second one");
    for _ in 0..2 {
        let answer = ask(takes_all);
        assert_eq!(answer.text(), "(gzip)");
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
    }
    fs::remove_file(public.join("page.txt.gz")).expect("it was there");
    assert_eq!(ask(takes_all).text(), "second one");
    let part = ask("Range: bytes=0-2\r\n");
    assert_eq!((part.status(), &*part.text()), (206, "sec"));
    let tag = ask("").header("etag").expect("a tag").to_owned();
    assert_eq!(ask(&format!("If-None-Match: {tag}\r\n")).status(), 304);
    fs::remove_file(public.join("page.txt")).expect("it was there");
    assert_eq!(ask("").status(), 404);
    symlink("../outside.txt", public.join("page.txt")).expect("a link");
    assert_eq!(ask("").status(), 404);
    fs::remove_file(public.join("page.txt")).expect("it was there");
    fs::create_dir(public.join("page.txt")).expect("a directory");
    assert_eq!(ask("").status(), 307);
}

#[test]
fn pipelined_files_come_in_order_whatever_is_between_them() {
    let (server, public) = start(&[]);
    fs::write(public.join("medium"), medium()).expect("a file");
    let asked = [
        ("GET", "/assets/medium", ""),
        ("GET", "/assets/digits.txt", ""),
        ("GET", "/between", ""),
        ("HEAD", "/assets/medium", ""),
        ("GET", "/assets/medium", "Range: bytes=5-9\r\n"),
        ("GET", "/assets/large", ""),
        ("GET", "/assets/missing", ""),
    ];
    let mut client = server.connect();
    let requests: Vec<String> = asked
        .iter()
        .map(|(method, path, fields)| {
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
        })
        .collect();
    client.send(requests.concat().repeat(30));
    for _ in 0..30 {
        assert_eq!(client.response().body(), medium());
        assert_eq!(client.response().text(), "0123456789");
        assert_eq!(client.response().text(), "the app was asked for /between");
        let head = client.response_to("HEAD");
        assert_eq!(head.header("content-length"), Some("40000"));
        assert_eq!(client.response().body(), &medium()[5..10]);
        assert_eq!(client.response().body(), large());
        assert_eq!(client.response().status(), 404);
    }
    assert_eq!(server.count_lines("[ERROR]"), 0);
}

#[test]
fn a_client_that_reads_late_gets_every_small_file_whole() {
    let (server, public) = start(&[]);
    fs::write(public.join("medium"), medium()).expect("a file");
    let mut client = server.connect();
    let count = 400;
    let request = "GET /assets/medium HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(request.repeat(count));
    // More than the kernel holds: the server waits in the middle of one.
    until("the answers begin", patience(), || client.has_bytes());
    assert_eq!(
        server.get("/assets/digits.txt").response().text(),
        "0123456789"
    );
    for _ in 0..count {
        assert_eq!(client.response().body(), medium());
    }
    assert_eq!(client.get("/assets/digits.txt").text(), "0123456789");
}

#[test]
fn what_is_said_to_the_next_request_comes_after_the_file() {
    let rgun = Rgun::bare();
    let public = fill(&rgun);
    fs::write(public.join("medium"), medium()).expect("a file");
    let mount = format!("/assets={}", public.display());
    let server = rgun.args(["--static", &mount, "builtin:echo"]).start();
    let mut client = server.connect();
    for _ in 0..20 {
        client.send(
            "GET /assets/medium HTTP/1.1\r\nHost: a\r\n\r\n\
             POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        assert_eq!(client.response().body(), medium());
        let interim = client.one_response("POST").expect("an answer");
        assert_eq!(interim.status(), 100);
        client.send("hello");
        assert!(client.response_to("POST").text().contains("hello"));
    }
}
