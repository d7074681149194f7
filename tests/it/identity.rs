//! `--user` and `--group`: the master stays who it is, the workers do not.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::harness::privilege::{is_root, must_be_root};
use crate::harness::{Rgun, patience, process, until};

/// Only root may change its identity; anybody else is told so, with the exit code of a worker that cannot boot.
#[test]
fn nobody_but_root_has_workers_of_another_user() {
    let rgun = Rgun::app("builtin:hello").args(["--user", "nobody"]);
    let anybody = ["setpriv", "--reuid=54321", "--clear-groups", "--"];
    let rgun = if is_root() {
        rgun.wrapped(anybody)
    } else {
        rgun
    };
    let server = rgun.spawn();
    server.wait_for_line("cannot change to the user or group");
    server.assert_exits(3).within(patience());
}

#[test]
fn workers_of_another_user_beat_and_reopen_their_logs() {
    must_be_root("serve as another user");
    let rgun = Rgun::app("builtin:hello")
        .args(["--user", "nobody", "--timeout", "2"])
        .args([
            "--error-logfile",
            "error.log",
            "--access-logfile",
            "access.log",
        ]);
    let directory = rgun.directory();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let rgun = rgun.chdir(&directory);
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let nobody = User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    let server = rgun.spawn();
    until("the log has the address", patience(), || {
        read("error.log").contains("ready")
    });
    let log = read("error.log");
    let address = log
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    let workers = process::children(server.pid());
    assert_eq!(workers.len(), 1);
    assert_eq!(
        fs::metadata(format!("/proc/{}", workers[0])).unwrap().uid(),
        nobody
    );

    let get = |path: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    get("/before");
    until("the line is there", patience(), || {
        read("access.log").contains("/before")
    });
    for name in ["error.log", "access.log"] {
        fs::rename(directory.join(name), directory.join(format!("{name}.1"))).unwrap();
    }
    server.signal(Signal::SIGUSR1);
    until("the logs are there again", patience(), || {
        ["error.log", "access.log"].iter().all(|name| {
            fs::metadata(directory.join(name)).is_ok_and(|file| file.uid() == nobody)
        })
    });
    until("lines go to the new file", patience(), || {
        get("/after");
        read("access.log").contains("/after")
    });
    // Longer than --timeout: a worker that cannot touch its heartbeat file would be gone.
    let beat = std::time::Instant::now();
    until("the timeout has passed", patience(), || {
        beat.elapsed() > Duration::from_secs(4)
    });
    assert_eq!(process::children(server.pid()), workers);
    for name in ["error.log.1", "error.log"] {
        assert!(!read(name).contains("[ERROR]"), "{}", read(name));
    }
}
