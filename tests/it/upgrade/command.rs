//! `rgun-async upgrade`: the whole dance by one command.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::sys::signal::Signal;

use super::{Mode, Steady, Upgraded, read};
use crate::harness::{Rgun, Server, patience, process, secs, until};

/// The command `upgrade` of the program that `rgun` starts, under way.
fn command(rgun: Rgun, words: &[&str]) -> Server {
    rgun.configured_for(0).arg("upgrade").args(words).spawn()
}

fn of_pid(pid: i32, words: &[&str]) -> Server {
    let pid = pid.to_string();
    let words: Vec<_> = ["--pid", &pid].iter().chain(words).copied().collect();
    command(Rgun::bare(), &words)
}

/// It ends with `code`, and says `text`.
#[track_caller]
fn ends(command: &Server, code: i32, text: &str) {
    command.assert_exits(code).within(secs(60));
    let said = [command.output(), command.log()].concat().join("\n");
    assert!(said.contains(text), "{said}");
}

/// The new master has taken over when the command is done.
#[track_caller]
fn takes_over(masters: &mut Upgraded) {
    let new = read(&masters.pidfile).parse().expect("a pidfile");
    assert_ne!(new, masters.master, "the pidfile is the new master's");
    assert!(!process::alive(masters.master));
    masters.master = new;
    masters.is_alone();
}

#[test]
fn upgrades() {
    for mode in Mode::ALL {
        let mut masters = Upgraded::start(mode.set(Rgun::app("builtin:hello")), 2);
        let steady = Steady::on(&masters.server);
        ends(&of_pid(masters.master, &[]), 0, "Upgraded: ");
        takes_over(&mut masters);
        let pidfile = masters.pidfile.display().to_string();
        let again = command(Rgun::bare(), &["--pidfile", &pidfile, "--timeout", "60"]);
        ends(&again, 0, "Upgraded: ");
        takes_over(&mut masters);
        steady.lost_nothing();
    }
}

#[test]
fn upgrades_every_app() {
    for (rgun, by) in [
        (Rgun::example("axum"), Rgun::example("axum")),
        (Rgun::app("hello:app").args(["-k", "sync"]), Rgun::bare()),
        (Rgun::app("hello:app").args(["-k", "gevent"]), Rgun::bare()),
        (Rgun::app("asgi:app"), Rgun::bare()),
    ] {
        let mut masters = Upgraded::start(rgun, 2);
        let steady = Steady::on(&masters.server);
        let pid = masters.master.to_string();
        ends(&command(by, &["--pid", &pid]), 0, "Upgraded: ");
        takes_over(&mut masters);
        steady.lost_nothing();
    }
}

#[test]
fn waits_for_what_the_old_one_finishes() {
    let mut masters = Upgraded::start(Rgun::app("wsgi:app").args(["-k", "gevent"]), 1);
    let file = masters.server.directory().join("let-go");
    let here = masters.server.directory().join("let-go.here");
    let held = masters
        .server
        .get(&format!("/wait-for-file?{}", file.display()))
        .in_background();
    until("the request is in the app", patience(), || here.exists());
    let upgrade = of_pid(masters.master, &[]);
    masters.server.wait_for_line("Handling signal: term");
    assert!(upgrade.is_running() && process::alive(masters.master));
    fs::write(&file, "").expect("a file");
    assert_eq!(held.response().text(), "seen");
    ends(&upgrade, 0, "Upgraded: ");
    takes_over(&mut masters);
}

