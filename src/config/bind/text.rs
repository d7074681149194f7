//! How a bind with a scheme is written: the scheme, and what has to be escaped.

use std::fmt::{self, Display};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::{Speaks, TlsOptions, did_you_mean, nearest};

/// What stands before an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Uwsgi,
    Tcp,
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Uwsgi, Self::Tcp];

    pub(super) const NAMES: [&'static str; 4] = ["http", "https", "uwsgi", "tcp"];

    /// By which a bind is written that speaks this.
    pub(super) const fn of(speaks: &Speaks, tls: Option<&TlsOptions>) -> Self {
        match (speaks, tls) {
            (Speaks::Http, None) => Self::Http,
            (Speaks::Http, Some(_)) => Self::Https,
            (Speaks::Uwsgi, _) => Self::Uwsgi,
            (Speaks::Tcp(_), _) => Self::Tcp,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Uwsgi => "uwsgi",
            Self::Tcp => "tcp",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        let all = Self::ALL.into_iter();
        all.into_iter().find(|scheme| scheme.name() == name)
    }
}

/// The scheme, and what follows it: `https://…`, `https:unix:…`, `https:fd://…`. A name before another colon is a host's.
pub(super) fn split(text: &str) -> Option<(Scheme, &str)> {
    let (name, rest) = text.split_once(':')?;
    let scheme = Scheme::named(name)?;
    if rest.starts_with("unix:") || rest.starts_with("fd://") {
        return Some((scheme, rest));
    }
    rest.strip_prefix("//").map(|rest| (scheme, rest))
}

/// What is wrong with a bind that begins like one with a scheme, if it does.
pub(super) fn mistaken(text: &str) -> Option<String> {
    let (name, rest) = text.split_once(':')?;
    if Scheme::named(name).is_some() {
        return Some(format!(
            "has no address behind its scheme: write {name}://HOST:PORT or {name}:unix:PATH"
        ));
    }
    if name.is_empty() || name == "unix" || !rest.starts_with("//") {
        return None;
    }
    let hint = match name {
        "ws" | "wss" => "; WebSockets come by http:// and https://".to_owned(),
        "h2" | "h2c" | "http2" => {
            "; HTTP/2 is spoken at https:// and http:// where --http-protocols names h2"
                .to_owned()
        }
        _ => did_you_mean(nearest(name, Scheme::NAMES)),
    };
    let names = Scheme::NAMES.join(", ");
    Some(format!("{name:?} is no scheme; there are {names}{hint}"))
}

/// `%` and two digits stand for a byte.
pub(super) fn decoded(text: &str) -> Result<String, String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| format!("{text:?} is not UTF-8 behind its %"))
}

/// What ends an address, a service or an option, and the comma, which ends a bind.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b',')
    .add(b'?')
    .add(b'&')
    .add(b'=')
    .add(b'#');

pub(super) fn encoded(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    utf8_percent_encode(text, ESCAPED).fmt(f)
}
