//! The values settings have; each parses itself, with its unit.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// `HOST`, `HOST:PORT`, `[v6]:PORT`, `tcp://…`; a host name is resolved when it is bound.
    Tcp { host: String, port: u16 },
    /// `unix:PATH`, `unix://PATH`.
    Unix(PathBuf),
    /// `unix:@NAME` (Linux): the name without the `@`.
    Abstract(Vec<u8>),
    /// `fd://N`.
    Fd(RawFd),
}

/// `[file:]builtin:NAME`, `module`, `module:attr`, `module:factory(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppPath {
    /// `builtin:hello`, `builtin:echo`.
    Builtin(String),
    /// A Python app: the module's dotted path, and the expression after the colon, if any.
    Python { module: String, attribute: Option<String> },
}

/// `-k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerClass {
    Auto,
    Sync,
    Gevent,
}

/// `--header-map`: what happens to header names with an underscore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMapping {
    Drop,
    Refuse,
    Dangerous,
}

/// `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// A log's destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// `-`: standard output for the access log, standard error for the error log.
    Standard,
    File(PathBuf),
}

/// Addresses and networks that are trusted; `*` is everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList {
    Everybody,
    These(Vec<ipnet::IpNet>),
}

impl AllowList {
    /// Whether `peer` is among them. An IPv4 address mapped into IPv6 counts as itself.
    #[must_use]
    pub fn allows(&self, peer: IpAddr) -> bool {
        match self {
            Self::Everybody => true,
            Self::These(nets) => {
                let peer = peer.to_canonical();
                nets.iter().any(|net| net.contains(&peer))
            }
        }
    }

    /// The same for a socket's address.
    #[must_use]
    pub fn allows_socket(&self, peer: &SocketAddr) -> bool {
        self.allows(peer.ip())
    }
}

impl std::fmt::Display for AppPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::Python { module, attribute: None } => f.write_str(module),
            Self::Python { module, attribute: Some(attribute) } => {
                write!(f, "{module}:{attribute}")
            }
        }
    }
}
