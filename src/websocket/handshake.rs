//! The opening handshake (RFC 6455 section 4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::extension::Agreement;

/// Goes with every key (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only version there is.
const VERSION: &str = "13";

/// A client's handshake that can be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The answer to the client's key.
    accept: HeaderValue,
    /// The subprotocols it offers, the dearest first.
    pub protocols: Vec<String>,
    /// How messages are compressed.
    pub agreement: Option<Agreement>,
}

/// Why a handshake cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It breaks section 4.1.
    #[error("{0}")]
    Bad(&'static str),
    /// Another version of the protocol than 13.
    #[error("unknown WebSocket version")]
    Version,
}

impl Refused {
    /// What the client is answered.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::UPGRADE_REQUIRED,
        }
    }

    /// Adds what the answer must say beside its status (section 4.4).
    pub fn explain(self, headers: &mut HeaderMap) {
        if self == Self::Version {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        }
    }
}

impl Handshake {
    /// Whether a request asks for a WebSocket at all.
    #[must_use]
    pub fn is_asked(headers: &HeaderMap) -> bool {
        has_token(headers, &UPGRADE, "websocket") && has_token(headers, &CONNECTION, "upgrade")
    }

    /// Reads the handshake of a request that [asks](Self::is_asked) for one. With `compress` an offer of permessage-deflate
    /// is taken.
    ///
    /// # Errors
    /// Whatever section 4.2.1 does not allow.
    pub fn read(method: &Method, headers: &HeaderMap, compress: bool) -> Result<Self, Refused> {
        if *method != Method::GET {
            return Err(Refused::Bad(
                "WebSocket handshake with another method than GET",
            ));
        }
        let version = the_one(headers, &SEC_WEBSOCKET_VERSION)
            .ok_or(Refused::Bad("not one Sec-WebSocket-Version"))?;
        if version.as_bytes() != VERSION.as_bytes() {
            return Err(Refused::Version);
        }
        let key = the_one(headers, &SEC_WEBSOCKET_KEY)
            .filter(|key| is_key(key.as_bytes()))
            .ok_or(Refused::Bad("not one valid Sec-WebSocket-Key"))?;
        let mut protocols = Vec::new();
        for protocol in tokens(headers, &SEC_WEBSOCKET_PROTOCOL) {
            if !protocol.is_empty() {
                protocols.push(protocol.to_owned());
            }
        }
        let offers = headers
            .get_all(SEC_WEBSOCKET_EXTENSIONS)
            .iter()
            .filter_map(|field| field.to_str().ok());
        Ok(Self {
            accept: answer(key.as_bytes()),
            protocols,
            agreement: compress.then(|| Agreement::to_offers(offers)).flatten(),
        })
    }

    /// Adds the fields of the answer that accepts it, but for the subprotocol.
    pub fn accept(&self, headers: &mut HeaderMap) {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        if let Some(agreement) = &self.agreement
            && let Ok(value) = HeaderValue::try_from(agreement.to_string())
        {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, value);
        }
    }
}

/// The value of a field that must be there once.
fn the_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(name).into_iter();
    fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(',').map(str::trim))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// Sixteen bytes in base64 (section 4.1).
fn is_key(key: &[u8]) -> bool {
    let Some(digits) = key.strip_suffix(b"==") else {
        return false;
    };
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    digits.len() == 22 && digits.iter().all(is_digit)
}

/// The answer to a key (section 4.2.2).
fn answer(key: &[u8]) -> HeaderValue {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let text = STANDARD.encode(hash.digest().bytes());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "h2c, WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_example_of_the_rfc() {
        let mut headers = request(&GOOD);
        assert!(Handshake::is_asked(&headers));
        headers.append(
            "sec-websocket-protocol",
            "chat, superchat".parse().expect("a value"),
        );
        headers.append("sec-websocket-protocol", "third".parse().expect("a value"));
        headers.append(
            "sec-websocket-extensions",
            "permessage-deflate; client_max_window_bits"
                .parse()
                .expect("a value"),
        );
        let handshake = Handshake::read(&Method::GET, &headers, true).expect("it is good");
        assert_eq!(handshake.protocols, ["chat", "superchat", "third"]);
        let mut answer = HeaderMap::new();
        handshake.accept(&mut answer);
        assert_eq!(answer[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(
            answer[SEC_WEBSOCKET_EXTENSIONS],
            "permessage-deflate; client_max_window_bits=12"
        );
        let plain = Handshake::read(&Method::GET, &headers, false).expect("it is good");
        assert_eq!(plain.agreement, None);
    }

    #[test]
    fn whatever_is_missing_or_wrong_is_refused() {
        for name in ["upgrade", "connection"] {
            let mut headers = request(&GOOD);
            headers.insert(name, HeaderValue::from_static("close"));
            assert!(!Handshake::is_asked(&headers), "{name}");
        }
        let bad = |change: &dyn Fn(&mut HeaderMap)| {
            let mut headers = request(&GOOD);
            change(&mut headers);
            let read = Handshake::read(&Method::GET, &headers, true);
            read.expect_err("it is bad").status().as_u16()
        };
        for name in ["sec-websocket-version", "sec-websocket-key"] {
            assert_eq!(bad(&|headers| drop(headers.remove(name))), 400);
            let twice = bad(&|headers| {
                let value = headers[name].clone();
                headers.append(name, value);
            });
            assert_eq!(twice, 400);
        }
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ!!",
            "YQ==",
        ] {
            let key = HeaderValue::from_static(key);
            let status = bad(&|headers| drop(headers.insert(SEC_WEBSOCKET_KEY, key.clone())));
            assert_eq!(status, 400, "{key:?}");
        }
        let old = HeaderValue::from_static("8");
        let status = bad(&|headers| drop(headers.insert(SEC_WEBSOCKET_VERSION, old.clone())));
        assert_eq!(status, 426);
        let post = Handshake::read(&Method::POST, &request(&GOOD), true);
        assert!(matches!(post, Err(Refused::Bad(_))));
    }
}
