//! systemd's side: what comes to `NOTIFY_SOCKET` (`sd_notify(3)`), and from which process.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::signal::Signal;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt,
};

use super::{Mode, Steady, Upgraded};
use crate::harness::{Rgun, patience, process};

/// The service manager, as far as it listens.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

/// One message: who sent it, and its lines.
#[derive(Debug)]
struct Message {
    pid: i32,
    lines: Vec<String>,
}

impl Manager {
    /// At an abstract name, or at a path in the server's directory.
    fn listen(rgun: &Rgun, path: bool) -> Self {
        let (socket, name) = if path {
            let path = rgun.directory().join("notify");
            (UnixDatagram::bind(&path), path.display().to_string())
        } else {
            let name = format!("rgun-test-notify-{}", rgun.directory().display());
            let address = SocketAddr::from_abstract_name(&name).expect("a name");
            (UnixDatagram::bind_addr(&address), format!("@{name}"))
        };
        let socket = socket.expect("a socket");
        setsockopt(&socket, sockopt::PassCred, &true).expect("an option");
        socket
            .set_read_timeout(Some(patience()))
            .expect("a timeout");
        Self { socket, name }
    }

    #[track_caller]
    fn next(&self) -> Message {
        let mut bytes = [0; 4096];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let mut space = nix::cmsg_space!(UnixCredentials);
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut slices, Some(&mut space), MsgFlags::empty())
            .expect("a message within the time");
        let length = message.bytes;
        let pid = message.cmsgs().expect("it is whole").find_map(|part| {
            if let ControlMessageOwned::ScmCredentials(who) = part {
                Some(who.pid())
            } else {
                None
            }
        });
        let text = String::from_utf8_lossy(&bytes[..length]);
        Message {
            pid: pid.expect("the kernel tells"),
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    /// The next message is from `pid` and has these lines; what it has beside them is a status for people.
    #[track_caller]
    fn hears(&self, pid: i32, lines: &[&str]) -> Message {
        let message = self.next();
        let said: Vec<_> = message
            .lines
            .iter()
            .map(|line| line.split("_USEC=").next().unwrap_or_default())
            .filter(|line| !line.starts_with("STATUS="))
            .collect();
        assert_eq!((message.pid, said.as_slice()), (pid, lines), "{message:?}");
        message
    }

    fn hears_nothing(&self) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        let heard = nix::sys::socket::recv(self.socket.as_raw_fd(), &mut [0; 16], flags);
        assert_eq!(heard, Err(nix::errno::Errno::EAGAIN));
    }
}

fn main_pid(pid: i32) -> String {
    format!("MAINPID={pid}")
}

#[test]
fn a_life() {
    for path in [true, false] {
        let rgun = Rgun::app("builtin:hello");
        let file = rgun.write("rgun.toml", "");
        let manager = Manager::listen(&rgun, path);
        let rgun = rgun
            .env("NOTIFY_SOCKET", &manager.name)
            .arg("-c")
            .arg(&file);
        let masters = Upgraded::start(rgun, 2);
        let pid = masters.master;
        manager.hears(pid, &["READY=1", &main_pid(pid)]);
        // A reload that succeeds, and one that does not.
        process::signal(pid, Signal::SIGHUP);
        let message = manager.hears(pid, &["RELOADING=1", "MONOTONIC"]);
        let clock = message
            .lines
            .iter()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="))
            .and_then(|text| text.parse::<u64>().ok());
        let uptime = fs::read_to_string("/proc/uptime").expect("a clock");
        let uptime: f64 = uptime
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .expect("a number");
        let told = std::time::Duration::from_micros(clock.expect("a number")).as_secs_f64();
        assert!((uptime - told).abs() < 120.0, "{told} at {uptime}");
        manager.hears(pid, &["READY=1"]);
        fs::write(&file, "wokers = 2\n").expect("a file");
        process::signal(pid, Signal::SIGHUP);
        manager.hears(pid, &["RELOADING=1", "MONOTONIC"]);
        manager.hears(pid, &["READY=1"]);
        process::signal(pid, Signal::SIGTERM);
        manager.hears(pid, &[&main_pid(pid), "STOPPING=1"]);
        masters.server.assert_exits(0).within(patience());
        manager.hears_nothing();
    }
}

/// With `NotifyAccess=main` each message counts: it comes from the process that is the main one at that time.
#[test]
fn an_upgrade() {
    for mode in [Mode::Shared, Mode::Activated] {
        let rgun = Rgun::app("builtin:hello");
        let manager = Manager::listen(&rgun, true);
        let rgun = rgun.env("NOTIFY_SOCKET", &manager.name);
        let mut masters = Upgraded::start(mode.set(rgun), 2);
        let old = masters.master;
        manager.hears(old, &["READY=1", &main_pid(old)]);
        let steady = Steady::on(&masters.server);
        // Given up: the manager hears nothing of it.
        let new = masters.upgrade();
        masters.give_up(new, Signal::SIGTERM);
        manager.hears_nothing();
        let new = masters.upgrade();
        manager.hears_nothing();
        masters.retire(new, Signal::SIGTERM);
        manager.hears(old, &[&main_pid(new)]);
        manager.hears(new, &[&main_pid(new), "READY=1"]);
        steady.lost_nothing();
        process::signal(new, Signal::SIGHUP);
        manager.hears(new, &["RELOADING=1", "MONOTONIC"]);
        manager.hears(new, &["READY=1"]);
        process::signal(new, Signal::SIGTERM);
        manager.hears(new, &[&main_pid(new), "STOPPING=1"]);
        masters.ends(new);
        manager.hears_nothing();
    }
}

/// The master does not wait for a manager that reads nothing, nor for one that is gone.
#[test]
fn a_manager_that_is_stuck_or_gone() {
    let rgun = Rgun::app("builtin:hello");
    let manager = Manager::listen(&rgun, true);
    let rgun = rgun.env("NOTIFY_SOCKET", &manager.name);
    let stuffing = UnixDatagram::unbound().expect("a socket");
    stuffing.set_nonblocking(true).expect("a mode");
    while stuffing.send_to(b"full", &manager.name).is_ok() {}
    let mut masters = Upgraded::start(rgun, 1);
    masters.server.wait_for_line("cannot notify");
    let new = masters.upgrade();
    masters.retire(new, Signal::SIGTERM);
    drop(manager);
    process::signal(masters.master, Signal::SIGTERM);
    masters.ends(masters.master);
}
