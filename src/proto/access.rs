//! The access log: Gunicorn's format, compiled once; a line for each response, written when its body has ended or its
//! connection has.
//!
//! Whatever a client sends stays on its own line: `"` and `\` are escaped by a backslash, and bytes that are not printable
//! ASCII are written as `\xNN`.

use std::cell::RefCell;
use std::fmt;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request};

use crate::app::{Address, Ends, Scheme, Tls};

/// Credentials, whoever has written them: with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Where lines of the access log are gathered.
pub(crate) trait Sink {
    /// Takes a line with its line end; to be written later, with others.
    fn append(&self, line: &[u8]);
}

impl Sink for crate::log::AccessSink {
    fn append(&self, line: &[u8]) {
        Self::append(self, line);
    }
}

/// One part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    Literal(Vec<u8>),
    /// What is missing, and what there is no such thing as.
    Missing,
    Host,
    Port,
    User(usize),
    Time,
    RequestLine,
    Method,
    Path,
    Query,
    Target,
    Protocol,
    Scheme,
    Status,
    Bytes,
    Seconds,
    Milliseconds,
    Microseconds,
    Decimal,
    Process,
    Tls(Fact),
    /// A field of the request: its place among those that are kept.
    RequestField(usize),
    ResponseField(usize),
}

/// A fact of a connection's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Version,
    Cipher,
    ServerName,
    Subject,
}

impl Fact {
    fn of(self, tls: &Tls) -> Option<&str> {
        match self {
            Self::Version => Some(tls.version_name()),
            Self::Cipher => Some(tls.cipher),
            Self::ServerName => tls.server_name.as_deref(),
            Self::Subject => Some(&tls.client.as_ref()?.subject),
        }
    }
}

/// `access_log_format`, compiled.
#[derive(Debug)]
pub(crate) struct Format {
    atoms: Vec<Atom>,
    request_fields: Vec<HeaderName>,
    response_fields: Vec<HeaderName>,
}

impl Format {
    /// Compiles a format of Gunicorn's (its setting `access_log_format`). Atoms that do not exist are written as `-`.
    pub(crate) fn compile(format: &str) -> Self {
        let mut compiled = Self {
            atoms: Vec::new(),
            request_fields: Vec::new(),
            response_fields: Vec::new(),
        };
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            let (before, atom) = rest.split_at(at);
            compiled.literal(before);
            let named = atom
                .strip_prefix("%(")
                .and_then(|named| named.split_once(")s"));
            rest = if let Some((name, after)) = named {
                let atom = compiled.atom(name);
                compiled.atoms.push(atom);
                after
            } else {
                compiled.literal("%");
                atom.strip_prefix("%%")
                    .or_else(|| atom.strip_prefix('%'))
                    .unwrap_or_default()
            };
        }
        compiled.literal(rest);
        compiled
    }

    fn literal(&mut self, text: &str) {
        match self.atoms.last_mut() {
            _ if text.is_empty() => (),
            Some(Atom::Literal(before)) => before.extend_from_slice(text.as_bytes()),
            _ => self.atoms.push(Atom::Literal(text.as_bytes().to_vec())),
        }
    }

    fn atom(&mut self, name: &str) -> Atom {
        if let Some((name, kind)) = name
            .strip_prefix('{')
            .and_then(|named| named.rsplit_once('}'))
        {
            return match kind {
                "i" => self.request_field(name),
                "o" => Self::field(&mut self.response_fields, name)
                    .map_or(Atom::Missing, Atom::ResponseField),
                "e" => self.variable(name),
                _ => Atom::Missing,
            };
        }
        match name {
            "h" => Atom::Host,
            "u" => {
                let field = Self::field(&mut self.request_fields, AUTHORIZATION.as_str());
                field.map_or(Atom::Missing, Atom::User)
            }
            "t" => Atom::Time,
            "r" => Atom::RequestLine,
            "m" => Atom::Method,
            "U" => Atom::Path,
            "q" => Atom::Query,
            "H" => Atom::Protocol,
            "s" => Atom::Status,
            "b" | "B" => Atom::Bytes,
            "f" => self.request_field(REFERER.as_str()),
            "a" => self.request_field(USER_AGENT.as_str()),
            "T" => Atom::Seconds,
            "M" => Atom::Milliseconds,
            "D" => Atom::Microseconds,
            "L" => Atom::Decimal,
            "p" => Atom::Process,
            _ => Atom::Missing,
        }
    }

    fn request_field(&mut self, name: &str) -> Atom {
        Self::field(&mut self.request_fields, name).map_or(Atom::Missing, Atom::RequestField)
    }

    /// A variable of the CGI environment, of those that a server of any apps has.
    fn variable(&mut self, name: &str) -> Atom {
        match name {
            "REMOTE_ADDR" => Atom::Host,
            "REMOTE_PORT" => Atom::Port,
            "REQUEST_METHOD" => Atom::Method,
            "PATH_INFO" => Atom::Path,
            "QUERY_STRING" => Atom::Query,
            "RAW_URI" | "REQUEST_URI" => Atom::Target,
            "SERVER_PROTOCOL" => Atom::Protocol,
            "wsgi.url_scheme" => Atom::Scheme,
            "SSL_PROTOCOL" => Atom::Tls(Fact::Version),
            "SSL_CIPHER" => Atom::Tls(Fact::Cipher),
            "SSL_TLS_SNI" => Atom::Tls(Fact::ServerName),
            "SSL_CLIENT_S_DN" => Atom::Tls(Fact::Subject),
            "CONTENT_TYPE" | "CONTENT_LENGTH" => self.request_field(&name.replace('_', "-")),
            _ => match name.strip_prefix("HTTP_") {
                Some(field) => self.request_field(&field.replace('_', "-")),
                None => Atom::Missing,
            },
        }
    }

    /// The place of the field `name` among `fields`, where it is put if it is not there.
    fn field(fields: &mut Vec<HeaderName>, name: &str) -> Option<usize> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some(
            fields
                .iter()
                .position(|field| *field == name)
                .unwrap_or_else(|| {
                    fields.push(name);
                    fields.len() - 1
                }),
        )
    }
}

