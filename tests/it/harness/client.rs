//! An HTTP/1.1 client that sends exactly the bytes it is given, wrong ones too, and reads answers strictly.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::patience;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A unix socket in the file system.
    Unix(PathBuf),
    /// A unix socket in the abstract name space, without the leading NUL.
    Abstract(String),
}

impl Address {
    /// As the `Listening at` line writes it, whatever is spoken there.
    #[track_caller]
    pub(crate) fn of_url(url: &str) -> Self {
        let schemes = ["http", "https", "uwsgi", "tcp"];
        let (scheme, place) = url.split_once(':').expect("a scheme");
        let place = match scheme {
            "tcp" => place.rsplit_once('=').expect("a service").0,
            _ => place,
        };
        let url = if schemes.contains(&scheme) {
            place.strip_prefix("//").unwrap_or(place)
        } else {
            url
        };
        if let Some(name) = url.strip_prefix("unix:@") {
            Self::Abstract(name.to_owned())
        } else if let Some(path) = url.strip_prefix("unix:") {
            Self::Unix(path.into())
        } else {
            let address = url.parse();
            Self::Tcp(address.unwrap_or_else(|_| panic!("{url:?} is no address")))
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection to a server.
pub(crate) struct Client {
    stream: Stream,
    /// Bytes that came and were not yet asked for.
    buffer: Vec<u8>,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There cannot be one: HEAD, 1xx, 204, 304.
    Bodiless,
    /// After `Content-Length` bytes.
    Length,
    /// At the last chunk.
    LastChunk,
    /// With the connection.
    Close,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    version: String,
    status: u16,
    reason: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    end: End,
}

impl Client {
    /// Connects, or fails the test.
    #[track_caller]
    pub(crate) fn connect(address: &Address) -> Self {
        Self::try_connect(address)
            .unwrap_or_else(|error| panic!("cannot connect to {address:?}: {error}"))
    }

    /// Connects, or says why not.
    pub(crate) fn try_connect(address: &Address) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, patience())?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Address::Abstract(name) => Stream::Unix(UnixStream::connect_addr(
                &std::os::unix::net::SocketAddr::from_abstract_name(name)?,
            )?),
        };
        let client = Self {
            stream,
            buffer: Vec::new(),
        };
        client.set_timeout(patience())?;
        Ok(client)
    }

