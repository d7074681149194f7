//! A Django project with its database, under every driver: the same visit to the same shop, by WSGI and by ASGI.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::browser::field;
use crate::harness::{Browser, Rgun, Server, apps, patience, venv};

const HOST: &str = "shop.test";

/// A database of its own with a user and 2,000 orders, and two workers that share it.
fn open(app: &str, driver: &[&str]) -> Server {
    let site = apps().join("frameworks");
    let rgun = Rgun::app(app)
        .chdir(&site)
        .args(driver)
        .args(["--keep-alive", "30"]);
    let data = rgun.directory();
    let filled = Command::new(venv().join("bin/python3"))
        .args(["-m", "shop.fill"])
        .current_dir(&site)
        .env("SHOP_DATA", &data)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("the venv's python runs");
    assert!(
        filled.status.success(),
        "{}",
        String::from_utf8_lossy(&filled.stderr)
    );
    rgun.env("SHOP_DATA", data).workers(2).start()
}

fn close(server: &Server) {
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
}

/// As `sha256sum` has it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("coreutils are here");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(bytes).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout)
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Bytes of every value, in no short period.
fn picture(length: usize) -> Vec<u8> {
    let mut state: u32 = 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn sessions_are_kept_apart(server: &Server) {
    let (mut one, mut other) = (Browser::of(server, HOST), Browser::of(server, HOST));
    for visit in 1..=5 {
        assert_eq!(one.get("/").text(), format!("visit {visit}"));
    }
    assert_eq!(other.get("/").text(), "visit 1");
    assert_ne!(one.cookie("sessionid"), other.cookie("sessionid"));
}

fn a_member_logs_in_and_out(server: &Server) {
    let mut ann = Browser::of(server, HOST);
    let sent_away = ann.get("/members/");
    assert_eq!(
        (sent_away.status(), sent_away.header("location")),
        (302, Some("/login/?next=/members/"))
    );
    let page = ann.get("/login/?next=/members/");
    let token = field(&page, "csrfmiddlewaretoken");
    let said = |password| {
        [
            ("csrfmiddlewaretoken", token.as_str()),
            ("username", "ann"),
            ("password", password),
        ]
    };
    let wrong = ann.post_form("/login/?next=/members/", &said("Sesame"));
    assert_eq!(wrong.status(), 200, "the form again");
    assert!(wrong.text().contains("enter a correct username"));
    let right = ann.post_form("/login/?next=/members/", &said("sesame"));
    assert_eq!(
        (right.status(), right.header("location")),
        (302, Some("/members/"))
    );
    assert_eq!(ann.get("/members/").text(), "hello, ann");
    assert_eq!(
        Browser::of(server, HOST).get("/members/").status(),
        302,
        "only she is logged in"
    );
    let token = ann.cookie("csrftoken").expect("a cookie").to_owned();
    let out = ann.post_form("/logout/", &[("csrfmiddlewaretoken", &token)]);
    assert_eq!(out.status(), 302);
    assert_eq!(ann.get("/members/").status(), 302);
}

fn a_form_is_guarded_validated_and_kept(server: &Server) {
    let mut browser = Browser::of(server, HOST);
    let forged = browser.post_form("/orders/", &[("item", "teapot"), ("count", "3")]);
    assert_eq!(forged.status(), 403, "without its token");
    let page = browser.get("/orders/");
    assert!(page.text().contains("<li>1999 x thing 1999</li>"));
    let token = field(&page, "csrfmiddlewaretoken");
    let mut order = |item, count| {
        let fields = [
            ("csrfmiddlewaretoken", token.as_str()),
            ("item", item),
            ("count", count),
        ];
        browser.post_form("/orders/", &fields)
    };
    let bad = order("teapot", "-1");
    assert_eq!(bad.status(), 400);
    assert!(bad.text().contains("greater than or equal to 0"));
    // Text of other alphabets, and what HTML has to escape.
    let good = order("Kännchen & Löffel \u{2615}", "3");
    assert_eq!(
        (good.status(), good.header("location")),
        (302, Some("/orders/"))
    );
    let page = browser.get("/orders/").text();
    assert!(
        page.contains("<li>3 x Kännchen &amp; Löffel \u{2615}</li>"),
        "{}",
        &page[page.len() - 1000..]
    );
}

fn a_file_of_several_megabytes_comes_back_as_it_was(server: &Server) {
    let mut browser = Browser::of(server, HOST);
    let token = field(&browser.get("/pictures/"), "csrfmiddlewaretoken");
    let bytes = picture(5_000_001);
    let fields = [
        ("csrfmiddlewaretoken", token.as_str()),
        ("title", "a picture"),
    ];
    let answer = browser.upload("/pictures/", &fields, &[("file", "../a.bin", &bytes)]);
    assert_eq!(answer.status(), 201, "{}", answer.text());
    let stored = answer.json();
    assert_eq!(stored["size"], bytes.len());
    assert_eq!(stored["digest"], digest(&bytes));
    assert_eq!(stored["title"], "a picture");
    let path = format!("/pictures/{}/", stored["number"]);
    let back = browser.get(&path);
    assert!(back.body() == bytes, "{} bytes came", back.body().len());
    assert_eq!(
        back.header("content-disposition"),
        Some("attachment; filename=\"picture.bin\"")
    );
    let head = browser.ask("HEAD", &path, &[], b"");
    assert_eq!(head.header("content-length"), Some("5000001"));
    assert_eq!(browser.get("/pictures/77/").status(), 404);
}

fn streams_of_rows(server: &Server, path: &str) {
    let answer = Browser::of(server, HOST).get(path);
    let text = answer.text();
    assert!(
        text.starts_with("item,count\nthing 0,0\nthing 1,1\n"),
        "{path}: {text:.200}"
    );
    assert!(text.contains("\nthing 1999,1999\n"), "{path}");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_eq!(answer.header("content-type"), Some("text/csv"));
}

fn a_coroutine_answers(server: &Server) {
    let summary = Browser::of(server, HOST).get("/summary/").json();
    assert!(summary["orders"].as_u64() >= Some(2000));
    assert_eq!(summary["waited"], serde_json::json!([1, 2]));
}

fn static_files_and_errors_are_djangos(server: &Server) {
    let mut browser = Browser::of(server, HOST);
    let css = browser.get("/static/shop.css");
    assert_eq!(
        css.body(),
        fs::read(apps().join("frameworks/shop/static/shop.css")).expect("the file"),
    );
    let since = css.header("last-modified").expect("its date").to_owned();
    let headers = [("If-Modified-Since", since.as_str())];
    assert_eq!(
        browser
            .ask("GET", "/static/shop.css", &headers, b"")
            .status(),
        304
    );
    assert_eq!(browser.get("/static/../settings.py").status(), 400);
    assert_eq!(browser.get("/no-such-page/").status(), 404);
    assert_eq!(browser.ask("PUT", "/orders/", &[], b"x").status(), 403);
    assert_eq!(
        Browser::of(server, "elsewhere.test").get("/").status(),
        400,
        "not in ALLOWED_HOSTS"
    );
    let broken = browser.get("/broken/");
    assert_eq!(broken.status(), 500);
    assert!(
        !broken.text().contains("broken"),
        "the client learns nothing"
    );
    server.wait_for_line("RuntimeError: this page is broken");
    assert_eq!(browser.get("/no-such-page/").status(), 404, "it lives on");
}

fn the_request_is_told_truly(server: &Server, kind: &str) {
    let mut browser = Browser::of(server, HOST);
    let seen = browser.get("/where/?q=%C3%A9&r=a+b").json();
    assert_eq!(seen["kind"], kind);
    assert_eq!(seen["scheme"], "http");
    assert_eq!(seen["host"], HOST);
    assert_eq!(seen["path"], "/where/?q=%C3%A9&r=a+b");
    assert_eq!(seen["address"], "127.0.0.1");
}

/// Whether Django can run its coroutines there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coroutines {
    Run,
    /// asgiref's threads are greenlets once gevent has patched them, and two event loops in one thread do not work: Django
    /// answers 500 under every server with gevent.
    Fail,
}