/// The access log of a worker.
pub(crate) struct AccessLog {
    format: Format,
    sink: Rc<dyn Sink>,
    line: RefCell<Vec<u8>>,
    clock: RefCell<Clock>,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// The time as text, made once a second.
#[derive(Debug, Default)]
struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    fn at(&mut self, now: SystemTime) -> &str {
        let second = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if second != self.second || self.text.is_empty() {
            self.second = second;
            let second = i64::try_from(second).unwrap_or(0);
            let time =
                jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            let time = time.to_zoned(jiff::tz::TimeZone::system());
            self.text = time.strftime("[%d/%b/%Y:%H:%M:%S %z]").to_string();
        }
        &self.text
    }
}

impl AccessLog {
    pub(crate) fn new(format: Format, sink: Rc<dyn Sink>) -> Rc<Self> {
        Rc::new(Self {
            format,
            sink,
            line: RefCell::default(),
            clock: RefCell::default(),
        })
    }

    /// Begins the record of a request; its line is written when the record is dropped.
    pub(crate) fn begin(
        self: &Rc<Self>,
        parts: &request::Parts,
        ends: &Arc<Ends>,
        scheme: Scheme,
    ) -> Box<Record> {
        Box::new(Record {
            log: Rc::clone(self),
            ends: Arc::clone(ends),
            scheme,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            request_fields: pick(&self.format.request_fields, &parts.headers),
            response_fields: Vec::new(),
            status: None,
            bytes: 0,
            begun: Instant::now(),
        })
    }

    /// Begins the record of a connection of a service; its line is written when the record is dropped.
    pub(crate) fn begin_service(self: &Rc<Self>, name: &str, ends: &Arc<Ends>) -> Box<Record> {
        Box::new(Record {
            log: Rc::clone(self),
            ends: Arc::clone(ends),
            scheme: Scheme::Http,
            method: Method::from_bytes(b"TCP").unwrap_or_default(),
            uri: Uri::try_from(format!("/{name}")).unwrap_or_default(),
            version: NO_HTTP,
            request_fields: vec![None; self.format.request_fields.len()],
            response_fields: vec![None; self.format.response_fields.len()],
            status: None,
            bytes: 0,
            begun: Instant::now(),
        })
    }
}

/// The version of what is no HTTP at all. No request has it.
const NO_HTTP: Version = Version::HTTP_09;

/// The first value of each of `names`.
fn pick(names: &[HeaderName], headers: &HeaderMap) -> Vec<Option<HeaderValue>> {
    names
        .iter()
        .map(|name| headers.get(name).cloned())
        .collect()
}

/// What the log will tell of a request.
#[derive(Debug)]
pub(crate) struct Record {
    log: Rc<AccessLog>,
    ends: Arc<Ends>,
    scheme: Scheme,
    method: Method,
    uri: Uri,
    version: Version,
    request_fields: Vec<Option<HeaderValue>>,
    response_fields: Vec<Option<HeaderValue>>,
    status: Option<StatusCode>,
    bytes: u64,
    begun: Instant,
}

