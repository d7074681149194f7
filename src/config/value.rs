//! The values settings have; each parses itself, with its unit.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

/// The port of a [`Bind`] that names none (Gunicorn: `util.parse_address`).
const DEFAULT_PORT: u16 = 8000;

/// The longest path of a unix socket, in bytes (unix(7): `sun_path` has 108, the last is a zero).
const UNIX_PATH_MAX: usize = 107;

/// The apps that need neither Rust code nor Python.
const BUILTINS: [&str; 2] = ["hello", "echo"];

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
    Ok(Bind::Tcp { host: host.to_ascii_lowercase(), port })
}

impl fmt::Display for Bind {
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

/// `builtin:NAME`, `module`, `module:attr`, `module:factory(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppPath {
    /// `builtin:hello`, `builtin:echo`.
    Builtin(String),
    /// A Python app.
    Python {
        /// The dotted path.
        module: String,
        /// The expression after the colon, if there is one; else `application`, then `app`, are looked for.
        attribute: Option<String>,
    },
}

impl FromStr for AppPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (module, attribute) = match text.split_once(':') {
            Some((module, attribute)) => (module, Some(attribute.trim())),
            None => (text, None),
        };
        if module == "builtin" {
            let name = attribute.unwrap_or_default();
            if BUILTINS.contains(&name) {
                return Ok(Self::Builtin(name.to_owned()));
            }
            let near = nearest(name, BUILTINS.iter().copied());
            return Err(format!(
                "names no built-in app; there are builtin:{}{}",
                BUILTINS.join(" and builtin:"),
                did_you_mean(near),
            ));
        }
        if module.contains('/') {
            return Err(
                "looks like a path; name a Python module (MODULE or MODULE:CALLABLE), and its directory by --chdir"
                    .to_owned(),
            );
        }
        let dotted = module
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(|c| c == '_' || c.is_alphanumeric()));
        if !dotted {
            return Err(
                "must be MODULE, MODULE:CALLABLE or MODULE:FACTORY(ARGUMENTS), MODULE a dotted Python name"
                    .to_owned(),
            );
        }
        if attribute == Some("") {
            return Err("names no callable after its colon".to_owned());
        }
        Ok(Self::Python {
            module: module.to_owned(),
            attribute: attribute.map(str::to_owned),
        })
    }
}

impl fmt::Display for AppPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::Python { module, attribute: None } => f.write_str(module),
            Self::Python { module, attribute: Some(attribute) } => {
                write!(f, "{module}:{attribute}")
            }
        }
    }
}

/// Makes an enum of words: `parse` by name without regard to case, `Display`, and the list of names.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$outer])*
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            /// The words that are allowed.
            pub const NAMES: &'static [&'static str] = &[$($word),+];

            /// Its word.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            fn named(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words! {
    /// `-k`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    WorkerClass {
        /// The app decides: gevent where the app's modules ask for it, sync elsewhere.
        Auto = "auto",
        /// One request at a time in each worker.
        Sync = "sync",
        /// Each request in a greenlet; Python apps only.
        Gevent = "gevent",
    }
}

impl FromStr for WorkerClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.trim().to_ascii_lowercase();
        // `egg:gunicorn#gevent`, `gunicorn.workers.ggevent.GeventWorker`: what counts is the last part.
        let last = word.rsplit(['#', '.']).next().unwrap_or_default();
        if let Some(class) = Self::named(last) {
            return Ok(class);
        }
        match last {
            "syncworker" => Ok(Self::Sync),
            "geventworker" | "gevent_pywsgi" | "gevent_wsgi" | "geventpywsgiworker" => {
                Ok(Self::Gevent)
            }
            "gthread" | "threadworker" => {
                Err("is not here: a worker has one thread. Use gevent for apps that wait, or more --workers".to_owned())
            }
            "eventlet" | "eventletworker" => {
                Err("is not here, and eventlet itself has ended. Use gevent".to_owned())
            }
            "tornado" | "tornadoworker" => {
                Err("is not here: Tornado apps bring their own server. For a WSGI app use sync or gevent".to_owned())
            }
            "asgi" | "asgiworker" | "uvicornworker" | "uvicornh11worker" | "aiohttp"
            | "gunicornwebworker" | "gunicornuvloopwebworker" | "asyncio" | "uvloop" => {
                Err("is not here yet: ASGI apps cannot be served. For a WSGI app use sync or gevent".to_owned())
            }
            _ => Err(refuse_word(last, Self::NAMES)),
        }
    }
}

