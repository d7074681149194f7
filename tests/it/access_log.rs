//! The access log: Gunicorn's format and atoms, off by default, and few writes.

use std::fs;

use crate::harness::{Rgun, Server, patience, until};

/// The lines of the access log file, once there are `count`.
fn lines(server: &Server, count: usize) -> Vec<String> {
    let file = server.directory().join("access.log");
    let read = || fs::read_to_string(&file).unwrap_or_default();
    until("the access log has the lines", patience(), || {
        read().lines().count() >= count
    });
    read().lines().map(str::to_owned).collect()
}

fn logged(app: &str, format: Option<&str>) -> Server {
    let rgun = Rgun::app(app);
    let file = rgun.directory().join("access.log");
    let rgun = rgun.arg("--access-logfile").arg(file);
    match format {
        Some(format) => rgun.args(["--access-logformat", format]),
        None => rgun,
    }
    .start()
}

#[test]
fn it_is_off_by_default() {
    let server = Rgun::app("builtin:hello").start();
    assert_eq!(server.get("/quiet").response().status(), 200);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    assert_eq!(server.output(), Vec::<String>::new());
    assert_eq!(server.count_lines("/quiet"), 0);
}

#[test]
fn a_hyphen_is_standard_output() {
    let server = Rgun::app("builtin:hello")
        .args(["--access-logfile", "-"])
        .start();
    assert_eq!(server.get("/seen?a=b").response().status(), 200);
    server.wait_for_output("\"GET /seen?a=b HTTP/1.1\" 200 12", 1);
}

#[test]
fn the_default_format_is_gunicorns() {
    let server = logged("builtin:hello", None);
    server
        .connect()
        .ask("GET /a?b=c HTTP/1.1\r\nHost: x\r\nReferer: ref\r\nUser-Agent: u\"a\r\n\r\n");
    let line = lines(&server, 1).swap_remove(0);
    // 127.0.0.1 - - [22/Nov/2026:07:03:15 +0000] "GET /a?b=c HTTP/1.1" 200 12 "ref" "u\"a"
    let (head, rest) = line.split_once('[').expect("a date");
    let (date, tail) = rest.split_once(']').expect("a date's end");
    assert_eq!(head, "127.0.0.1 - - ");
    assert_eq!(tail, r#" "GET /a?b=c HTTP/1.1" 200 12 "ref" "u\"a""#);
    let shape: String = date
        .chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect();
    assert!(
        shape.starts_with("99/") && shape.contains(":99:99:99 "),
        "{date}"
    );
    assert_eq!(date.len(), "22/Nov/2026:07:03:15 +0000".len());
}

#[test]
fn every_atom_has_its_value() {
    let format = "h=%(h)s l=%(l)s u=%(u)s r=%(r)s m=%(m)s U=%(U)s q=%(q)s H=%(H)s s=%(s)s \
                  B=%(B)s b=%(b)s f=%(f)s a=%(a)s T=%(T)s M=%(M)s D=%(D)s L=%(L)s p=%(p)s \
                  i=%({x-in}i)s o=%({content-type}o)s none=%({x-none}i)s";
    let server = logged("builtin:hello", Some(format));
    server
        .connect()
        .ask("GET /p?q=1 HTTP/1.1\r\nHost: x\r\nX-In: in\r\n\r\n");
    let line = lines(&server, 1).swap_remove(0);
    let value = |name: &str| {
        let start = line
            .find(&format!("{name}="))
            .unwrap_or_else(|| panic!("{name}: {line}"));
        line[start + name.len() + 1..]
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    for (name, expected) in [
        ("h", "127.0.0.1"),
        (" l", "-"),
        (" u", "-"),
        (" m", "GET"),
        (" U", "/p"),
        (" q", "q=1"),
        (" H", "HTTP/1.1"),
        (" s", "200"),
        (" B", "12"),
        (" b", "12"),
        (" f", "-"),
        (" a", "-"),
        (" T", "0"),
        (" i", "in"),
        (" o", "text/plain"),
        ("none", "-"),
    ] {
        assert_eq!(value(name), expected, "{name} in {line}");
    }
    assert!(line.contains("r=GET /p?q=1 HTTP/1.1 "), "{line}");
    assert!(
        value(" D")
            .parse::<u64>()
            .is_ok_and(|micros| micros < 1_000_000),
        "{line}"
    );
    assert!(value(" M").parse::<u64>().is_ok(), "{line}");
    assert!(value(" L").starts_with("0.0"), "{line}");
    let pid = server.worker_pids()[0];
    assert!(value(" p").contains(&pid.to_string()), "{line}");
}

#[test]
fn python_answers_and_refusals_are_logged_too() {
    let server = logged("wsgi:app", None);
    assert_eq!(server.get("/odd-status").response().status(), 299);
    assert_eq!(server.get("/raise").response().status(), 500);
    let lines = lines(&server, 2);
    assert!(
        lines[0].contains(r#""GET /odd-status HTTP/1.1" 299 3 "#),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains(r#""GET /raise HTTP/1.1" 500 "#),
        "{}",
        lines[1]
    );
}

#[test]
fn a_request_cannot_forge_a_line() {
    let server = logged("builtin:hello", None);
    server
        .connect()
        .ask("GET /%0aforged HTTP/1.1\r\nHost: x\r\nUser-Agent: a\\\" 200 \"b\x09c\r\n\r\n");
    assert_eq!(server.get("/last").response().status(), 200);
    let lines = lines(&server, 2);
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn a_request_costs_no_write_of_its_own() {
    let server = logged("builtin:hello", None);
    let worker = server.worker_pids()[0];
    let writes = || {
        fs::read_to_string(format!("/proc/{worker}/io"))
            .expect("a worker of ours")
            .lines()
            .find_map(|line| line.strip_prefix("syscw: ")?.parse::<u64>().ok())
            .expect("the kernel counts writes")
    };
    let before = writes();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000));
    for _ in 0..1000 {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(lines(&server, 1000).len(), 1000);
    let used = writes() - before;
    assert!(used < 400, "{used} writes for 1,000 lines");
}