fn visit(server: &Server, kind: &str, coroutines: Coroutines) {
    sessions_are_kept_apart(server);
    a_member_logs_in_and_out(server);
    a_form_is_guarded_validated_and_kept(server);
    a_file_of_several_megabytes_comes_back_as_it_was(server);
    streams_of_rows(server, "/orders.csv");
    if coroutines == Coroutines::Run {
        streams_of_rows(server, "/orders-async.csv");
        a_coroutine_answers(server);
    }
    static_files_and_errors_are_djangos(server);
    the_request_is_told_truly(server, kind);
    assert_eq!(server.booted().len(), 2, "no worker died");
    close(server);
}

#[test]
fn a_django_shop_under_wsgi_sync() {
    visit(&open("shop.wsgi", &["-k", "sync"]), "wsgi", Coroutines::Run);
}

#[test]
fn a_django_shop_under_wsgi_gevent() {
    visit(
        &open("shop.wsgi", &["-k", "gevent"]),
        "wsgi",
        Coroutines::Fail,
    );
}

#[test]
fn a_django_shop_under_wsgi_gthread() {
    visit(
        &open("shop.wsgi", &["-k", "gthread", "--threads", "4"]),
        "wsgi",
        Coroutines::Run,
    );
}

#[test]
fn a_django_shop_under_asgi_asyncio() {
    visit(
        &open("shop.asgi", &["-k", "asgi", "--asgi-loop", "asyncio"]),
        "asgi",
        Coroutines::Run,
    );
}

#[test]
fn a_django_shop_under_asgi_uvloop() {
    visit(
        &open("shop.asgi", &["-k", "asgi", "--asgi-loop", "uvloop"]),
        "asgi",
        Coroutines::Run,
    );
}
