//! What a service manager is told by `NOTIFY_SOCKET` (`sd_notify(3)`, `Type=notify` and `Type=notify-reload`). One of two
//! masters speaks: the old one, for as long as it lives. It names the new one when it leaves, since a manager listens to the
//! main process alone (`NotifyAccess=main`); so nobody need be told what becomes of a new master that is given up.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use nix::unistd::Pid;
use sd_notify::NotifyState;

use super::upgrade::Standing;
use crate::os::datagram;

/// The variable with the manager's address.
const SOCKET: &str = "NOTIFY_SOCKET";

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// All workers have been ready for the first time.
    Ready,
    /// A reload begins.
    Reloading,
    /// It has ended, one way or the other.
    Reloaded,
    /// The server, or this master of two, is about to end.
    Stopping,
    /// The old master is gone; the workers have been ready, or not yet.
    Promoted { ready: bool },
}

/// Tells the manager, if there is one.
pub(super) fn notify(moment: Moment, standing: Standing) {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else {
        return;
    };
    let states = message(moment, standing, std::process::id());
    if states.is_empty() {
        return;
    }
    // The crate would wait for a manager that does not read, and knows no abstract names: its words, our way to send them.
    let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
    let sent = address(&socket).and_then(|address| datagram::send(&address, &lines.join("\n")));
    if let Err(error) = sent {
        tracing::warn!("cannot notify {}: {error}", socket.display());
    }
}

/// A path, or an abstract name behind an `@`.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => datagram::abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

fn message(moment: Moment, standing: Standing, own: u32) -> Vec<NotifyState<'static>> {
    if standing.parent().is_some() {
        return Vec::new();
    }
    let main = NotifyState::MainPid(own);
    match moment {
        Moment::Ready => vec![NotifyState::Ready, main, NotifyState::Status("Serving")],
        Moment::Reloaded => vec![NotifyState::Ready, NotifyState::Status("Serving")],
        Moment::Reloading => {
            let mut states = vec![NotifyState::Reloading];
            // Without it a manager from 253 on takes the message for none.
            states.extend(NotifyState::monotonic_usec_now());
            states.push(NotifyState::Status("Reloading"));
            states
        }
        Moment::Stopping => match standing.child().and_then(number) {
            Some(new) => vec![
                NotifyState::MainPid(new),
                NotifyState::Status("A new master takes over"),
            ],
            None => vec![
                main,
                NotifyState::Stopping,
                NotifyState::Status("Finishing"),
            ],
        },
        Moment::Promoted { ready: true } => {
            vec![main, NotifyState::Ready, NotifyState::Status("Serving")]
        }
        Moment::Promoted { ready: false } => {
            vec![main, NotifyState::Status("Starting")]
        }
    }
}

fn number(pid: Pid) -> Option<u32> {
    u32::try_from(pid.as_raw()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Moment; 6] = [
        Moment::Ready,
        Moment::Reloading,
        Moment::Reloaded,
        Moment::Stopping,
        Moment::Promoted { ready: true },
        Moment::Promoted { ready: false },
    ];

    fn told(moment: Moment, standing: Standing) -> Vec<String> {
        let states = message(moment, standing, 10);
        states.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_master_is_silent_while_the_old_one_lives() {
        for moment in ALL {
            let standing = Standing::Following(Pid::from_raw(9));
            assert!(told(moment, standing).is_empty(), "{moment:?}");
        }
    }

    #[test]
    fn the_service_stops_only_with_its_last_master() {
        let new = Pid::from_raw(11);
        for standing in [Standing::Awaiting(new), Standing::Followed(new)] {
            let told = told(Moment::Stopping, standing);
            assert!(told.contains(&String::from("MAINPID=11")), "{told:?}");
            assert!(!told.contains(&String::from("STOPPING=1")), "{told:?}");
        }
        let told = told(Moment::Stopping, Standing::Alone);
        assert!(told.contains(&String::from("STOPPING=1")), "{told:?}");
    }

    #[test]
    fn nothing_but_ready_workers_makes_it_ready() {
        let ready = |moment| told(moment, Standing::Alone).contains(&String::from("READY=1"));
        let said: Vec<_> = ALL.into_iter().filter(|moment| ready(*moment)).collect();
        assert_eq!(
            said,
            [
                Moment::Ready,
                Moment::Reloaded,
                Moment::Promoted { ready: true }
            ]
        );
    }

    #[test]
    fn a_reload_carries_the_clock() {
        let told = told(Moment::Reloading, Standing::Alone);
        assert_eq!(told.first().map(String::as_str), Some("RELOADING=1"));
        assert!(
            told.iter().any(|line| line.starts_with("MONOTONIC_USEC=")),
            "{told:?}"
        );
    }

    #[test]
    fn a_manager_has_a_path_or_an_abstract_name() {
        let path = address(OsStr::new("/run/systemd/notify")).unwrap();
        assert!(path.as_pathname().is_some());
        let name = address(OsStr::new("@notify")).unwrap();
        assert!(name.as_pathname().is_none() && !name.is_unnamed());
    }
}
