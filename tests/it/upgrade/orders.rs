//! Every mode and every kind of app through upgrades that are finished or taken back, one after the other.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::{Mode, Steady, Upgraded, ask, read};
use crate::harness::rgun::pid_after;
use crate::harness::{Address, Client, Rgun, Server, answer, patience, process, until};

/// One server through a new master taken back twice, and three that took over.
fn orders(mode: Mode, rgun: Rgun) {
    let mut masters = Upgraded::start(mode.set(rgun), 2);
    let steady = Steady::on(&masters.server);
    let new = masters.upgrade();
    masters.give_up(new, Signal::SIGTERM);
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
    let new = masters.upgrade();
    masters.give_up(new, Signal::SIGTERM);
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
    steady.lost_nothing();
    // A quick stop cuts what is being served, and nothing that waits in a queue.
    let new = masters.upgrade();
    masters.give_up(new, Signal::SIGQUIT);
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGQUIT);
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
    // And the last one leaves nothing.
    process::signal(masters.master, Signal::SIGTERM);
    masters.ends(masters.master);
    assert!(!masters.pidfile.exists(), "the pidfile");
    if let Address::Unix(path) = masters.server.address() {
        assert!(!path.exists(), "the socket's path");
    }
}

#[test]
fn shared() {
    orders(Mode::Shared, Rgun::app("builtin:hello"));
}

#[test]
fn reuse_port() {
    orders(Mode::ReusePort, Rgun::app("builtin:hello"));
}

#[test]
fn unix() {
    orders(Mode::Unix, Rgun::app("builtin:hello"));
}

#[test]
fn fd() {
    orders(Mode::Fd, Rgun::app("builtin:hello"));
}

#[test]
fn activated() {
    orders(Mode::Activated, Rgun::app("builtin:hello"));
}

#[test]
fn axum() {
    orders(Mode::Shared, Rgun::example("axum"));
}

#[test]
fn wsgi_sync() {
    orders(Mode::Shared, Rgun::app("hello:app").args(["-k", "sync"]));
}

#[test]
fn wsgi_gevent() {
    orders(
        Mode::ReusePort,
        Rgun::app("hello:app").args(["-k", "gevent"]),
    );
}

#[test]
fn asgi() {
    orders(Mode::Unix, Rgun::app("asgi:app"));
}

/// Between the two kinds of stop: one that is stuck in a request holds nobody up.
#[test]
fn killed_masters() {
    for mode in [Mode::Shared, Mode::Unix] {
        let mut masters = Upgraded::start(mode.set(Rgun::app("builtin:hello")), 1);
        let new = masters.upgrade();
        process::signal(new, Signal::SIGKILL);
        masters.is_alone();
        let new = masters.upgrade();
        process::signal(masters.master, Signal::SIGKILL);
        masters.master = new;
        masters.is_alone();
        let new = masters.upgrade();
        masters.retire(new, Signal::SIGTERM);
    }
}

/// The old master is told to end before the new one is ready: it obeys, and what comes meanwhile waits.
#[test]
fn term_before_ready() {
    let mut masters = Upgraded::start(Rgun::app("hello:app"), 1);
    let steady = Steady::on(&masters.server);
    let new = masters.usr2();
    masters.retire(new, Signal::SIGTERM);
    steady.lost_nothing();
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
}

/// Both at once: whichever is first, nothing stays behind.
#[test]
fn both_at_once() {
    for _ in 0..5 {
        let mut masters = Upgraded::start(Mode::Unix.set(Rgun::app("builtin:hello")), 1);
        let Address::Unix(path) = masters.server.address() else {
            panic!("no unix socket")
        };
        let both = [masters.upgrade(), masters.master];
        // Neither gets ahead of the other.
        for signal in [Signal::SIGSTOP, Signal::SIGTERM, Signal::SIGCONT] {
            for master in both {
                process::signal(master, signal);
            }
        }
        for master in both {
            masters.ends(master);
        }
        assert!(!masters.pidfile.exists() && !masters.second().exists());
        until("the path is gone", patience(), || !path.exists());
    }
}

