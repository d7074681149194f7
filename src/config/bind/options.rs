//! The options of a bind, each declared once: how it is named, read and written, and which binds can have it.

use std::path::PathBuf;

use super::{Bind, Speaks, TlsOptions};

/// An option.
pub(super) struct Key {
    /// As it is written behind a `?`, and in a TOML table.
    pub(super) name: &'static str,
    /// It may be repeated, or be an array.
    pub(super) many: bool,
    /// Reads a value. The error continues a sentence that starts with the name.
    pub(super) set: fn(&mut Bind, &str) -> Result<(), String>,
    /// The values that a bind has.
    pub(super) show: fn(&Bind) -> Vec<String>,
}

/// Every option, in the order in which they are written.
pub(super) static KEYS: &[Key] = &[
    Key {
        name: "cert",
        many: true,
        set: |bind, value| {
            tls(bind)?.certs.push(PathBuf::from(value));
            Ok(())
        },
        show: |bind| of_tls(bind, |tls| paths(&tls.certs)),
    },
    Key {
        name: "key",
        many: true,
        set: |bind, value| {
            tls(bind)?.keys.push(PathBuf::from(value));
            Ok(())
        },
        show: |bind| of_tls(bind, |tls| paths(&tls.keys)),
    },
    Key {
        name: "client-ca",
        many: false,
        set: |bind, value| {
            tls(bind)?.client_ca = Some(PathBuf::from(value));
            Ok(())
        },
        show: |bind| of_tls(bind, |tls| paths(tls.client_ca.as_slice())),
    },
    Key {
        name: "client-cert",
        many: false,
        set: |bind, value| {
            tls(bind)?.client_cert = Some(value.parse()?);
            Ok(())
        },
        show: |bind| of_tls(bind, |tls| words(tls.client_cert.as_ref())),
    },
    Key {
        name: "proxy",
        many: false,
        set: |bind, value| {
            bind.proxy = Some(value.parse()?);
            Ok(())
        },
        show: |bind| words(bind.proxy.as_ref()),
    },
];

/// The TLS of a bind that may have it. `https://` says so; the others have it by their certificate.
fn tls(bind: &mut Bind) -> Result<&mut TlsOptions, String> {
    match (&bind.speaks, &bind.tls) {
        (Some(Speaks::Http) | None, None) => {
            Err("is an option of https://, not of http://".to_owned())
        }
        (Some(Speaks::Http | Speaks::Uwsgi | Speaks::Tcp(_)) | None, _) => {
            Ok(bind.tls.get_or_insert_default())
        }
    }
}

fn of_tls(bind: &Bind, values: impl FnOnce(&TlsOptions) -> Vec<String>) -> Vec<String> {
    bind.tls.as_ref().map(values).unwrap_or_default()
}

fn paths(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

fn words(word: Option<&impl ToString>) -> Vec<String> {
    word.map(ToString::to_string).into_iter().collect()
}