impl Record {
    /// The response's head is on its way.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.response_fields = pick(&self.log.format.response_fields, headers);
    }

    /// So many bytes of its body are.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes += u64::try_from(bytes).unwrap_or(0);
    }

    fn write(&self, line: &mut Vec<u8>, took: Duration, now: SystemTime) {
        for atom in &self.log.format.atoms {
            // Writing to a Vec does not fail.
            let _ = self.write_atom(line, atom, took, now);
        }
        line.push(b'\n');
    }

    fn write_atom(
        &self,
        line: &mut Vec<u8>,
        atom: &Atom,
        took: Duration,
        now: SystemTime,
    ) -> std::io::Result<()> {
        match atom {
            Atom::Literal(text) => line.extend_from_slice(text),
            Atom::Missing => line.push(b'-'),
            Atom::Host => match &self.ends.peer {
                Address::Tcp(address) => write!(line, "{}", address.ip())?,
                Address::Unix(_) => line.push(b'-'),
            },
            Atom::Port => match &self.ends.peer {
                Address::Tcp(address) => write!(line, "{}", address.port())?,
                Address::Unix(_) => line.push(b'-'),
            },
            Atom::User(field) => {
                match self
                    .request_fields
                    .get(*field)
                    .and_then(Option::as_ref)
                    .and_then(user)
                {
                    Some(user) => escape(line, &user),
                    None => line.push(b'-'),
                }
            }
            Atom::Time => {
                line.extend_from_slice(self.log.clock.borrow_mut().at(now).as_bytes());
            }
            Atom::RequestLine => {
                escape(line, self.method.as_str().as_bytes());
                line.push(b' ');
                self.write_target(line);
                if self.version != NO_HTTP {
                    write!(line, " {:?}", self.version)?;
                }
            }
            Atom::Method => escape(line, self.method.as_str().as_bytes()),
            Atom::Path => {
                let path: Vec<u8> =
                    percent_encoding::percent_decode_str(self.uri.path()).collect();
                escape(line, &path);
            }
            Atom::Query => escape(line, self.uri.query().unwrap_or_default().as_bytes()),
            Atom::Target => self.write_target(line),
            Atom::Protocol if self.version == NO_HTTP => line.extend_from_slice(b"TCP"),
            Atom::Protocol => write!(line, "{:?}", self.version)?,
            Atom::Scheme => line.extend_from_slice(match self.scheme {
                Scheme::Http => b"http",
                Scheme::Https => b"https",
            }),
            Atom::Status => match self.status {
                Some(status) => line.extend_from_slice(status.as_str().as_bytes()),
                None => line.push(b'-'),
            },
            Atom::Bytes if self.status.is_some() || self.version == NO_HTTP => {
                number(line, u128::from(self.bytes));
            }
            Atom::Bytes => line.push(b'-'),
            Atom::Seconds => number(line, u128::from(took.as_secs())),
            Atom::Milliseconds => number(line, took.as_millis()),
            Atom::Microseconds => number(line, took.as_micros()),
            Atom::Decimal => write!(line, "{}.{:06}", took.as_secs(), took.subsec_micros())?,
            Atom::Process => write!(line, "<{}>", std::process::id())?,
            Atom::Tls(fact) => match self.ends.tls.as_deref().and_then(|tls| fact.of(tls)) {
                Some(text) => escape(line, text.as_bytes()),
                None => line.push(b'-'),
            },
            Atom::RequestField(field) => write_field(line, self.request_fields.get(*field)),
            Atom::ResponseField(field) => write_field(line, self.response_fields.get(*field)),
        }
        Ok(())
    }

    fn write_target(&self, line: &mut Vec<u8>) {
        if let (Some(scheme), Some(authority)) = (self.uri.scheme_str(), self.uri.authority()) {
            escape(line, scheme.as_bytes());
            line.extend_from_slice(b"://");
            escape(line, authority.as_str().as_bytes());
        }
        let target = self
            .uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        escape(line, target.as_bytes());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut line = self.log.line.borrow_mut();
        line.clear();
        self.write(&mut line, self.begun.elapsed(), SystemTime::now());
        self.log.sink.append(&line);
    }
}

fn number(line: &mut Vec<u8>, number: u128) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_field(line: &mut Vec<u8>, value: Option<&Option<HeaderValue>>) {
    match value {
        Some(Some(value)) => escape(line, value.as_bytes()),
        Some(None) | None => line.push(b'-'),
    }
}

/// Writes `bytes` so that they end neither the line nor a quoted field.
fn escape(line: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => line.push(byte),
            _ => {
                let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
                line.extend_from_slice(&[b'\\', b'x', high, low]);
            }
        }
    }
}

