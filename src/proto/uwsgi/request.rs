//! A packet's variables as the HTTP request that the front end was sent.
//!
//! What belongs into a head becomes one, and goes the way of every other: past the guard, which holds it to the limits
//! and to the grammar, and into the library. What the connection to the front end must not be told by the client (how
//! bodies are delimited, what is kept open) stays behind, and is given to the app at the end.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::header::{CONNECTION, EXPECT, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode, Version};

use super::packet::{Packet, Variable};
use super::target;
use crate::app::{Address, Gateway, Span};
use crate::proto::guard::{Refusal, class};

const fn bad(reason: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason)
}

/// A request as it came in a packet.
#[derive(Debug)]
pub struct Request {
    /// The head of an HTTP/1.1 request.
    pub head: Vec<u8>,
    /// What is not in it.
    pub(crate) aside: Aside,
}

/// What a packet tells beside the head.
#[derive(Debug)]
pub(crate) struct Aside {
    /// What the client speaks with the front end.
    pub(crate) version: Version,
    /// The client used HTTPS.
    pub(crate) https: bool,
    /// The client, where the front end says.
    pub(crate) peer: Option<Address>,
    /// The head has a `Host` that was not sent.
    pub(crate) hostless: bool,
    /// Fields that the app sees and the library does not.
    pub(crate) withheld: Vec<(HeaderName, HeaderValue)>,
    /// The front end wants to keep the connection.
    pub(crate) keep: bool,
    pub(crate) gateway: Gateway,
}

/// The variables that are looked for.
#[derive(Default)]
struct Known<'a> {
    target: target::Told<'a>,
    script_name: Option<Variable<'a>>,
    method: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    media_type: &'a [u8],
    protocol: &'a [u8],
    https: bool,
    remote_addr: &'a [u8],
    remote_port: &'a [u8],
    server_name: Option<Variable<'a>>,
    server_port: &'a [u8],
    apache: bool,
    host: Option<&'a [u8]>,
    connection: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    encoded: bool,
    /// `HTTP_` variables that become fields as they are, without the prefix.
    fields: Vec<(&'a [u8], &'a [u8])>,
    /// For the app.
    rest: Vec<(Span, Span)>,
}

impl<'a> Known<'a> {
    /// Where a variable comes twice, as it does where a configuration sets it again behind `include uwsgi_params`, the
    /// last one counts; but for those that a request cannot have two of.
    fn take(&mut self, variable: Variable<'a>) -> Result<(), Refusal> {
        let value = variable.value;
        match variable.name {
            b"REQUEST_METHOD" => once(&mut self.method, value, "more than one REQUEST_METHOD"),
            b"CONTENT_LENGTH" => once(&mut self.length, value, "more than one CONTENT_LENGTH"),
            b"CONTENT_TYPE" => {
                self.media_type = value;
                Ok(())
            }
            b"PATH_INFO" => {
                self.target.path = Some(value);
                Ok(())
            }
            b"QUERY_STRING" => {
                self.target.query = Some(value);
                Ok(())
            }
            b"SCRIPT_NAME" => {
                self.script_name = Some(variable);
                Ok(())
            }
            b"REMOTE_ADDR" => {
                self.remote_addr = value;
                Ok(())
            }
            b"REMOTE_PORT" => {
                self.remote_port = value;
                Ok(())
            }
            name => match name.strip_prefix(b"HTTP_") {
                Some(name) => self.field(name, value),
                None => self.other(variable),
            },
        }
    }

    /// Those that the app gets, too.
    fn other(&mut self, variable: Variable<'a>) -> Result<(), Refusal> {
        let value = variable.value;
        match variable.name {
            b"REQUEST_URI" => self.target.uri = Some(value).filter(|uri| !uri.is_empty()),
            b"SERVER_PROTOCOL" => self.protocol = value,
            b"SERVER_NAME" => self.server_name = Some(variable),
            b"SERVER_PORT" => self.server_port = value,
            b"SERVER_SOFTWARE" => self.apache = value.starts_with(b"Apache"),
            b"HTTPS" => {
                self.https |= [&b"on"[..], b"1", b"true"]
                    .iter()
                    .any(|yes| value.eq_ignore_ascii_case(yes));
            }
            b"REQUEST_SCHEME" | b"UWSGI_SCHEME" => {
                self.https |= value.eq_ignore_ascii_case(b"https");
            }
            // They are the server's to say.
            name if name.starts_with(b"wsgi.") => return Ok(()),
            _ => {}
        }
        // What is empty has the value that it has over HTTP.
        let server = variable.name.starts_with(b"SERVER_");
        if server && value.is_empty() {
            return Ok(());
        }
        let name = Span::new(variable.name_at, variable.name.len());
        let value = Span::new(variable.value_at, value.len());
        let (name, value) = name.zip(value).ok_or(bad("uwsgi packet too large"))?;
        self.rest.push((name, value));
        Ok(())
    }