/// A reload gives the socket another number; the new master is to find it under the one that it is configured with.
#[test]
fn a_reload_between() {
    for mode in Mode::ALL {
        let mut masters = Upgraded::start(mode.set(Rgun::app("builtin:hello")), 1);
        let steady = Steady::on(&masters.server);
        let before = masters.server.worker_pids();
        process::signal(masters.master, Signal::SIGHUP);
        masters.server.wait_ready(2);
        until("the old worker is gone", patience(), || {
            !before.iter().any(|pid| process::alive(*pid))
        });
        let new = masters.upgrade();
        masters.retire(new, Signal::SIGTERM);
        let new = masters.upgrade();
        masters.retire(new, Signal::SIGTERM);
        steady.lost_nothing();
        assert_eq!(
            masters.server.count_lines("Listening at: "),
            3,
            "a reload listens to nothing else: {mode:?}"
        );
    }
}

/// The sockets of all slots are the new master's, however many slots it has.
#[test]
fn another_number_of_workers() {
    for (before, after) in [(3, 1), (1, 3)] {
        let rgun = Rgun::app("builtin:hello").arg("--reuse-port");
        let file = rgun.write("rgun.toml", &format!("workers = {before}\n"));
        let pidfile = rgun.directory().join("server.pid");
        let rgun = rgun.arg("-c").arg(&file).arg("-p").arg(&pidfile);
        let server = rgun.expecting(before).start();
        let mut masters = Upgraded {
            master: server.pid(),
            server,
            pidfile,
            workers: before,
            upgrades: 0,
        };
        let steady = Steady::on(&masters.server);
        fs::write(&file, format!("workers = {after}\n")).expect("a file");
        let new = masters.upgrade();
        masters.give_up(new, Signal::SIGTERM);
        let new = masters.upgrade();
        masters.workers = after;
        masters.retire(new, Signal::SIGTERM);
        // Enough connections to come to each of the sockets.
        for _ in 0..40 {
            assert_eq!(ask(&masters.server.address()), Ok(200));
        }
        let new = masters.upgrade();
        masters.retire(new, Signal::SIGTERM);
        steady.lost_nothing();
    }
}

/// A server that has left its terminal, known by its files alone; it goes with this.
struct Daemon {
    pidfile: PathBuf,
    log: PathBuf,
    address: Address,
    server: Server,
}

impl Daemon {
    fn start() -> Self {
        let rgun = Rgun::app("builtin:hello").workers(2);
        let file = |name: &str| rgun.directory().join(name);
        let (pidfile, log, socket) = (file("server.pid"), file("log"), file("server.sock"));
        let server = rgun
            .bind(format!("unix:{}", socket.display()))
            .args(["-D", "-p"])
            .arg(&pidfile)
            .arg("--error-logfile")
            .arg(&log)
            .spawn();
        server.assert_exits(0).within(patience());
        let daemon = Self {
            pidfile,
            log,
            address: Address::Unix(socket),
            server,
        };
        daemon.has(&daemon.pidfile, 2);
        until("it answers", patience(), || ask(&daemon.address) == Ok(200));
        daemon
    }

    fn pid(&self) -> Option<i32> {
        read(&self.pidfile).parse().ok()
    }

    /// The master in `pidfile`, once it has so many workers beside a new master.
    #[track_caller]
    fn has(&self, pidfile: &std::path::Path, workers: usize) -> i32 {
        let second = self.pidfile.with_extension("pid.2");
        answer("the daemon has its workers", patience(), || {
            let pid: i32 = read(pidfile).parse().ok()?;
            let new: Option<i32> = read(&second).parse().ok();
            let children = process::children(pid);
            let workers_ = children.iter().filter(|child| Some(**child) != new);
            (workers_.count() == workers).then_some(pid)
        })
    }

