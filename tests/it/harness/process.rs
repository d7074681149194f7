//! What `/proc` tells of a process.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sends `signal` to one process; it must exist.
#[track_caller]
pub(crate) fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal)
        .unwrap_or_else(|error| panic!("cannot send {signal} to {pid}: {error}"));
}

/// The process exists and is no zombie.
pub(crate) fn alive(pid: i32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The letter of its state, as in proc(5); `None` when there is no such process.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The pids of its children.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .map(|pid| pid.parse().expect("the kernel writes numbers"))
        .collect()
}

/// A number of `/proc/PID/status`, such as `voluntary_ctxt_switches`.
#[track_caller]
pub(crate) fn status(pid: i32, key: &str) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_else(|error| panic!("no status of {pid}: {error}"))
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in the status of {pid}"))
}

/// The processor time it has used, user and system, in hundredths of a second.
pub(crate) fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // Of proc(5)'s fields 14 and 15; the rest begins with field 3.
    let mine = fields.split_whitespace().skip(11).take(2);
    mine.map(|field| field.parse::<u64>().expect("the kernel writes numbers"))
        .sum()
}

/// Where its open file descriptors lead, as the kernel names them.
pub(crate) fn open_files(pid: i32) -> Vec<PathBuf> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .collect()
        })
        .unwrap_or_default()
}

/// The inodes of all established TCP connections whose local port is `port`.
pub(crate) fn established(port: u16) -> HashSet<u64> {
    sockets(port, "01")
}

/// The inodes of all TCP sockets that listen at `port`.
pub(crate) fn listening(port: u16) -> HashSet<u64> {
    sockets(port, "0A")
}

fn sockets(port: u16, state: &str) -> HashSet<u64> {
    let local = format!(":{port:04X}");
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .skip(1)
        {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [_, at, _, is, _, _, _, _, _, inode, ..] = fields[..]
                && at.ends_with(&local)
                && is == state
            {
                inodes.insert(inode.parse().expect("the kernel writes numbers"));
            }
        }
    }
    inodes
}

/// How many of these sockets, by inode, the process holds.
pub(crate) fn holds(pid: i32, sockets: &HashSet<u64>) -> usize {
    open_files(pid)
        .iter()
        .filter_map(|link| {
            link.to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse::<u64>()
                .ok()
        })
        .filter(|inode| sockets.contains(inode))
        .count()
}
