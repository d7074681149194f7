//! Where to listen.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of an [`Address`] that names none (Gunicorn: `util.parse_address`).
const DEFAULT_PORT: u16 = 8000;

/// The longest path of a unix socket, in bytes (unix(7): `sun_path` has 108, the last is a zero).
const UNIX_PATH_MAX: usize = 107;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `HOST`, `HOST:PORT`, `:PORT`, `[v6]:PORT`; a host name is resolved when it is bound.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// Zero: the kernel chooses.
        port: u16,
    },
    /// `unix:PATH`, `unix://PATH`.
    Unix(PathBuf),
    /// `unix:@NAME` (Linux): the name without the `@`.
    Abstract(Vec<u8>),
    /// `fd://N`.
    Fd(RawFd),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest.strip_prefix("//").unwrap_or(rest));
        }
        if let Some(number) = text.strip_prefix("fd://") {
            return match number.parse::<RawFd>() {
                Ok(fd) if fd >= 0 => Ok(Self::Fd(fd)),
                _ => Err(format!("{number:?} is no file descriptor's number")),
            };
        }
        Self::tcp(text)
    }
}

fn unix(path: &str) -> Result<Address, String> {
    let length = path.len();
    if length == 0 {
        return Err("names no path for its unix socket".to_owned());
    }
    if path.contains('\0') {
        return Err("must not have a zero byte in its path".to_owned());
    }
    if length > UNIX_PATH_MAX {
        return Err(format!(
            "has a path of {length} bytes; a unix socket's has at most {UNIX_PATH_MAX}"
        ));
    }
    match path.strip_prefix('@') {
        Some("") => Err("names no abstract socket after the @".to_owned()),
        Some(name) => Ok(Address::Abstract(name.as_bytes().to_vec())),
        None => Ok(Address::Unix(PathBuf::from(path))),
    }
}

impl Address {
    /// `HOST:PORT`, whatever the host is called.
    pub(super) fn tcp(text: &str) -> Result<Self, String> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("has a [ without its ]")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("{host:?} in brackets is no IPv6 address"));
            }
            match (rest, rest.strip_prefix(':')) {
                ("", _) => (host, None),
                (_, Some(port)) => (host, Some(port)),
                _ => return Err(format!("has {rest:?} after its ]; a :PORT may follow")),
            }
        } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(format!(
                "is an IPv6 address without brackets; write [{text}]:PORT"
            ));
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.contains(|c: char| c.is_whitespace() || "/@,[]".contains(c)) {
            return Err(format!("{host:?} is no host name or address"));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port
                .parse()
                .map_err(|_| format!("{port:?} is no port; it is a number from 0 to 65535"))?,
        };
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        Ok(Self::Tcp {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
            Self::Fd(fd) => write!(f, "fd://{fd}"),
        }
    }
}
