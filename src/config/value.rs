//! The values settings have; each parses itself, with its unit.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;

/// The apps that need neither Rust code nor Python.
const BUILTINS: [&str; 3] = ["hello", "echo", "static:DIRECTORY"];

/// What a built-in app's name begins with that serves a directory.
const STATIC: &str = "static:";

/// `builtin:NAME`, `module`, `module:attr`, `module:factory(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppPath {
    /// `builtin:hello`, `builtin:echo`, `builtin:static:DIRECTORY`.
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
            let directory = name.strip_prefix(STATIC);
            if directory.is_some_and(str::is_empty) {
                return Err("names no directory; it is builtin:static:DIRECTORY".to_owned());
            }
            if directory.is_some() || BUILTINS.contains(&name) {
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
        let dotted = module.split('.').all(|part| {
            !part.is_empty() && part.chars().all(|c| c == '_' || c.is_alphanumeric())
        });
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

impl AppPath {
    /// The directory that `builtin:static:DIRECTORY` serves.
    #[must_use]
    pub fn static_directory(&self) -> Option<&Path> {
        match self {
            Self::Builtin(name) => name.strip_prefix(STATIC).map(Path::new),
            Self::Python { .. } => None,
        }
    }
}

impl fmt::Display for AppPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::Python {
                module,
                attribute: None,
            } => f.write_str(module),
            Self::Python {
                module,
                attribute: Some(attribute),
            } => {
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
        /// asgi for an ASGI app, gthread where there are threads, gevent where Python can import it, else sync.
        Auto = "auto",
        /// One request at a time in each worker.
        Sync = "sync",
        /// Each request in a greenlet.
        Gevent = "gevent",
        /// Each request in a thread.
        Gthread = "gthread",
        /// ASGI apps: each request in a task of an asyncio loop.
        Asgi = "asgi",
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
            "threadworker" => Ok(Self::Gthread),
            // Of uvicorn, uvicorn-worker and Gunicorn itself.
            "asgiworker" | "uvicornworker" | "uvicornh11worker" | "asyncio" | "uvloop" => Ok(Self::Asgi),
            "eventlet" | "eventletworker" => {
                Err("is not here: eventlet is maintained for old programs only. Use gevent, or gthread without a patched library".to_owned())
            }
            "tornado" | "tornadoworker" => {
                Err("is not here: Tornado apps bring their own server. For a WSGI app use gevent or gthread, for an ASGI app asgi".to_owned())
            }
            "aiohttp" | "gunicornwebworker" | "gunicornuvloopwebworker" => {
                Err("is not here: aiohttp apps bring their own server. For an ASGI app use asgi, for a WSGI app gevent".to_owned())
            }
            _ => Err(refuse_word(last, Self::NAMES)),
        }
    }
}

words! {
    /// `--asgi-loop`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    AsgiLoop {
        /// uvloop where Python can import it, else asyncio.
        Auto = "auto",
        /// The standard library's event loop.
        Asyncio = "asyncio",
        /// uvloop's.
        Uvloop = "uvloop",
    }
}

words! {
    /// `--asgi-lifespan`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    AsgiLifespan {
        /// Where the app supports it.
        Auto = "auto",
        /// The app must support it.
        On = "on",
        /// The app is not asked.
        Off = "off",
    }
}

words! {
    /// `--websocket-compression`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    WebsocketCompression {
        /// Where the client can.
        On = "on",
        /// Never.
        Off = "off",
    }
}

words! {
    /// One of `--http-protocols`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    HttpProtocol {
        /// HTTP/1.1, which is always spoken where a client chooses nothing.
        Http1 = "h1",
        /// HTTP/2.
        Http2 = "h2",
    }
}

words! {
    /// `--http2-cleartext`: how HTTP/2 may begin without TLS.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Http2Cleartext {
        /// Not at all.
        Off = "off",
        /// With the preface of HTTP/2.
        PriorKnowledge = "prior-knowledge",
        /// By a request of HTTP/1.1 with `Upgrade: h2c`.
        Upgrade = "upgrade",
        /// Either way.
        Both = "both",
    }
}

impl Http2Cleartext {
    /// A connection may begin with the preface of HTTP/2.
    #[must_use]
    pub const fn has_prior_knowledge(self) -> bool {
        matches!(self, Self::PriorKnowledge | Self::Both)
    }

    /// A request may ask for HTTP/2.
    #[must_use]
    pub const fn has_upgrade(self) -> bool {
        matches!(self, Self::Upgrade | Self::Both)
    }
}

