//! What its users do to try it: `wrk` and `ab`, hard, on each kind of app. Not one failed request.

use crate::harness::tools::{Redis, ab, wrk};
use crate::harness::{Rgun, Server, patience, quiet};

/// The four commands of everybody's first try.
fn beat(server: &Server) {
    let url = server.url("/");
    wrk(10, 200, 3, &url).assert_clean(100);
    wrk(2, 1000, 3, &url).assert_clean(100);
    ab(500, 500, &[], &url).assert_clean(500);
    ab(500, 20_000, &["-r"], &url).assert_clean(20_000);
    ab(100, 5_000, &["-r", "-k"], &url).assert_clean(5_000);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    for word in [
        "[ERROR]",
        "[CRITICAL]",
        "WORKER TIMEOUT",
        "was sent SIG",
        "panicked",
    ] {
        assert_eq!(server.count_lines(word), 0, "{word} in the log");
    }
}

fn nine(rgun: Rgun) -> Server {
    rgun.workers(9)
        .args(["--worker-connections", "1000"])
        .log_level("info")
        .start_silent()
}

#[test]
fn the_builtin_app_under_load() {
    let _quiet = quiet();
    beat(&nine(Rgun::app("builtin:hello")));
}

#[test]
fn the_builtin_app_under_load_with_reuse_port() {
    let _quiet = quiet();
    beat(&nine(Rgun::app("builtin:hello").arg("--reuse-port")));
}

#[test]
fn the_axum_example_under_load() {
    let _quiet = quiet();
    beat(&nine(Rgun::example("axum")));
}

#[test]
fn the_hyper_example_under_load() {
    let _quiet = quiet();
    beat(&nine(Rgun::example("hyper")));
}

#[test]
fn flask_under_load_with_the_sync_driver() {
    let _quiet = quiet();
    beat(&nine(Rgun::app("flask_hello:app").args(["-k", "sync"])));
}

#[test]
fn flask_under_load_with_the_gevent_driver() {
    let _quiet = quiet();
    beat(&nine(Rgun::app("flask_hello:app").args(["-k", "gevent"])));
}

/// `rgun-async -w 4 -b … demo:app`, `INCR` and `GET` for each request, `ab -c 500`.
fn count(driver: &str) {
    let redis = Redis::start();
    let server = Rgun::app("flask_redis:app")
        .args(["-k", driver])
        .env("REDIS_URL", redis.url())
        .workers(4)
        .log_level("info")
        .start_silent();
    let before: u64 = hits(&server);
    ab(500, 5_000, &["-r"], &server.url("/")).assert_clean(5_000);
    ab(500, 500, &[], &server.url("/")).assert_clean(500);
    wrk(4, 200, 3, &server.url("/")).assert_clean(100);
    // Each request counted once: at least those that were answered.
    assert!(hits(&server) >= before + 5_600);
    assert_eq!(server.count_lines("[ERROR]"), 0);
    assert_eq!(server.count_lines("Traceback"), 0);
}

fn hits(server: &Server) -> u64 {
    server
        .get("/hits")
        .response()
        .text()
        .parse()
        .expect("a number")
}

#[test]
fn flask_and_redis_under_load_with_the_gevent_driver() {
    let _quiet = quiet();
    count("gevent");
}

#[test]
fn flask_and_redis_under_load_with_the_sync_driver() {
    let _quiet = quiet();
    count("sync");
}