words! {
    /// `--header-map`: what happens to header names with an underscore.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    HeaderMapping {
        /// The header is left out.
        Drop = "drop",
        /// The request is answered with 400.
        Refuse = "refuse",
        /// The header is passed on, and may pass for one with a hyphen.
        Dangerous = "dangerous",
    }
}

impl FromStr for HeaderMapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.trim().to_ascii_lowercase();
        Self::named(&word).ok_or_else(|| refuse_word(&word, Self::NAMES))
    }
}

words! {
    /// `--log-level`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// What the server does.
        Info = "info",
        /// What may become a fault.
        Warning = "warning",
        /// What failed.
        Error = "error",
        /// What stops service: a worker that does not answer.
        Critical = "critical",
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.trim().to_ascii_lowercase();
        Self::named(&word).ok_or_else(|| refuse_word(&word, Self::NAMES))
    }
}

/// A log's destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// `-`: standard output for the access log, standard error for the error log.
    Standard,
    /// A file, created where it is not there, appended to.
    File(PathBuf),
}

impl FromStr for LogTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-" => Ok(Self::Standard),
            "" => Err("must be a file's path, or -".to_owned()),
            path if path.contains('\0') => {
                Err("must not have a zero byte in its path".to_owned())
            }
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("-"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Addresses and networks that are trusted; `*` is everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList {
    /// `*`.
    Everybody,
    /// These alone; none, where it is empty.
    These(Vec<IpNet>),
}

impl AllowList {
    /// This machine: `127.0.0.1` and `::1`.
    #[must_use]
    pub fn localhost() -> Self {
        Self::These(vec![
            IpAddr::from(std::net::Ipv4Addr::LOCALHOST).into(),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST).into(),
        ])
    }

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

impl FromStr for AllowList {
    type Err = String;

    /// Comma separated; Gunicorn: `validate_string_to_addr_list`, which refuses host bits too.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut nets = Vec::new();
        let mut everybody = false;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if part == "*" {
                everybody = true;
                continue;
            }
            let net: IpNet = part
                .parse::<IpAddr>()
                .map(IpNet::from)
                .or_else(|_| part.parse())
                .map_err(|_| format!("{part:?} is no IP address, network (10.0.0.0/8) or *"))?;
            if net.trunc() != net {
                return Err(format!(
                    "{part:?} is an address within a network; the network is {}",
                    net.trunc()
                ));
            }
            nets.push(net);
        }
        Ok(if everybody { Self::Everybody } else { Self::These(nets) })
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nets = match self {
            Self::Everybody => return f.write_str("*"),
            Self::These(nets) => nets,
        };
        for (at, net) in nets.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if net.prefix_len() == net.max_prefix_len() {
                write!(f, "{comma}{}", net.addr())?;
            } else {
                write!(f, "{comma}{net}")?;
            }
        }
        Ok(())
    }
}

/// The name among `names` that is most like `word`, if one is near enough to be meant.
pub(super) fn nearest<'a>(
    word: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&word, &name.to_ascii_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// `; did you mean NAME?`, or nothing.
pub(super) fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

fn refuse_word(word: &str, names: &[&str]) -> String {
    let near = nearest(word, names.iter().copied());
    format!("must be one of {}{}", names.join(", "), did_you_mean(near))
}