words! {
    /// `--compress`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Algorithm {
        /// Brotli (RFC 7932).
        Brotli = "br",
        /// Zstandard (RFC 8878).
        Zstd = "zstd",
        /// Gzip (RFC 1952).
        Gzip = "gzip",
    }
}

impl Algorithm {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];
}

words! {
    /// `--reload-engine`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    ReloadEngine {
        /// inotify where the system has it, else poll.
        Auto = "auto",
        /// Look at each file every second.
        Poll = "poll",
        /// The kernel tells.
        Inotify = "inotify",
    }
}

/// `--workers`: a number, or between two of them as the load asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerRange {
    /// As many as there are at the start.
    pub least: usize,
    /// The same where the number does not change by itself.
    pub most: usize,
}

impl WorkerRange {
    /// Always as many.
    #[must_use]
    pub const fn fixed(workers: usize) -> Self {
        Self {
            least: workers,
            most: workers,
        }
    }
}

impl fmt::Display for WorkerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most {
            self.least.fmt(f)
        } else {
            write!(f, "{}..{}", self.least, self.most)
        }
    }
}

words! {
    /// `--reload-strategy`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    ReloadStrategy {
        /// All new workers beside the old ones.
        AllAtOnce = "all-at-once",
        /// `--reload-batch` workers at a time.
        Rolling = "rolling",
    }
}

/// Reads a word of each of these enums.
macro_rules! read_words {
    ($($name:ident),+ $(,)?) => {$(
        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let word = text.trim().to_ascii_lowercase();
                Self::named(&word).ok_or_else(|| refuse_word(&word, Self::NAMES))
            }
        }
    )+};
}

read_words!(
    Algorithm,
    AsgiLoop,
    AsgiLifespan,
    WebsocketCompression,
    HttpProtocol,
    Http2Cleartext,
    ReloadEngine,
    ReloadStrategy
);

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
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
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
        Ok(if everybody {
            Self::Everybody
        } else {
            Self::These(nets)
        })
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
        .map(|name| {
            (
                strsim::jaro_winkler(&word, &name.to_ascii_lowercase()),
                name,
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_are_modules_with_expressions_or_built_in() {
        for text in [
            "app",
            "pkg.mod:app",
            "mod:attr.sub",
            "mod:make('a', b=1)",
            "builtin:echo",
        ] {
            assert_eq!(text.parse::<AppPath>().unwrap().to_string(), text);
        }
        let path = "a.b:f(':')".parse();
        let attribute = Some("f(':')".to_owned());
        assert_eq!(
            path,
            Ok(AppPath::Python {
                module: "a.b".to_owned(),
                attribute
            })
        );
        for text in [
            "",
            ":app",
            "mod:",
            "a..b",
            "./app.py",
            "my-app",
            "builtin:",
            "builtin:x",
            "builtin",
        ] {
            assert!(text.parse::<AppPath>().is_err(), "{text}");
        }
    }

    #[test]
    fn allow_lists_are_strict_about_networks() {
        let list: AllowList = "10.0.0.0/8, ::1,192.0.2.7".parse().unwrap();
        assert!(list.allows([10, 1, 2, 3].into()));
        assert!(list.allows("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!list.allows([192, 0, 2, 8].into()));
        assert_eq!(list.to_string(), "10.0.0.0/8,::1,192.0.2.7");
        assert_eq!("".parse(), Ok(AllowList::These(Vec::new())));
        assert_eq!("::1,*".parse(), Ok(AllowList::Everybody));
        assert_eq!(
            AllowList::localhost().to_string().parse(),
            Ok(AllowList::localhost())
        );
        let host_bits = "192.168.1.1/24".parse::<AllowList>().unwrap_err();
        assert!(
            host_bits.ends_with("the network is 192.168.1.0/24"),
            "{host_bits}"
        );
        assert!("localhost".parse::<AllowList>().is_err());
    }

    #[test]
    fn words_are_read_without_case_and_guessed() {
        assert_eq!("WARNING".parse(), Ok(LogLevel::Warning));
        assert!(
            "warn"
                .parse::<LogLevel>()
                .unwrap_err()
                .ends_with("did you mean warning?")
        );
        assert_eq!("drop".parse(), Ok(HeaderMapping::Drop));
        assert_eq!(
            LogLevel::NAMES,
            ["debug", "info", "warning", "error", "critical"]
        );
        assert!(LogLevel::Debug < LogLevel::Critical);
    }
}