    /// Connects from another address of this machine (127.0.0.2).
    #[track_caller]
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        let stream = socket
            .bind(&SocketAddr::new(source, 0).into())
            .and_then(|()| socket.connect(&address.into()))
            .map(|()| Stream::Tcp(socket.into()))
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        let client = Self {
            stream,
            buffer: Vec::new(),
        };
        client.set_timeout(patience()).expect("a timeout");
        client
    }

    /// The port of our end; 0 on a unix socket.
    pub(crate) fn port(&self) -> u16 {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().map_or(0, |address| address.port()),
            Stream::Unix(_) => 0,
        }
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match &self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }

    /// Sends these bytes.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("cannot send: {error}"));
    }

    /// Sends these bytes, or says why not (the server may have hung up).
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
        }
    }

    /// Sends zeros until the server takes no more for this long, and tells how many it took.
    pub(crate) fn send_until_blocked(&mut self, silence: Duration) -> usize {
        let zeros = vec![0; 256 * 1024];
        let mut sent = 0;
        if self.set_timeout(silence).is_err() {
            return sent;
        }
        loop {
            let taken = match &mut self.stream {
                Stream::Tcp(stream) => stream.write(&zeros),
                Stream::Unix(stream) => stream.write(&zeros),
            };
            match taken {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return sent,
            }
        }
    }

    /// Sends no more (FIN), and still reads.
    pub(crate) fn half_close(&self) {
        // The server may have closed already: then there is nothing to shut.
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Sends a GET with a Host and nothing else.
    #[track_caller]
    pub(crate) fn send_get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }

    /// GET and its answer; the connection stays.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.try_get(path)
            .unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// GET and its answer, or why there is none.
    pub(crate) fn try_get(&mut self, path: &str) -> Result<Response, String> {
        self.try_send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .map_err(|error| format!("sending: {error}"))?;
        self.try_response("GET")
    }

    /// Sends bytes and reads one answer to a GET or POST.
    #[track_caller]
    pub(crate) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        self.send(bytes);
        self.response()
    }

    /// Reads one answer to a GET or POST.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads one answer to a request of this method.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        self.try_response(method)
            .unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads one answer to a request of this method, past any 1xx; or says what was wrong with it.
    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, String> {
        loop {
            let response = self.one_response(method)?;
            if !(100..200).contains(&response.status) {
                return Ok(response);
            }
        }
    }

    /// Reads one answer of any status, 1xx too.
    pub(crate) fn one_response(&mut self, method: &str) -> Result<Response, String> {
        let mut response = self.head()?;
        let status = response.status;
        let bodiless = method == "HEAD" || status < 200 || matches!(status, 204 | 304);
        let chunked = response.header("transfer-encoding") == Some("chunked");
        let length = response
            .header("content-length")
            .map(|text| {
                text.parse::<usize>()
                    .map_err(|_| format!("length {text:?}"))
            })
            .transpose()?;
        if chunked && length.is_some() {
            return Err("both Content-Length and chunked".to_owned());
        }
        (response.body, response.end) = if bodiless {
            (Vec::new(), End::Bodiless)
        } else if chunked {
            (self.chunks()?, End::LastChunk)
        } else if let Some(length) = length {
            (self.exactly(length)?, End::Length)
        } else {
            (self.rest()?, End::Close)
        };
        Ok(response)
    }

    /// Everything until the server closes. A reset counts as an error.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, String> {
        while self.more().map_err(|error| self.said(&error))? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads at most `count` bytes, if there are any.
    pub(crate) fn trickle(&mut self, count: usize) {
        let mut bytes = vec![0; count];
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut bytes),
            Stream::Unix(stream) => stream.read(&mut bytes),
        };
        let count = read.unwrap_or(0);
        self.buffer.extend_from_slice(&bytes[..count]);
    }

    /// Everything until the server closes or resets.
    pub(crate) fn until_end(&mut self) -> Vec<u8> {
        while self.more().unwrap_or(false) {}
        std::mem::take(&mut self.buffer)
    }

    /// The server closes (or resets) within this time; what it sent before is dropped.
    pub(crate) fn closes_within(&mut self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.set_timeout(left).is_err() {
                return false;
            }
            match self.more() {
                Ok(true) => self.buffer.clear(),
                Ok(false) => return true,
                Err(error) if is_timeout(&error) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Nothing comes within this time and the connection stays open.
    pub(crate) fn stays_silent_for(&mut self, time: Duration) -> bool {
        if !self.buffer.is_empty() || self.set_timeout(time).is_err() {
            return false;
        }
        let silent = self.more().is_err_and(|error| is_timeout(&error));
        silent && self.set_timeout(patience()).is_ok()
    }

    /// Reads until these bytes have come; what came is dropped.
    #[track_caller]
    pub(crate) fn wait_for_bytes(&mut self, bytes: &str) {
        while !String::from_utf8_lossy(&self.buffer).contains(bytes) {
            if let Err(error) = self.must_read() {
                panic!("no {bytes:?}: {error}");
            }
        }
        self.buffer.clear();
    }

    /// Something has come: bytes, or the end.
    pub(crate) fn has_bytes(&mut self) -> bool {
        if self.buffer.is_empty() && self.set_timeout(Duration::from_millis(1)).is_ok() {
            let _ = self.more();
            let _ = self.set_timeout(patience());
        }
        !self.buffer.is_empty()
    }

    fn head(&mut self) -> Result<Response, String> {
        let line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        if !version.starts_with("HTTP/1.") {
            return Err(format!("no status line: {line:?}"));
        }
        let status = words
            .next()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("no status: {line:?}"))?;
        let reason = words.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("no header: {line:?}"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Response {
            version,
            status,
            reason,
            headers,
            body: Vec::new(),
            end: End::Close,
        })
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                usize::from_str_radix(size, 16).map_err(|_| format!("chunk size {line:?}"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            if !self.line()?.is_empty() {
                return Err("a chunk longer than it says".to_owned());
            }
        }
    }

    fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            self.must_read()?;
        }
    }

    /// The next `count` bytes, whatever they are.
    pub(crate) fn exactly(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() < count {
            self.must_read()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn must_read(&mut self) -> Result<(), String> {
        match self.more() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.said(&ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.said(&error)),
        }
    }

    fn said(&self, error: &io::Error) -> String {
        format!("{error}, after {:?}", String::from_utf8_lossy(&self.buffer))
    }

    /// Reads what has come; `false` at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 * 1024];
        loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut bytes),
                Stream::Unix(stream) => stream.read(&mut bytes),
            };
            match read {
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Response {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The three digits.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// What follows the three digits.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// The first value of this header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, v)| &**v)
    }

    /// All values of this header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let mine = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(mine)
            .map(|(_, value)| &**value)
            .collect()
    }

    /// The body's bytes.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// How the body ended.
    pub(crate) fn end(&self) -> End {
        self.end
    }

    /// The server says that it will close.
    pub(crate) fn says_close(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}
