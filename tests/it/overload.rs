//! More connections than `--worker-connections`: those that serve nobody make room, quick requests queue, and who cannot
//! be served in time is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::asgi::LOOPS;
use crate::harness::{Address, Client, Rgun, Server, millis, patience, process, secs};

/// What a client does that holds a connection and asks for nothing.
#[derive(Clone, Copy, Debug)]
enum Slow {
    /// It was answered, and keeps the connection.
    Idle,
    /// It connects.
    Silent,
    HalfAHead,
    HalfABody,
}

const SLOW: [Slow; 4] = [Slow::Idle, Slow::Silent, Slow::HalfAHead, Slow::HalfABody];

impl Slow {
    const fn words(self) -> &'static str {
        match self {
            Self::Idle => "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
            Self::Silent => "",
            Self::HalfAHead => "GET /hello HTTP/1.1\r\nHo",
            Self::HalfABody => {
                "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf"
            }
        }
    }
}

/// Slow clients, who come back as soon as they are sent away.
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Crowd {
    fn of(kinds: &[Slow], count: usize, address: &Address) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = kinds
            .iter()
            .cycle()
            .take(count)
            .map(|&kind| {
                let (stop, address) = (Arc::clone(&stop), address.clone());
                std::thread::spawn(move || stay(kind, &address, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Sends them home; tells how often they were sent away.
    fn leave(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|thread| thread.join().expect("a slow client does not panic"))
            .sum()
    }
}

fn stay(kind: Slow, address: &Address, stop: &AtomicBool) -> usize {
    let mut sent_away = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::try_connect(address) else {
            continue;
        };
        let _ = client.try_send(kind.words());
        while !stop.load(Ordering::Relaxed) {
            if client.closes_within(millis(50)) {
                sent_away += 1;
                break;
            }
        }
    }
    sent_away
}

fn server(app: &str, driver: &[&str], cap: &str, more: &[&str]) -> Server {
    Rgun::app(app)
        .args(driver)
        .args(["--worker-connections", cap, "--keep-alive", "60"])
        .args(more)
        .start()
}

/// Two and a half times as many slow clients as there may be connections; healthy ones come, one after the other.
fn healthy_ones_are_served(app: &str, driver: &[&str], kinds: &[Slow]) {
    let server = server(app, driver, "20", &[]);
    let worker = server.wait_for_workers(1)[0];
    let crowd = Crowd::of(kinds, 50, &server.address());
    // They are all over the place before the first healthy one comes.
    server.wait_for_line("Overload: ");
    let began = Instant::now();
    let before = process::ticks(worker);
    let (mut good, mut longest) = (0, millis(0));
    for _ in 0..8 {
        let asked = Instant::now();
        let answer = server.get("/hello").try_response();
        if answer.is_ok_and(|answer| answer.status() == 200) {
            longest = longest.max(asked.elapsed());
            good += 1;
        }
    }
    let used = process::ticks(worker) - before;
    let ticks = u64::try_from(began.elapsed().as_millis() / 10).expect("minutes");
    let sent_away = crowd.leave();
    let what =
        format!("{app} {driver:?} {kinds:?}: {good} answered, the longest in {longest:?}");
    assert_eq!(good, 8, "{what}");
    assert!(longest < secs(5), "{what}");
    assert!(sent_away > 0, "{what}");
    assert!(
        used * 3 < ticks,
        "{what}: {used} of {ticks} hundredths of a second"
    );
    assert_eq!(server.count_lines("[ERROR]"), 0);
    // A line at the beginning, and then one in ten seconds.
    let told = server.count_lines("Overload: ");
    assert!((1..=6).contains(&told), "{told} lines");
    assert_eq!(server.worker_pids(), [worker]);
}

#[test]
fn builtin_workers_serve_healthy_clients_beside_each_kind_of_slow_ones() {
    for kind in SLOW {
        let app = if matches!(kind, Slow::HalfABody) {
            "builtin:echo"
        } else {
            "builtin:hello"
        };
        healthy_ones_are_served(app, &[], &[kind]);
    }
}

#[test]
fn python_workers_serve_healthy_clients_beside_slow_ones() {
    for driver in ["sync", "gevent", "gthread"] {
        healthy_ones_are_served("wsgi:app", &["-k", driver], &SLOW);
    }
}

#[test]
fn asgi_workers_serve_healthy_clients_beside_slow_ones() {
    for event_loop in LOOPS {
        healthy_ones_are_served(
            "asgi:app",
            &["-k", "asgi", "--asgi-loop", event_loop],
            &SLOW,
        );
    }
}

#[test]
fn a_connection_that_is_kept_goes_before_one_that_was_never_used() {
    let server = server("builtin:hello", &[], "2", &[]);
    let mut kept = server.connect();
    assert_eq!(kept.get("/").status(), 200);
    let mut half = server.connect();
    half.send("GET / HTTP/1.1\r\n");
    assert_eq!(server.get("/").response().status(), 200);
    assert!(kept.closes_within(patience()));
    half.send("Host: a\r\n\r\n");
    assert_eq!(half.response().status(), 200);
}

#[test]
fn half_a_head_is_answered_408_where_others_wait() {
    let server = server("builtin:hello", &[], "1", &[]);
    let mut half = server.connect();
    half.send("GET / HTTP/1.1\r\n");
    assert!(half.stays_silent_for(millis(1500)), "nobody waits");
    assert_eq!(server.get("/").response().status(), 200);
    assert_eq!(half.response().status(), 408);
    assert!(half.closes_within(patience()));
}

/// Below the cap nobody goes, however idle.
#[test]
fn below_the_cap_connections_are_kept() {
    let server = server("builtin:hello", &[], "3", &[]);
    let mut kept = server.connect();
    assert_eq!(kept.get("/").status(), 200);
    for _ in 0..20 {
        assert_eq!(server.get("/").response().status(), 200);
    }
    assert!(kept.stays_silent_for(millis(1500)));
    assert_eq!(kept.get("/").status(), 200);
}

#[test]
fn quick_requests_at_the_cap_queue_and_are_all_answered() {
    for (app, driver, sleep) in [
        ("wsgi:app", &["-k", "gevent"][..], "/sleep?ms="),
        (
            "wsgi:app",
            &["-k", "gthread", "--threads", "4"],
            "/sleep?ms=",
        ),
        ("asgi:app", &["-k", "asgi"], "/sleep?"),
    ] {
        let server = server(app, driver, "4", &["--overload-timeout", "1"]);
        // Three seconds of work, a place coming free all the time.
        let requests: Vec<_> = (0..60)
            .map(|_| {
                let mut client = server.connect();
                client.send(format!(
                    "GET {sleep}200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                ));
                client
            })
            .collect();
        for mut client in requests {
            assert_eq!(client.response().status(), 200, "{app} {driver:?}");
        }
    }
}

#[test]
fn who_cannot_be_served_in_time_is_told_so() {
    for (app, driver, sleep) in [
        ("wsgi:app", &["-k", "gevent"][..], "/sleep?ms="),
        (
            "wsgi:app",
            &["-k", "gthread", "--threads", "4"],
            "/sleep?ms=",
        ),
        ("asgi:app", &["-k", "asgi"], "/sleep?"),
    ] {
        let server = server(
            app,
            driver,
            "2",
            &["--overload-timeout", "1", "--access-logfile", "-"],
        );
        let busy = [(); 2].map(|()| server.get(&format!("{sleep}9000")).in_background());
        // Until both are inside, others may be served.
        let mut refused = None;
        let began = Instant::now();
        while refused.is_none() && began.elapsed() < patience() {
            let asked = Instant::now();
            let answer = server.get("/hello?refused").response();
            if answer.status() != 200 {
                refused = Some((answer, asked.elapsed()));
            }
        }
        let (answer, waited) = refused.expect("somebody is refused");
        assert_eq!(answer.status(), 503, "{app} {driver:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(waited >= Duration::from_millis(900), "{waited:?}");
        server.wait_for_output("\"GET /hello?refused HTTP/1.1\" 503", 1);
        server.wait_for_line("Overload: ");
        // Many at once are refused, too, each within its time.
        let many: Vec<_> = (0..100)
            .map(|_| {
                let mut client = server.connect();
                client.send_get("/hello");
                client
            })
            .collect();
        for mut client in many {
            let status = client.response().status();
            assert!(status == 503 || status == 200, "{status}");
        }
        for request in busy {
            assert_eq!(request.response().status(), 200, "who is inside stays");
        }
        assert_eq!(server.get("/hello").response().status(), 200);
    }
}

#[test]
fn overload_timeout_0_lets_them_wait() {
    let server = server("builtin:hello", &[], "1", &["--overload-timeout", "0"]);
    let mut kept = server.connect();
    assert_eq!(kept.get("/").status(), 200);
    let mut queued = server.connect();
    queued.send_get("/");
    assert!(queued.stays_silent_for(millis(4000)));
    assert_eq!(kept.get("/").status(), 200);
    drop(kept);
    assert_eq!(queued.response().status(), 200);
}

/// Refused connections beyond the cap do not keep a worker from leaving, nor does it leave them without a word.
#[test]
fn a_worker_at_its_cap_leaves_when_told() {
    let server = server(
        "asgi:app",
        &["-k", "asgi"],
        "2",
        &["--overload-timeout", "1", "--graceful-timeout", "2"],
    );
    let crowd = Crowd::of(&[Slow::Silent], 10, &server.address());
    server.wait_for_line("Overload: ");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    crowd.leave();
}
