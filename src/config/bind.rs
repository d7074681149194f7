//! Where to listen.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of a [`Bind`] that names none (Gunicorn: `util.parse_address`).
const DEFAULT_PORT: u16 = 8000;

/// The longest path of a unix socket, in bytes (unix(7): `sun_path` has 108, the last is a zero).
const UNIX_PATH_MAX: usize = 107;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// `HOST`, `HOST:PORT`, `:PORT`, `[v6]:PORT`, `tcp://…`; a host name is resolved when it is bound.
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

impl FromStr for Bind {
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
        tcp(text.strip_prefix("tcp://").unwrap_or(text))
    }
}

fn unix(path: &str) -> Result<Bind, String> {
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
        Some(name) => Ok(Bind::Abstract(name.as_bytes().to_vec())),
        None => Ok(Bind::Unix(PathBuf::from(path))),
    }
}

fn tcp(text: &str) -> Result<Bind, String> {
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
    Ok(Bind::Tcp {
        host: host.to_ascii_lowercase(),
        port,
    })
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            // A host of that name.
            Self::Tcp { host, port } if host == "unix" => write!(f, "tcp://{host}:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
            Self::Fd(fd) => write!(f, "fd://{fd}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> String {
        text.parse::<Bind>()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .to_string()
    }

    #[test]
    fn binds_are_read_as_gunicorn_reads_them() {
        for (text, address) in [
            ("localhost", "localhost:8000"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            (":80", "0.0.0.0:80"),
            ("", "0.0.0.0:8000"),
            ("Example.ORG:0", "example.org:0"),
            ("tcp://[::1]:80", "[::1]:80"),
            ("tcp://unix:80", "tcp://unix:80"),
            ("[::]", "[::]:8000"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
            ("unix:a.sock", "unix:a.sock"),
            ("unix:@name", "unix:@name"),
            ("fd://3", "fd://3"),
        ] {
            assert_eq!(bind(text), address, "{text}");
            assert_eq!(bind(address), address);
        }
        assert_eq!("unix:@a".parse(), Ok(Bind::Abstract(b"a".to_vec())));
        assert_eq!("fd://7".parse(), Ok(Bind::Fd(7)));
    }

    #[test]
    fn binds_that_lead_nowhere_are_refused() {
        for text in [
            "host:port",
            "host:65536",
            "host:-1",
            "host:",
            "::1",
            "[::1",
            "[::1]80",
            "[no]:80",
            "a b",
            "http://x",
            "unix:",
            "unix://",
            "unix:@",
            "fd://",
            "fd://-1",
            "fd://x",
        ] {
            assert!(text.parse::<Bind>().is_err(), "{text}");
        }
        let longest = format!("unix:/{}", "a".repeat(106));
        assert!(longest.parse::<Bind>().is_ok());
        assert!(
            format!("{longest}a")
                .parse::<Bind>()
                .unwrap_err()
                .contains("107")
        );
    }
}