/// The user of `Authorization: Basic` (RFC 7617).
fn user(value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, credentials) = value.as_bytes().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut user = LENIENT.decode(credentials.trim_ascii()).ok()?;
    let colon = user.iter().position(|&byte| byte == b':')?;
    user.truncate(colon);
    (!user.is_empty()).then_some(user)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const COMBINED: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

    #[derive(Default)]
    struct Lines(RefCell<Vec<u8>>);

    impl Sink for Lines {
        fn append(&self, line: &[u8]) {
            self.0.borrow_mut().extend_from_slice(line);
        }
    }

    fn line(format: &str, request: Request<()>, answer: Option<(u16, &HeaderMap)>) -> String {
        let sink = Rc::new(Lines::default());
        let log = AccessLog::new(Format::compile(format), Rc::<Lines>::clone(&sink));
        let address = Address::Tcp("192.0.2.1:4711".parse().expect("an address"));
        let ends = Arc::new(Ends::new(address.clone(), address));
        let (parts, ()) = request.into_parts();
        let mut record = log.begin(&parts, &ends, Scheme::Https);
        if let Some((status, headers)) = answer {
            record.answered(StatusCode::from_u16(status).expect("a status"), headers);
            record.sent(3);
            record.sent(2);
        }
        let mut written = Vec::new();
        let now = UNIX_EPOCH + Duration::from_secs(1_795_331_995);
        record.write(&mut written, Duration::from_micros(1_234_567), now);
        drop(record);
        assert!(!sink.0.borrow().is_empty(), "a dropped record is written");
        String::from_utf8(written).expect("text")
    }

    #[test]
    fn the_default_format_is_gunicorns() {
        let request = Request::get("/a?b=c")
            .header("referer", "ref")
            .header("user-agent", "ua")
            .header("authorization", "Basic YWxpY2U6c2VjcmV0");
        let line = line(
            COMBINED,
            request.body(()).expect("a request"),
            Some((200, &HeaderMap::new())),
        );
        let (before, rest) = line.split_once('[').expect("a time");
        let (time, after) = rest.split_once(']').expect("a time");
        assert_eq!(before, "192.0.2.1 - alice ");
        assert_eq!(after, " \"GET /a?b=c HTTP/1.1\" 200 5 \"ref\" \"ua\"\n");
        assert_eq!(time.len(), "22/Nov/2026:07:19:55 +0000".len());
        assert!(time.contains("/Nov/2026:"), "{time}");
    }

    #[test]
    fn all_atoms() {
        let mut headers = HeaderMap::new();
        headers.insert("x-out", HeaderValue::from_static("o"));
        let format = "%(m)s|%(U)s|%(q)s|%(H)s|%(B)s|%(T)s|%(M)s|%(D)s|%(L)s|%({X-In}i)s|\
                      %({x-out}o)s|%({HTTP_X_IN}e)s|%({REMOTE_PORT}e)s|%({wsgi.url_scheme}e)s|\
                      %({nothing}e)s|%({nothing}i)s|%(z)s|100%%|%";
        let request = Request::put("/a%20b?c")
            .header("x-in", "i")
            .body(())
            .expect("a request");
        assert_eq!(
            line(format, request, Some((200, &headers))),
            "PUT|/a b|c|HTTP/1.1|5|1|1234|1234567|1.234567|i|o|i|4711|https|-|-|-|100%|%\n"
        );
    }

    #[test]
    fn the_process_id_is_in_angle_brackets() {
        let request = Request::get("/").body(()).expect("a request");
        assert_eq!(
            line("%(p)s", request, None),
            format!("<{}>\n", std::process::id())
        );
    }

    #[test]
    fn a_request_without_an_answer_has_no_status() {
        let request = Request::get("/").body(()).expect("a request");
        assert_eq!(line("%(s)s %(b)s %(f)s", request, None), "- - -\n");
    }

    #[test]
    fn no_line_can_be_forged() {
        let request = Request::get("/%0a127.0.0.1%22").header(
            "user-agent",
            HeaderValue::from_bytes(b"a\"b\\c\td\xE9").expect("a value"),
        );
        assert_eq!(
            line("%(U)s %(a)s", request.body(()).expect("a request"), None),
            "/\\x0A127.0.0.1\\\" a\\\"b\\\\c\\x09d\\xE9\n"
        );
    }

    #[test]
    fn only_basic_credentials_have_a_user() {
        let user = |text: &'static str| user(&HeaderValue::from_static(text));
        assert_eq!(user("basic YTpi").as_deref(), Some(&b"a"[..]));
        assert_eq!(user("Bearer YTpi"), None);
        assert_eq!(user("Basic !"), None);
        assert_eq!(user("Basic OmI="), None);
        assert_eq!(user("x"), None);
    }
}