    fn field(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), Refusal> {
        if name.is_empty() || !class::all(name, class::TOKEN) {
            return Err(bad("invalid header field name"));
        }
        if !class::all(value, class::VALUE) {
            return Err(bad("invalid header field value"));
        }
        match apart(name) {
            Some(b"HOST") => self.host = Some(value),
            Some(b"CONNECTION") => self.connection = Some(value),
            Some(b"UPGRADE") => self.upgrade = Some(value),
            Some(b"EXPECT") => self.expect = Some(value),
            Some(b"TRANSFER_ENCODING") => self.encoded = true,
            // The variables without HTTP_ have them, and the front end has decoded the body; trailers cannot be sent.
            Some(_) => {}
            None => self.fields.push((name, value)),
        }
        Ok(())
    }
}

/// The fields that are no line of the head, or not as they are.
const APART: [&[u8]; 8] = [
    b"HOST",
    b"CONNECTION",
    b"UPGRADE",
    b"EXPECT",
    b"TRANSFER_ENCODING",
    b"CONTENT_LENGTH",
    b"CONTENT_TYPE",
    b"TE",
];

/// Which of them a variable stands for, however it is written: as a line it would be the same field.
fn apart(name: &[u8]) -> Option<&'static [u8]> {
    let plain = |byte: u8| match byte {
        b'-' => b'_',
        byte => byte.to_ascii_uppercase(),
    };
    APART.into_iter().find(|known| {
        known.len() == name.len() && known.iter().zip(name).all(|(a, b)| *a == plain(*b))
    })
}

fn once<'a>(
    place: &mut Option<&'a [u8]>,
    value: &'a [u8],
    reason: &'static str,
) -> Result<(), Refusal> {
    match place.replace(value) {
        Some(_) => Err(bad(reason)),
        None => Ok(()),
    }
}

impl Request {
    /// The request that `bytes` begin with, and the length of its packet in bytes; `None` while that is incomplete.
    ///
    /// # Errors
    /// As [`Packet::read`]; 400 for variables that make no request, 411 for a body of unknown length.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Refusal> {
        let Some((packet, length)) = Packet::read(bytes)? else {
            return Ok(None);
        };
        Ok(Some((Self::of(packet)?, length)))
    }

    fn of(packet: Packet<'_>) -> Result<Self, Refusal> {
        let mut known = Known::default();
        for variable in packet.variables() {
            known.take(variable)?;
        }
        let method = known
            .method
            .filter(|method| !method.is_empty() && class::all(method, class::TOKEN))
            .ok_or(bad("invalid REQUEST_METHOD"))?;
        let length = known.length.filter(|length| !length.is_empty());
        if length.is_some_and(|length| !length.iter().all(u8::is_ascii_digit)) {
            return Err(bad("invalid CONTENT_LENGTH"));
        }
        if known.encoded && length.is_none() {
            // The front end passes a body on whose end cannot be told.
            return Err(Refusal::new(
                StatusCode::LENGTH_REQUIRED,
                "Transfer-Encoding without CONTENT_LENGTH",
            ));
        }
        if !class::all(known.media_type, class::VALUE) {
            return Err(bad("invalid CONTENT_TYPE"));
        }
        // The root has no name.
        let script = known
            .script_name
            .filter(|script| !matches!(script.value, b"" | b"/"));
        if let Some(script) = script {
            if !script.value.starts_with(b"/") {
                return Err(bad("SCRIPT_NAME does not begin with a slash"));
            }
            known.target.script = script.value;
        }
        let mut head = Vec::with_capacity(packet.block().len());
        head.extend_from_slice(method);
        head.push(b' ');
        known.target.write(&mut head)?;
        head.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        head.extend_from_slice(known.host.unwrap_or_default());
        head.extend_from_slice(b"\r\n");
        if !known.media_type.is_empty() {
            line(&mut head, b"content-type", known.media_type);
        }
        if let Some(length) = length {
            line(&mut head, b"content-length", length);
        }
        for (name, value) in &known.fields {
            line(&mut head, name, value);
        }
        let withheld = connection(&known, length, &mut head);
        head.extend_from_slice(b"\r\n");
        let span = |variable: Option<Variable<'_>>| {
            variable
                .and_then(|variable| Span::new(variable.value_at, variable.value.len()))
                .unwrap_or_default()
        };
        let aside = Aside {
            version: version(known.protocol)?,
            https: known.https,
            peer: peer(known.remote_addr, known.remote_port)?,
            hostless: known.host.is_none(),
            withheld,
            keep: keeps(&known),
            gateway: Gateway::new(
                packet.block().into(),
                known.rest.into(),
                span(script),
                span(known.server_name),
                number(known.server_port).map_err(|()| bad("invalid SERVER_PORT"))?,
            ),
        };
        Ok(Self { head, aside })
    }
}

