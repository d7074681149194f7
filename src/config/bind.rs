//! A listener of the configuration: where it listens, what is spoken there, and its options.
//!
//! Gunicorn's forms name an address only, and the settings for all listeners say the rest. With a scheme a bind has words
//! of its own: `https://0.0.0.0:8443?cert=a.pem&key=a.key`, `uwsgi:unix:/run/app.sock`, `tcp://127.0.0.1:9000=rpc`.
//! In the TOML file the same words are the keys of a `[[bind]]` table.

mod options;
mod text;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::address::Address;
use super::raw::{Item, scalar};
use super::value::{did_you_mean, nearest};
use super::{Config, TlsVersion};
use options::{KEYS, Key};
use text::{Scheme, decoded, encoded, mistaken, split};

/// A listener of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bind {
    /// Where it listens.
    pub address: Address,
    /// What it speaks; `None` is what the settings for all listeners say (`--protocol`).
    pub speaks: Option<Speaks>,
    /// With TLS around it. A bind without a word of its own (`speaks`) has none: the settings decide.
    pub tls: Option<TlsOptions>,
    /// Whether connections begin with a PROXY header; `None` is what `--proxy-protocol` says.
    pub proxy: Option<ProxyProtocol>,
}

/// What is spoken on connections, inside of TLS where there is that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Speaks {
    /// HTTP, of whatever version the client and the settings agree on.
    Http,
    /// The uwsgi protocol.
    Uwsgi,
    /// Whatever the service of this name speaks: bytes both ways.
    Tcp(String),
}

/// TLS, as far as a bind has words of its own about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// Files of certificate chains, in PEM; none where the settings for all listeners name one.
    pub certs: Vec<PathBuf>,
    /// The file of the private key for each of `certs`, in PEM; none where the keys are in the same files.
    pub keys: Vec<PathBuf>,
    /// The file of the authorities, in PEM, by which client certificates are checked.
    pub client_ca: Option<PathBuf>,
    /// Whether clients have to have a certificate; `None` is required where there is a `client_ca`, else none.
    pub client_cert: Option<ClientCert>,
    /// Nothing older is spoken.
    pub min_version: Option<TlsVersion>,
}

impl TlsOptions {
    /// Each certificate chain with its key.
    pub fn pairs(&self) -> impl Iterator<Item = (&PathBuf, &PathBuf)> {
        let keys = if self.keys.is_empty() {
            &self.certs
        } else {
            &self.keys
        };
        self.certs.iter().zip(keys)
    }

    /// With what the settings for all listeners say where this says nothing.
    fn under(&self, config: &Config) -> Self {
        let mut whole = self.clone();
        if whole.certs.is_empty() {
            whole.certs.extend(config.certfile.clone());
            whole.keys.extend(config.keyfile.clone());
        }
        let own_ca = self.client_ca.is_some();
        whole.client_ca = whole.client_ca.or_else(|| config.ca_certs.clone());
        whole.client_cert = Some(match self.client_cert {
            Some(own) => own,
            None if own_ca => ClientCert::Required,
            None => config.cert_reqs,
        });
        whole.min_version = whole.min_version.or(Some(config.tls_min_version));
        whole
    }
}

/// What is asked of clients: a certificate (Gunicorn's `cert_reqs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientCert {
    /// Nothing (0).
    Off,
    /// One that is valid, or none (1).
    Optional,
    /// One that is valid (2).
    Required,
}

impl ClientCert {
    const NAMES: [&'static str; 3] = ["none", "optional", "required"];
}

impl FromStr for ClientCert {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "none" | "0" => Ok(Self::Off),
            "optional" | "1" => Ok(Self::Optional),
            "required" | "2" => Ok(Self::Required),
            other => Err(one_of(other, &Self::NAMES)),
        }
    }
}

impl fmt::Display for ClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

/// Which PROXY headers a connection may begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// None.
    #[default]
    Off,
    /// Version 1, in text.
    V1,
    /// Version 2, binary.
    V2,
    /// Either version.
    Auto,
}

