//! New masters that do not come to serve: the old one, its files and its sockets are as they were.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::sys::signal::Signal;

use super::{Mode, Steady, Upgraded, read};
use crate::harness::{Rgun, patience, process, until};

/// Puts another program into the place that the server was started from.
fn replace(place: &Path, program: &Path) {
    let fresh = place.with_extension("fresh");
    symlink(program, &fresh).expect("a link");
    fs::rename(&fresh, place).expect("a rename");
}

fn script(rgun_directory: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = rgun_directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    path
}

/// A server, its program's place, and a directory beside its own for what must not count as left behind.
fn replaceable(mode: Mode) -> (Upgraded, std::path::PathBuf, tempfile::TempDir) {
    let (rgun, place) = mode.set(Rgun::app("builtin:hello")).replaceable();
    let beside = tempfile::TempDir::with_prefix("rgun-test-").expect("a directory");
    (Upgraded::start(rgun, 2), place, beside)
}

/// USR2 to a master whose new one fails with a line that contains `told`; nothing has changed, and then it works.
fn fails(mode: Mode, told: &str, program: impl FnOnce(&Path) -> std::path::PathBuf) {
    let (mut masters, place, beside) = replaceable(mode);
    let good = fs::read_link(&place).expect("a link");
    let steady = Steady::on(&masters.server);
    let before = masters.facts();
    replace(&place, &program(beside.path()));
    let new = masters.usr2();
    let line = masters.server.wait_for_line(&format!(
        "The new master (pid:{new}) ended before it was ready"
    ));
    assert!(line.contains(told), "{line}");
    masters.is_alone();
    until("nothing has changed", patience(), || {
        masters.facts() == before
    });
    replace(&place, &good);
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
    steady.lost_nothing();
}

#[test]
fn crashes() {
    fails(Mode::Unix, "exited with code 7", |directory| {
        script(directory, "crashes", "exit 7")
    });
}

#[test]
fn is_killed() {
    fails(Mode::Shared, "SIGKILL", |directory| {
        script(directory, "killed", "kill -9 $$")
    });
}

#[test]
fn is_not_there() {
    fails(Mode::Unix, "No such file", |directory| {
        directory.join("nothing")
    });
}

#[test]
fn is_not_executable() {
    fails(Mode::ReusePort, "Permission denied", |directory| {
        let path = script(directory, "forbidden", "exit 0");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        path
    });
}

#[test]
fn is_no_program() {
    // execvp(3) hands what the kernel does not know to the shell.
    fails(Mode::Fd, "exited with code 12", |directory| {
        let path = script(directory, "garbage", "");
        fs::write(&path, b"\x00\x01\x02 no program").expect("a file");
        path
    });
}

#[test]
fn is_another_program() {
    fails(Mode::Activated, "exited with code 0", |_| {
        "/bin/true".into()
    });
}

#[test]
fn hangs() {
    let (mut masters, place, beside) = replaceable(Mode::Unix);
    let good = fs::read_link(&place).expect("a link");
    let steady = Steady::on(&masters.server);
    let before = masters.facts();
    replace(&place, &script(beside.path(), "hangs", "exec sleep 600"));
    let new = masters.usr2();
    // It is the one new master there may be, and disturbs nobody.
    process::signal(masters.master, Signal::SIGUSR2);
    masters
        .server
        .wait_for_line("USR2 signal ignored. Child exists");
    process::signal(masters.master, Signal::SIGTTIN);
    masters.server.wait_ready(3);
    process::signal(masters.master, Signal::SIGTTOU);
    until("a worker less", patience(), || {
        process::children(masters.master).len() == masters.workers + 1
    });
    assert_eq!(read(&masters.pidfile), masters.master.to_string());
    process::signal(new, Signal::SIGKILL);
    until("nothing has changed", patience(), || {
        masters.facts() == before
    });
    replace(&place, &good);
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
    steady.lost_nothing();
}

/// A server with a configuration file: with `good`, then upgraded with `bad`, then with `good` again.
fn misconfigured(rgun: Rgun, good: &str, bad: &str, told: &str) {
    let file = rgun.write("rgun.toml", good);
    let mut masters = Upgraded::start(rgun.arg("-c").arg(&file), 1);
    let steady = Steady::on(&masters.server);
    let before = masters.facts();
    fs::write(&file, bad).expect("a file");
    let new = masters.usr2();
    let line = masters.server.wait_for_line(&format!(
        "The new master (pid:{new}) ended before it was ready"
    ));
    assert!(line.contains(told), "{line}");
    masters.is_alone();
    until("nothing has changed", patience(), || {
        masters.facts() == before
    });
    fs::write(&file, good).expect("a file");
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
    steady.lost_nothing();
}

