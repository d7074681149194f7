//! What the black-box tests share: the server under test, clients that send any bytes, real Redis, `wrk` and `ab`.
//!
//! Nothing here waits by sleeping alone: every wait has a condition and a deadline ([`until`]), and every deadline is
//! multiplied by `RGUN_TEST_PATIENCE`.

pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod frames;
pub(crate) mod http2;
mod log;
pub(crate) mod nginx;
pub(crate) mod packets;
pub(crate) mod privilege;
pub(crate) mod process;
mod quiet;
pub(crate) mod rgun;
pub(crate) mod tls;
pub(crate) mod tools;
mod traffic;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) use browser::Browser;
pub(crate) use client::{Address, Client, Response};
pub(crate) use nginx::Nginx;
pub(crate) use packets::Packet;
pub(crate) use quiet::quiet;
pub(crate) use rgun::{BINARY, Rgun, Server};
pub(crate) use traffic::{Hammer, InBackground};

/// `seconds`, times the patience asked for.
pub(crate) fn secs(seconds: u64) -> Duration {
    millis(seconds * 1000)
}

/// `milliseconds`, times the patience asked for.
pub(crate) fn millis(milliseconds: u64) -> Duration {
    static PATIENCE: OnceLock<f64> = OnceLock::new();
    let patience = PATIENCE.get_or_init(|| {
        std::env::var("RGUN_TEST_PATIENCE").map_or(1.0, |text| {
            text.parse().expect("RGUN_TEST_PATIENCE is a number")
        })
    });
    Duration::from_millis(milliseconds).mul_f64(*patience)
}

/// How long a thing that should happen at once may take on a busy machine.
pub(crate) fn patience() -> Duration {
    secs(20)
}

/// Polls `condition` until it holds; past `deadline` the test fails with `what`.
#[track_caller]
pub(crate) fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Polls `question` until it has an answer; past `deadline` the test fails with `what`.
#[track_caller]
pub(crate) fn answer<T>(
    what: &str,
    deadline: Duration,
    mut question: impl FnMut() -> Option<T>,
) -> T {
    let mut found = None;
    until(what, deadline, || {
        found = question();
        found.is_some()
    });
    found.expect("until returned, so it was found")
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Python apps of the tests.
pub(crate) fn apps() -> PathBuf {
    root().join("tests/apps")
}

/// The virtual environment that `tests/run` made.
///
/// # Panics
/// If there is none: a missing tool fails the test that needs it.
pub(crate) fn venv() -> PathBuf {
    let venv = std::env::var_os("RGUN_TEST_VENV")
        .map_or_else(|| root().join("target/test-venv"), PathBuf::from);
    assert!(
        venv.join("bin/python3").exists(),
        "no virtual environment at {}: `bash tests/run` makes it",
        venv.display()
    );
    venv
}