impl ProxyProtocol {
    const NAMES: [&'static str; 4] = ["off", "v1", "v2", "auto"];
}

impl FromStr for ProxyProtocol {
    type Err = String;

    // Gunicorn: `validate_proxy_protocol`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "off" | "false" | "0" | "none" => Ok(Self::Off),
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            "auto" | "true" | "1" => Ok(Self::Auto),
            other => Err(one_of(other, &Self::NAMES)),
        }
    }
}

impl fmt::Display for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Auto => "auto",
        })
    }
}

/// What a plain bind speaks (Gunicorn's `protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP.
    #[default]
    Http,
    /// The uwsgi protocol.
    Uwsgi,
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "http" => Ok(Self::Http),
            "uwsgi" => Ok(Self::Uwsgi),
            other => Err(one_of(other, &["http", "uwsgi"])),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Uwsgi => "uwsgi",
        })
    }
}

fn one_of(word: &str, names: &[&str]) -> String {
    let near = nearest(word, names.iter().copied());
    format!("must be one of {}{}", names.join(", "), did_you_mean(near))
}

/// What is spoken on a listener's connections, in the order of its layers: a bind's own words, and the settings where it has
/// none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Whether connections begin with a PROXY header.
    pub proxy: ProxyProtocol,
    /// Whether TLS follows; nothing of it is left to the settings then.
    pub tls: Option<TlsOptions>,
    /// And in it.
    pub speaks: Speaks,
}

impl Spoken {
    /// The listener's URL, whose address is written `address`: `http://127.0.0.1:8000`, `https:unix:/run/app.sock`.
    /// HTTP on a unix socket is just that, as Gunicorn writes it.
    #[must_use]
    pub fn url(&self, address: &str) -> String {
        let scheme = Scheme::of(&self.speaks, self.tls.as_ref());
        let unix = address.starts_with("unix:");
        match (&self.speaks, scheme) {
            (Speaks::Http, Scheme::Http) if unix => address.to_owned(),
            (Speaks::Tcp(service), scheme) => {
                format!("{}{}{address}={service}", scheme.name(), separator(unix))
            }
            (Speaks::Http | Speaks::Uwsgi, scheme) => {
                format!("{}{}{address}", scheme.name(), separator(unix))
            }
        }
    }
}

const fn separator(has_scheme: bool) -> &'static str {
    if has_scheme { ":" } else { "://" }
}

impl Bind {
    /// An address as Gunicorn's forms have it: the settings for all listeners say what is spoken there.
    #[must_use]
    pub const fn plain(address: Address) -> Self {
        Self {
            address,
            speaks: None,
            tls: None,
            proxy: None,
        }
    }

    /// Whether a bind can begin with this word and `://`.
    pub(crate) fn names_scheme(word: &str) -> bool {
        Scheme::named(word).is_some()
    }

    /// What is spoken there under `config`.
    #[must_use]
    pub fn spoken(&self, config: &Config) -> Spoken {
        let proxy = self.proxy.unwrap_or(config.proxy_protocol);
        match &self.speaks {
            Some(speaks) => Spoken {
                proxy,
                tls: self.tls.as_ref().map(|tls| tls.under(config)),
                speaks: speaks.clone(),
            },
            None => Spoken {
                proxy,
                // Gunicorn: `is_ssl`.
                tls: config
                    .certfile
                    .as_ref()
                    .map(|_| TlsOptions::default().under(config)),
                speaks: match config.protocol {
                    Protocol::Http => Speaks::Http,
                    Protocol::Uwsgi => Speaks::Uwsgi,
                },
            },
        }
    }