/// Puts a script into the place that the server was started from.
fn replace(place: &Path, text: &str) {
    let fresh = place.with_extension("fresh");
    fs::write(&fresh, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(&fresh, place).expect("a rename");
}

/// One server whose new masters fail in every way: each time the command says so and nothing has changed.
#[test]
fn rolls_back() {
    let (rgun, place) = Mode::Unix.set(Rgun::app("builtin:hello")).replaceable();
    let good = fs::read_link(&place).expect("a link");
    let mut masters = Upgraded::start(rgun, 2);
    let steady = Steady::on(&masters.server);
    let before = masters.facts();
    for (script, words, told) in [
        ("exit 7", &[][..], "exited with code 7"),
        ("kill -9 $$", &[], "SIGKILL"),
        (
            "exec sleep 600",
            &["--timeout", "0.3"],
            "was not ready within 0.3 s",
        ),
        (
            "trap '' TERM; sleep 600 & wait; wait",
            &["--timeout", "0.3", "--kill-after", "0.2"],
            "was not ready within",
        ),
        (
            "kill -STOP $$",
            &["--timeout", "0.5"],
            "was not ready within",
        ),
    ] {
        replace(&place, script);
        let upgrade = of_pid(masters.master, words);
        ends(&upgrade, 1, told);
        ends(&upgrade, 1, "goes on");
        assert_eq!(masters.facts(), before, "{script}");
        masters.is_alone();
    }
    fs::remove_file(&place).expect("it is there");
    ends(&of_pid(masters.master, &[]), 1, "No such file");
    symlink(good, &place).expect("a link");
    ends(&of_pid(masters.master, &[]), 0, "Upgraded: ");
    takes_over(&mut masters);
    steady.lost_nothing();
}

#[test]
fn interrupted_it_takes_the_new_master_back() {
    let (rgun, place) = Rgun::app("builtin:hello").replaceable();
    let masters = Upgraded::start(rgun, 1);
    let before = masters.facts();
    replace(&place, "exec sleep 600");
    let upgrade = of_pid(masters.master, &[]);
    masters.server.wait_for_line("Started a new master");
    // So that it knows of the new master.
    until("it watches the new master", patience(), || {
        let watched = |link: &std::path::PathBuf| link.to_string_lossy().contains("pidfd");
        process::open_files(upgrade.pid())
            .iter()
            .filter(|link| watched(link))
            .count()
            == 2
    });
    upgrade.signal(Signal::SIGINT);
    ends(&upgrade, 1, "interrupted");
    until("nothing has changed", patience(), || {
        masters.facts() == before
    });
    masters.is_alone();
}

#[test]
fn another_hand_in_it() {
    // The old master ends before the new one is ready.
    let (rgun, place) = Rgun::app("builtin:hello").replaceable();
    let masters = Upgraded::start(rgun, 1);
    replace(&place, "exec sleep 600");
    let upgrade = of_pid(masters.master, &[]);
    masters.server.wait_for_line("Started a new master");
    process::signal(masters.master, Signal::SIGTERM);
    masters.server.assert_exits(0).within(patience());
    ends(&upgrade, 5, "was ended by somebody else");
}

#[test]
fn one_at_a_time() {
    let (rgun, place) = Rgun::app("builtin:hello").replaceable();
    let masters = Upgraded::start(rgun, 1);
    replace(&place, "exec sleep 600");
    let first = of_pid(masters.master, &[]);
    masters.server.wait_for_line("Started a new master");
    ends(
        &of_pid(masters.master, &[]),
        1,
        "another upgrade of process",
    );
    first.signal(Signal::SIGINT);
    first.assert_exits(1).within(patience());
    // Begun by hand.
    process::signal(masters.master, Signal::SIGUSR2);
    masters.server.wait_for_lines("Started a new master", 2);
    ends(
        &of_pid(masters.master, &[]),
        1,
        "there is a new master already",
    );
    assert!(process::alive(masters.master));
}

#[test]
fn whom_it_refuses() {
    let masters = Upgraded::start(Rgun::app("builtin:hello"), 1);
    let worker = process::children(masters.master)[0];
    // USR2 would be the end of these.
    ends(&of_pid(worker, &[]), 1, "is no master");
    let own = i32::try_from(std::process::id()).expect("a pid");
    ends(&of_pid(own, &[]), 1, "is no master");
    ends(&of_pid(i32::MAX, &[]), 1, "there is no process");
    ends(
        &command(Rgun::bare(), &["-p", "/no/such/file"]),
        1,
        "cannot read a process id",
    );
    ends(&command(Rgun::bare(), &[]), 2, "required");
    ends(&command(Rgun::bare(), &["--pid", "x"]), 2, "invalid value");
    ends(&command(Rgun::example("axum"), &["--help"]), 0, "--pidfile");
    assert_eq!(process::children(masters.master), [worker]);
}

/// A message counts only if it is the master's: not one of another process of the same user.
#[test]
fn a_stranger_is_not_believed() {
    let (rgun, place) = Rgun::app("builtin:hello").replaceable();
    let masters = Upgraded::start(rgun, 1);
    replace(&place, "exec sleep 600");
    let upgrade = of_pid(masters.master, &["--timeout", "3"]);
    let line = masters.server.wait_for_line("Started a new master");
    let new = crate::harness::rgun::pid_after(&line, "(pid:").expect("its pid");
    let space = fs::read_link("/proc/self/ns/pid").expect("a name space");
    let name = format!("rgun-async upgrade {} {}", masters.master, space.display());
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let socket = UnixDatagram::unbound().expect("a socket");
    for text in [
        format!("ready {new}"),
        "promoted".into(),
        "failed it did not".into(),
    ] {
        socket
            .send_to_addr(text.as_bytes(), &address)
            .expect("somebody listens there");
    }
    ends(&upgrade, 1, "was not ready within 3 s");
    assert_eq!(masters.server.count_lines("Handling signal: term"), 0);
    masters.is_alone();
}
