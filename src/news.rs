//! What becomes of an upgrade (USR2), told by the masters to whoever watches it: `rgun-async upgrade` listens at an abstract
//! datagram socket that is named after the old master. Where nobody listens, nothing is told.

use std::io;

use nix::unistd::Pid;

use crate::os::datagram;

/// One message. Only [`Promoted`](Self::Promoted) is the new master's; the others are the old one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// There is a new master, with this process id.
    Started(Pid),
    /// All workers of the new master are ready.
    Ready(Pid),
    /// The new master has ended, or could not be started; the old one goes on. Why, for people.
    Failed(String),
    /// USR2 was not obeyed. Why, for people.
    Refused(String),
    /// The old master is gone, and the new one has its names.
    Promoted,
}

impl News {
    fn text(&self) -> String {
        match self {
            Self::Started(pid) => format!("started {pid}"),
            Self::Ready(pid) => format!("ready {pid}"),
            Self::Failed(why) => format!("failed {why}"),
            Self::Refused(why) => format!("refused {why}"),
            Self::Promoted => String::from("promoted"),
        }
    }

    /// What `text` says; `None` where it says nothing that is known here.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let pid = || {
            let pid = rest.parse().ok().filter(|pid| *pid > 0)?;
            Some(Pid::from_raw(pid))
        };
        match word {
            "started" => pid().map(Self::Started),
            "ready" => pid().map(Self::Ready),
            "failed" => Some(Self::Failed(rest.to_owned())),
            "refused" => Some(Self::Refused(rest.to_owned())),
            "promoted" => Some(Self::Promoted),
            _ => None,
        }
    }

    /// Tells it to whoever watches the upgrade of the master `old`.
    pub(crate) fn tell(&self, old: Pid) {
        let told =
            address("self", old).and_then(|address| datagram::send(&address, &self.text()));
        if let Err(error) = told
            && error.kind() != io::ErrorKind::ConnectionRefused
        {
            tracing::debug!("cannot tell what became of the upgrade: {error}");
        }
    }
}

/// Where news of the upgrade of the master `old` are listened to. A process id means nothing outside of its name space, so
/// that is in it: `process` is the name in /proc of one that lives in the same.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn address(process: &str, old: Pid) -> io::Result<std::os::unix::net::SocketAddr> {
    let space = std::fs::read_link(format!("/proc/{process}/ns/pid"))?;
    datagram::abstract_name(format!("rgun-async upgrade {old} {}", space.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for news in [
            News::Started(Pid::from_raw(4711)),
            News::Ready(Pid::from_raw(4711)),
            News::Failed(String::from("exited with code 4 (no app)")),
            News::Refused(String::from("the server is stopping")),
            News::Promoted,
        ] {
            assert_eq!(News::read(&news.text()), Some(news));
        }
    }

    #[test]
    fn what_means_nothing_is_nothing() {
        for text in ["", "ready", "ready -1", "ready 0", "started x", "READY 1"] {
            assert_eq!(News::read(text), None, "{text:?}");
        }
    }
}