    /// Reads a `[[bind]]` table of the TOML file (or a dictionary of a Python file).
    ///
    /// # Errors
    /// What is wrong, to continue a sentence that starts with the setting's name.
    pub(super) fn of_table(table: &[(String, Item)]) -> Result<Self, String> {
        let words = |key: &str| match table.iter().find(|(name, _)| name == key) {
            Some((_, item)) => scalar(item, false).map(Some),
            None => Ok(None),
        };
        let named = |error: String| match words("address").ok().flatten() {
            Some(place) => format!("{place:?}: {error}"),
            None => error,
        };
        let options: Vec<_> = table
            .iter()
            .filter(|(key, _)| !WORDS.contains(&key.as_str()))
            .map(|(name, item)| Ok((key(name, &WORDS)?, item)))
            .collect::<Result<_, _>>()
            .map_err(named)?;
        let address = words("address")
            .map_err(|error| format!("address {error}"))?
            .ok_or("must have an address in each of its tables")?;
        if let Some((scheme, _)) = split(&address) {
            let name = scheme.name();
            return Err(named(format!(
                "is more than an address: in a table {name:?} is the protocol, and each option a key"
            )));
        }
        let address: Address = address.parse().map_err(named)?;
        let protocol = words("protocol").map_err(|error| named(format!("protocol {error}")))?;
        let service = words("service").map_err(|error| named(format!("service {error}")))?;
        if protocol.is_none() && service.is_none() && options.is_empty() {
            return Ok(Self::plain(address));
        }
        let scheme = match (&protocol, &service) {
            (Some(name), _) => Scheme::named(name)
                .ok_or_else(|| named(format!("protocol {}", one_of(name, &Scheme::NAMES))))?,
            (None, Some(_)) => Scheme::Tcp,
            (None, None) if options.iter().any(|(key, _)| key.name == "cert") => Scheme::Https,
            (None, None) => Scheme::Http,
        };
        let mut bind = Self::of_scheme(scheme, address, service).map_err(named)?;
        for (key, item) in options {
            let values = if let (Item::List(items), true) = (item, key.many) {
                items.iter().collect()
            } else {
                vec![item]
            };
            for value in values {
                let value = if let Item::Bool(switch) = value {
                    Ok(switch.to_string())
                } else {
                    scalar(value, true)
                };
                let value = value.map_err(|error| named(format!("{} {error}", key.name)))?;
                bind.set(key, &value).map_err(named)?;
            }
        }
        bind.check().map_err(named)?;
        Ok(bind)
    }

    fn of_scheme(
        scheme: Scheme,
        address: Address,
        service: Option<String>,
    ) -> Result<Self, String> {
        let speaks = match (scheme, service) {
            (Scheme::Tcp, Some(service)) => Speaks::Tcp(service_name(service)?),
            (Scheme::Tcp, None) => return Err(NO_SERVICE.to_owned()),
            (_, Some(service)) => {
                return Err(format!("names a service, {service:?}, which is for tcp://"));
            }
            (Scheme::Http | Scheme::Https, None) => Speaks::Http,
            (Scheme::Uwsgi, None) => Speaks::Uwsgi,
        };
        Ok(Self {
            speaks: Some(speaks),
            tls: (scheme == Scheme::Https).then(TlsOptions::default),
            ..Self::plain(address)
        })
    }

    fn set(&mut self, key: &Key, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err(format!("{} must have a value", key.name));
        }
        if !key.many && !(key.show)(self).is_empty() {
            return Err(format!("has {} twice", key.name));
        }
        (key.set)(self, value).map_err(|error| format!("{} {error}", key.name))
    }

    /// What single options cannot tell.
    fn check(&self) -> Result<(), String> {
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        match tls.certs.len().cmp(&tls.keys.len()) {
            std::cmp::Ordering::Greater if tls.keys.is_empty() => {}
            std::cmp::Ordering::Greater => return Err("has a cert without its key".to_owned()),
            std::cmp::Ordering::Less => return Err("has a key without its cert".to_owned()),
            std::cmp::Ordering::Equal => {}
        }
        if tls.certs.is_empty() && self.speaks != Some(Speaks::Http) {
            return Err("has options of TLS without a cert and a key".to_owned());
        }
        Ok(())
    }
}

/// What a table has beside the options.
const WORDS: [&str; 3] = ["address", "protocol", "service"];

