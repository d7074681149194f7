//! A client that speaks HTTP/2 frame by frame (RFC 9113), wrong ones too, and reads frames strictly.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::{Address, Rgun, Server, patience};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 32;
/// Of a request without a body.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Error codes (section 7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A server of `app` that speaks HTTP/2 to this machine, in either way.
pub(crate) fn cleartext(app: &str) -> Rgun {
    Rgun::app(app)
        .args(["--http-protocols", "h2,h1"])
        .args(["--http2-cleartext", "both"])
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The error code of a `GOAWAY` or `RST_STREAM`.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        number(&self.payload[at..at + 4])
    }

    /// The status that a response's first frame begins with (RFC 7541 appendices A and B).
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        assert_eq!(self.kind, HEADERS);
        let mut block = &self.payload[..];
        // What a change of the table's size begins with.
        while block[0] & 0xE0 == 0x20 {
            block = &block[1..];
        }
        let known = [200, 204, 206, 304, 400, 404, 500];
        if block[0] & 0x80 != 0 {
            return known[usize::from(block[0] & 0x7F) - 8];
        }
        assert_eq!(
            block[0] & 0x0F,
            8,
            "the first field is no status: {block:?}"
        );
        let length = usize::from(block[1] & 0x7F);
        let text = &block[2..2 + length];
        if block[1] & 0x80 == 0 {
            return std::str::from_utf8(text)
                .expect("digits")
                .parse()
                .expect("a status");
        }
        let bits: Vec<u8> = text
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
            .collect();
        let mut at = 0;
        (0..3).fold(0, |status, _| {
            let take = |count: usize| {
                bits[at..at + count]
                    .iter()
                    .fold(0, |number, bit| number << 1 | u16::from(*bit))
            };
            let digit = if take(5) < 3 {
                take(5)
            } else {
                take(6) - 0x19 + 3
            };
            at += if digit < 3 { 5 } else { 6 };
            status * 10 + digit
        })
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a length")
        .to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field without a place in HPACK's table.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // An integer with a prefix of seven bits.
        match text.len().checked_sub(127) {
            None => bytes.extend(u8::try_from(text.len())),
            Some(mut rest) => {
                bytes.push(127);
                while rest >= 128 {
                    bytes.push(u8::try_from(rest % 128).expect("seven bits") | 128);
                    rest /= 128;
                }
                bytes.extend(u8::try_from(rest));
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// The fields of a request.
pub(crate) fn request(method: &str, path: &str) -> Vec<u8> {
    [
        field(":method", method),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "localhost"),
    ]
    .concat()
}

/// The fields of a GET of `/`.
pub(crate) fn get() -> Vec<u8> {
    request("GET", "/")
}

/// The fields of a POST to `/`.
pub(crate) fn post() -> Vec<u8> {
    request("POST", "/")
}

/// One connection.
pub(crate) struct Http2 {
    stream: TcpStream,
    /// Bytes that came and are of no frame yet.
    buffer: Vec<u8>,
}

impl Http2 {
    /// Connects without a word.
    #[track_caller]
    pub(crate) fn silent(server: &Server) -> Self {
        let Address::Tcp(address) = server.address() else {
            panic!("the server listens at no port");
        };
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket");
        stream
            .set_read_timeout(Some(patience()))
            .expect("a socket has timeouts");
        stream
            .set_write_timeout(Some(patience()))
            .expect("a socket has timeouts");
        let buffer = Vec::new();
        Self { stream, buffer }
    }

    /// Connects, and settles with the server, which is told `settings`.
    #[track_caller]
    pub(crate) fn with(server: &Server, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(server);
        // No table for their fields: a status can be told without remembering what came before.
        let payload: Vec<u8> = [(1, 0)]
            .iter()
            .chain(settings)
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        client.raw(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        let theirs = client.next().expect("the server's settings");
        assert_eq!((theirs.kind, theirs.flags), (SETTINGS, 0));
        client.send(SETTINGS, ACK, 0, &[]);
        loop {
            let frame = client.next().expect("the settings are acknowledged");
            if (frame.kind, frame.flags) == (SETTINGS, ACK) {
                return client;
            }
        }
    }

    /// Connects, and settles with the server.
    #[track_caller]
    pub(crate) fn connect(server: &Server) -> Self {
        Self::with(server, &[])
    }

    /// Sends bytes; the server may have had enough.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let _ = self.try_raw(bytes);
    }

    /// Sends bytes, or says why not.
    pub(crate) fn try_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw(&frame(kind, flags, stream, payload));
    }

    /// Sends a GET of `/` on a stream.
    pub(crate) fn get(&mut self, stream: u32) {
        self.send(HEADERS, WHOLE, stream, &get());
    }

    /// Closes our half.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next frame; `None` at the end.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let head = self.take(9)?;
        let length = usize::try_from(number(&head[..3])).expect("a length");
        let payload = self.take(length)?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: number(&head[5..]),
            payload,
        })
    }

    #[track_caller]
    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut room = [0; 16 * 1024];
        while self.buffer.len() < length {
            match self.stream.read(&mut room) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&room[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// The first frame that `wanted` is about; `None` if the connection ends before.
    #[track_caller]
    pub(crate) fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The answer on a stream, to its end: status and body.
    #[track_caller]
    pub(crate) fn answer(&mut self, stream: u32) -> (u16, Vec<u8>) {
        let mut status = 0;
        let mut body = Vec::new();
        loop {
            let frame = self
                .find(|frame| frame.stream == stream)
                .unwrap_or_else(|| panic!("no answer on stream {stream}"));
            match frame.kind {
                HEADERS if status < 200 => status = frame.status(),
                DATA => body.extend_from_slice(&frame.payload),
                WINDOW_UPDATE | HEADERS => {}
                other => panic!("a frame of type {other} on stream {stream}: {frame:?}"),
            }
            if frame.ends_stream() {
                return (status, body);
            }
        }
    }

    /// The server ends the connection, and says why first.
    #[track_caller]
    pub(crate) fn goodbye(&mut self) -> u32 {
        let frame = self
            .find(|frame| frame.kind == GOAWAY)
            .expect("the server says why it ends the connection");
        while self.next().is_some() {}
        frame.code()
    }

    /// The server still answers.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        self.send(PING, 0, 0, b"alive???");
        self.find(|frame| (frame.kind, &frame.payload[..]) == (PING, b"alive???"))
            .expect("an answer to a PING");
    }
}