    /// USR2; the new master, once it is ready.
    #[track_caller]
    fn upgrade(&self) -> i32 {
        let old = self.pid().expect("a master");
        let before = read(&self.log).len();
        process::signal(old, Signal::SIGUSR2);
        answer("the new master is ready", patience(), || {
            let text = fs::read_to_string(&self.log).ok()?;
            let (_, rest) = text
                .get(before..)?
                .split_once("Started a new master (pid:")?;
            let new = pid_after(&format!("(pid:{rest}"), "(pid:")?;
            rest.contains(&format!("The new master (pid:{new}) is ready"))
                .then_some(new)
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for file in [self.pidfile.with_extension("pid.2"), self.pidfile.clone()] {
            if let Ok(pid) = read(&file).parse() {
                // It may have ended meanwhile. Workers leave when their master is gone.
                let _ =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("{}", read(&self.log));
        }
    }
}

#[test]
fn winch_then_term() {
    let daemon = Daemon::start();
    let steady = Steady::at(&daemon.address);
    let old = daemon.pid().expect("a master");
    let new = daemon.upgrade();
    process::signal(old, Signal::SIGWINCH);
    assert_eq!(daemon.has(&daemon.pidfile, 0), old);
    process::signal(old, Signal::SIGTERM);
    until("the old master ends", patience(), || !process::alive(old));
    assert_eq!(daemon.has(&daemon.pidfile, 2), new);
    let newer = daemon.upgrade();
    process::signal(new, Signal::SIGTERM);
    until("the old master ends", patience(), || !process::alive(new));
    assert_eq!(daemon.has(&daemon.pidfile, 2), newer);
    steady.lost_nothing();
}

#[test]
fn winch_then_hup() {
    let daemon = Daemon::start();
    let steady = Steady::at(&daemon.address);
    let old = daemon.pid().expect("a master");
    let new = daemon.upgrade();
    process::signal(old, Signal::SIGWINCH);
    assert_eq!(daemon.has(&daemon.pidfile, 0), old);
    process::signal(old, Signal::SIGHUP);
    assert_eq!(daemon.has(&daemon.pidfile, 2), old);
    process::signal(new, Signal::SIGTERM);
    until("the new master ends", patience(), || !process::alive(new));
    assert_eq!(daemon.has(&daemon.pidfile, 2), old);
    let new = daemon.upgrade();
    process::signal(old, Signal::SIGTERM);
    until("the old master ends", patience(), || !process::alive(old));
    assert_eq!(daemon.has(&daemon.pidfile, 2), new);
    steady.lost_nothing();
}

/// Nobody would serve: the workers of the old master come back by themselves.
#[test]
fn winch_then_a_new_master_that_dies() {
    let daemon = Daemon::start();
    let old = daemon.pid().expect("a master");
    let new = daemon.upgrade();
    process::signal(old, Signal::SIGWINCH);
    assert_eq!(daemon.has(&daemon.pidfile, 0), old);
    process::signal(new, Signal::SIGKILL);
    assert_eq!(daemon.has(&daemon.pidfile, 2), old);
    until("it answers", patience(), || ask(&daemon.address) == Ok(200));
    assert!(Client::try_connect(&daemon.address).is_ok());
    assert!(!daemon.pidfile.with_extension("pid.2").exists());
    drop(daemon.server.log());
}

/// The old master made it, and no longer removes it as it ends; the new one does not know of it.
#[test]
fn a_path_that_the_new_configuration_has_no_more_goes_with_the_old_master() {
    let rgun = Rgun::app("builtin:hello").configured_for(1);
    let directory = rgun.directory();
    let path = |name: &str| directory.join(name);
    let config = |names: &[&str]| {
        let bind = |name: &&str| format!("\"unix:{}\"", path(name).display());
        let binds: Vec<_> = names.iter().map(bind).collect();
        format!("loglevel = \"debug\"\nbind = [{}]\n", binds.join(", "))
    };
    let file = rgun.write(
        "rgun.toml",
        &config(&["kept.sock", "dropped.sock", "taken.sock"]),
    );
    let mut masters = Upgraded::start(rgun.arg("-c").arg(&file), 1);
    std::fs::write(&file, config(&["kept.sock"])).expect("a file");
    // While the old one may go on, they are its own.
    let new = masters.upgrade();
    assert_eq!(ask(&Address::Unix(path("dropped.sock"))), Ok(200));
    masters.give_up(new, Signal::SIGTERM);
    assert_eq!(ask(&Address::Unix(path("dropped.sock"))), Ok(200));
    // Another server has one of them by now.
    let new = masters.upgrade();
    std::fs::remove_file(path("taken.sock")).expect("it is there");
    let _other = std::os::unix::net::UnixListener::bind(path("taken.sock")).expect("a socket");
    masters.retire(new, Signal::SIGTERM);
    assert!(!path("dropped.sock").exists());
    assert!(path("taken.sock").exists() && path("kept.sock").exists());
    process::signal(masters.master, Signal::SIGTERM);
    masters.ends(masters.master);
    assert!(!path("kept.sock").exists() && path("taken.sock").exists());
}