#[test]
fn has_a_broken_file() {
    let rgun = Mode::Unix.set(Rgun::app("builtin:hello"));
    misconfigured(rgun, "", "wokers = 2\n", "exited with code 1");
}

/// The old one's path is among the addresses that the new one already has when it gives up.
#[test]
fn cannot_bind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let rgun = Rgun::app("builtin:hello").configured_for(1);
    let socket = rgun.directory().join("server.sock");
    let address = format!("\"unix:{}\"", socket.display());
    let config = |more: &str| format!("loglevel = \"debug\"\nbind = [{address}{more}]\n");
    let port = taken.local_addr().expect("it is bound").port();
    let impossible = format!(", \"127.0.0.1:{port}\", \"192.0.2.1:1\"");
    misconfigured(
        rgun,
        &config(""),
        &config(&impossible),
        "exited with code 1",
    );
}

/// The directory of a Python app, which is broken and mended.
#[test]
fn has_a_broken_app() {
    let works = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'works']\n";
    for (broken, told) in [
        ("import no_such_module_here\n", "exited with code 3"),
        ("app = None\n", "exited with code 4"),
    ] {
        let directory = tempfile::TempDir::with_prefix("rgun-test-").expect("a directory");
        let file = directory.path().join("changing.py");
        fs::write(&file, works).expect("a file");
        let rgun = Rgun::app("changing:app").chdir(directory.path());
        let mut masters = Upgraded::start(Mode::Unix.set(rgun), 2);
        let steady = Steady::on(&masters.server);
        let before = masters.facts();
        fs::write(&file, broken).expect("a file");
        let new = masters.usr2();
        let line = masters.server.wait_for_line(&format!(
            "The new master (pid:{new}) ended before it was ready"
        ));
        assert!(line.contains(told), "{line}");
        masters.is_alone();
        until("nothing has changed", patience(), || {
            masters.facts() == before
        });
        fs::write(&file, works).expect("a file");
        let new = masters.upgrade();
        masters.retire(new, Signal::SIGTERM);
        steady.lost_nothing();
    }
}

/// Between its fork and its readiness, at any moment, a new master may be killed.
#[test]
fn is_killed_at_any_moment() {
    let rgun = Mode::Unix.set(Rgun::app("hello:app"));
    let mut masters = Upgraded::start(rgun, 1);
    let steady = Steady::on(&masters.server);
    let before = masters.facts();
    for moment in 0..6 {
        let new = masters.usr2();
        // Not to wait for anything: the moments are to differ.
        std::thread::sleep(std::time::Duration::from_millis(moment * 60));
        process::signal(new, Signal::SIGKILL);
        masters
            .server
            .wait_for_line(&format!("The new master (pid:{new})"));
        until("nothing has changed", patience(), || {
            masters.facts() == before
        });
    }
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
    steady.lost_nothing();
}

/// The new master asks for another backlog of the same socket, and for a path of its own.
#[test]
fn a_new_one_given_up_takes_its_own_path_with_it() {
    let rgun = Rgun::app("builtin:hello").configured_for(1);
    let (mine, new_path) = (
        rgun.directory().join("server.sock"),
        rgun.directory().join("new.sock"),
    );
    let config = |paths: &[&Path], backlog: u32| {
        let binds: Vec<_> = paths
            .iter()
            .map(|path| format!("\"unix:{}\"", path.display()))
            .collect();
        let binds = binds.join(", ");
        format!("loglevel = \"debug\"\nbacklog = {backlog}\nbind = [{binds}]\n")
    };
    let file = rgun.write("rgun.toml", &config(&[&mine], 100));
    let mut masters = Upgraded::start(rgun.arg("-c").arg(&file), 1);
    fs::write(&file, config(&[&mine, &new_path], 1)).expect("a file");
    let new = masters.upgrade();
    assert!(new_path.exists());
    masters.give_up(new, Signal::SIGTERM);
    assert!(!new_path.exists() && mine.exists());
    // Nobody accepts: the queue takes what the old one's backlog allows.
    let worker = process::children(masters.master)[0];
    process::signal(worker, Signal::SIGSTOP);
    let address = masters.server.address();
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let mut client = crate::harness::Client::connect(&address);
            client.send_get("/");
            client
        })
        .collect();
    process::signal(worker, Signal::SIGCONT);
    for mut client in waiting {
        assert_eq!(client.response().status(), 200);
    }
}