/// What is missing from `tcp://` where it cannot be HTTP.
const NO_SERVICE: &str =
    "names no service: write tcp://HOST:PORT=SERVICE, or for HTTP http://HOST:PORT";

fn service_name(name: String) -> Result<String, String> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{name:?} is no service's name"));
    }
    Ok(name)
}

/// The option of this name; `others` are the words that may stand in its place.
fn key(name: &str, others: &[&'static str]) -> Result<&'static Key, String> {
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
        let names = others.iter().copied().chain(KEYS.iter().map(|key| key.name));
        let names: Vec<_> = names.collect();
        let near = nearest(name, names.iter().copied());
        let near = match near {
            Some(near) => did_you_mean(Some(near)),
            None => format!("; there are {}", names.join(", ")),
        };
        if super::SETTINGS.iter().any(|setting| setting.name == name) {
            return format!("{name:?} is a setting for all binds: in the file it stands before the first [[bind]]");
        }
        format!("{name:?} is no option of a bind{near}")
    })
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = split(text) else {
            return plain(text);
        };
        let (place, options) = match rest.split_once('?') {
            Some((place, options)) => (place, Some(options)),
            None => (rest, None),
        };
        let (place, service) = match (scheme, place.rsplit_once('=')) {
            (Scheme::Tcp, Some((place, service))) => (place, Some(decoded(service)?)),
            _ => (place, None),
        };
        // Gunicorn's: HTTP.
        if scheme == Scheme::Tcp && service.is_none() && options.is_none() {
            if let Some(place) = text.strip_prefix("tcp://") {
                return Ok(Self::plain(Address::tcp(place)?));
            }
            return Err(NO_SERVICE.to_owned());
        }
        let place = decoded(place)?;
        let address = place.parse()?;
        let bare = place.ends_with(']') || !place.contains(':');
        if bare && matches!(address, Address::Tcp { .. }) {
            return Err(format!(
                "names no port: write {}://{place}:PORT",
                scheme.name()
            ));
        }
        let mut bind = Self::of_scheme(scheme, address, service)?;
        for option in options.into_iter().flat_map(|options| options.split('&')) {
            let (name, value) = option.split_once('=').ok_or_else(|| {
                format!("has {option:?} among its options, which are KEY=VALUE")
            })?;
            bind.set(key(name, &[])?, &decoded(value)?)?;
        }
        bind.check()?;
        Ok(bind)
    }
}

/// An address, as Gunicorn reads it.
fn plain(text: &str) -> Result<Bind, String> {
    if let Some((_, options)) = text.split_once('?')
        && text.starts_with("unix:")
        && let Some((name, _)) = options.split_once('=')
        && KEYS.iter().any(|key| key.name == name)
    {
        return Err(format!("has options, which need a scheme: http:{text}"));
    }
    text.parse().map(Bind::plain).map_err(|error: String| {
        if let Some(mistake) = mistaken(text) {
            mistake
        } else if !text.starts_with("unix:") && text.contains(['?', '=']) {
            format!("{error}; options and services need a scheme, such as http://HOST:PORT?KEY=VALUE or tcp://HOST:PORT=SERVICE")
        } else {
            error
        }
    })
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(speaks) = &self.speaks else {
            if matches!(&self.address, Address::Tcp { host, .. } if host == "unix") {
                // A host of that name.
                f.write_str("tcp://")?;
            }
            return self.address.fmt(f);
        };
        let scheme = Scheme::of(speaks, self.tls.as_ref());
        let address = self.address.to_string();
        let has_scheme = !matches!(self.address, Address::Tcp { .. });
        f.write_str(scheme.name())?;
        f.write_str(separator(has_scheme))?;
        encoded(&address, f)?;
        if let Speaks::Tcp(service) = speaks {
            f.write_str("=")?;
            encoded(service, f)?;
        }
        let mut between = "?";
        for key in KEYS {
            for value in (key.show)(self) {
                write!(f, "{between}{}=", key.name)?;
                encoded(&value, f)?;
                between = "&";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