/// A header line; the name comes as a variable has it.
fn line(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend(name.iter().map(|&byte| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    }));
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

fn has_token(value: Option<&[u8]>, token: &[u8]) -> bool {
    value
        .unwrap_or_default()
        .split(|&byte| byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// The fields that are about the client's connection with the front end. A request to leave HTTP is for us, too: front
/// ends pass the bytes on that follow `101`, as nginx does. The rest is told to the app alone.
fn connection(
    known: &Known<'_>,
    length: Option<&[u8]>,
    head: &mut Vec<u8>,
) -> Vec<(HeaderName, HeaderValue)> {
    let fields = [
        (CONNECTION, known.connection),
        (UPGRADE, known.upgrade),
        (EXPECT, known.expect),
    ];
    let bodiless = length.is_none_or(|length| length.iter().all(|&digit| digit == b'0'));
    let leaves = bodiless
        && has_token(known.connection, b"upgrade")
        // HTTP/2 has no place behind a front end that speaks uwsgi.
        && !has_token(known.upgrade, b"h2c");
    let mut withheld = Vec::new();
    for (name, value) in fields {
        let Some(value) = value else { continue };
        if leaves && known.upgrade.is_some() && name != EXPECT {
            line(head, name.as_str().as_bytes(), value);
        } else if let Ok(value) = HeaderValue::from_bytes(value) {
            withheld.push((name, value));
        }
    }
    withheld
}

/// Whether the connection is kept where the answer tells its own length: the front end says so as Gunicorn's peers do,
/// by `HTTP_CONNECTION`. Those that say nothing read the answer to the connection's end; and so does Apache, though it
/// passes on what its client said.
fn keeps(known: &Known<'_>) -> bool {
    has_token(known.connection, b"keep-alive")
        && !has_token(known.connection, b"close")
        && !known.apache
}

/// The client's version, as far as apps mind: HTTP/2 and 3 end at the front end.
fn version(protocol: &[u8]) -> Result<Version, Refusal> {
    match protocol {
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        b"" | b"HTTP/1.1" | b"HTTP/2" | b"HTTP/2.0" | b"HTTP/3" | b"HTTP/3.0" => {
            Ok(Version::HTTP_11)
        }
        _ => Err(bad("invalid SERVER_PROTOCOL")),
    }
}

/// A number in digits; `None` for an empty text.
fn number(text: &[u8]) -> Result<Option<u16>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(());
    }
    parse(text).map(Some)
}

fn parse<T: FromStr>(text: &[u8]) -> Result<T, ()> {
    let text = std::str::from_utf8(text).map_err(drop)?;
    text.parse().map_err(drop)
}

/// The client's address. nginx says `unix:` of a client on a unix socket.
fn peer(addr: &[u8], port: &[u8]) -> Result<Option<Address>, Refusal> {
    let port = number(port).map_err(|()| bad("invalid REMOTE_PORT"))?;
    match addr {
        b"" => Ok(None),
        b"unix:" => Ok(Some(Address::Unix(None))),
        addr => {
            let ip: IpAddr = parse(addr).map_err(|()| bad("invalid REMOTE_ADDR"))?;
            let address = SocketAddr::new(ip, port.unwrap_or_default());
            Ok(Some(Address::Tcp(address)))
        }
    }
}

#[cfg(test)]
mod tests;
