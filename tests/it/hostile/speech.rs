//! What is said at each door, rightly and wrongly.

use std::io::{self, Read, Write as _};

use super::wire::Wire;
use crate::harness::Packet;
use crate::harness::frames::{self, HANDSHAKE};
use crate::harness::http2::*;

pub(super) const HELLO: &str = "hello world!";

/// A protocol, as a client speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    Http1,
    Http2,
    Uwsgi,
    WebSocket,
    /// Lines of text, of a Python service.
    Lines,
    /// Frames, of a Rust service: they are answered backwards.
    Frames,
}

impl Speech {
    /// What stands before the first request.
    pub(super) fn opening(self) -> Vec<u8> {
        match self {
            Self::Http1 | Self::Uwsgi | Self::Lines | Self::Frames => Vec::new(),
            // No table for the answer's fields; a window that never ends.
            Self::Http2 => {
                let settings = [&[0, 1, 0, 0, 0, 0][..], &[0, 4, 0x7F, 0xFF, 0xFF, 0xFF]];
                let window = 0x7F00_0000_u32.to_be_bytes();
                [
                    PREFACE,
                    &frame(SETTINGS, 0, 0, &settings.concat()),
                    &frame(WINDOW_UPDATE, 0, 0, &window),
                ]
                .concat()
            }
            Self::WebSocket => format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").into_bytes(),
        }
    }

    /// Sends the opening, and hears what the server says to it.
    pub(super) fn begin(self, wire: &mut Wire) -> io::Result<()> {
        wire.write_all(&self.opening())?;
        if self == Self::WebSocket {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                wire.read_exact(&mut byte)?;
                head.extend(byte);
            }
            assert!(
                head.starts_with(b"HTTP/1.1 101 "),
                "{}",
                head.escape_ascii()
            );
        }
        Ok(())
    }

    /// A request, after which an HTTP connection ends.
    pub(super) fn request(self) -> Vec<u8> {
        match self {
            Self::Http1 => b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(),
            Self::Http2 => frame(HEADERS, WHOLE, 1, &get()),
            Self::Uwsgi => Packet::get("/").bytes(),
            Self::WebSocket => frames::frame(0x81, "hello"),
            Self::Lines => b"hello\n".to_vec(),
            Self::Frames => b"\0\0\0\x0C!dlrow olleh".to_vec(),
        }
    }

    /// A request with a body that goes on.
    pub(super) fn half_a_body(self) -> Vec<u8> {
        match self {
            Self::Http1 => {
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\nx".to_vec()
            }
            Self::Http2 => {
                let head = frame(HEADERS, END_HEADERS, 1, &post());
                [head, frame(DATA, 0, 1, b"x")].concat()
            }
            Self::Uwsgi => Packet::post("/", 999).with("x"),
            // A message of which the end is missing.
            Self::WebSocket => frames::frame(0x01, "hello"),
            Self::Lines => b"hello\nx".to_vec(),
            Self::Frames => b"\0\0\0\x0C!dlrow olleh\0\0".to_vec(),
        }
    }

    /// A request for more than all buffers hold.
    pub(super) fn large(self) -> Vec<u8> {
        match self {
            Self::Http1 => b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            Self::Http2 => frame(HEADERS, WHOLE, 1, &request("GET", "/large")),
            Self::Uwsgi => Packet::get("/large").bytes(),
            Self::WebSocket => frames::frame(0x81, "large"),
            Self::Lines => b"large\n".to_vec(),
            Self::Frames => [&[0, 1, 0, 0][..], &vec![b'x'; 65536]]
                .concat()
                .repeat(1000),
        }
    }

    /// What is no request at all.
    pub(super) fn garbage(self) -> Vec<u8> {
        match self {
            Self::Http1 | Self::Uwsgi => b"\x00\xFF\x80garbage\r\n\r\n".to_vec(),
            // DATA of no stream, and what is no frame.
            Self::Http2 => [&frame(DATA, 0, 0, b"garbage")[..], &[0xFF; 100]].concat(),
            // It has no mask.
            Self::WebSocket => b"\x81\x07garbage".to_vec(),
            Self::Lines => b"garbage\x00\x01\n\n\n\r\n".to_vec(),
            Self::Frames => b"garbage\x00\x01\n\n\n\r\n".to_vec(),
        }
    }

    /// More than a request may have.
    pub(super) fn oversized(self) -> Vec<u8> {
        let long = "x".repeat(200_000);
        match self {
            Self::Http1 => {
                format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n").into_bytes()
            }
            Self::Http2 => {
                let block = [get(), field("x", &long)].concat();
                let mut pieces = block.chunks(16_000).peekable();
                let mut bytes = frame(HEADERS, END_STREAM, 1, pieces.next().expect("a piece"));
                while let Some(piece) = pieces.next() {
                    let last = if pieces.peek().is_none() {
                        END_HEADERS
                    } else {
                        0
                    };
                    bytes.extend(frame(CONTINUATION, last, 1, piece));
                }
                bytes
            }
            Self::Uwsgi => {
                let value = "x".repeat(40_000);
                Packet::get("/").var("HTTP_X", value).bytes()
            }
            Self::WebSocket => frames::frame(0x82, long),
            Self::Lines => long.into_bytes(),
            Self::Frames => [&[0, 1, 0, 1][..], long.as_bytes()].concat(),
        }
    }

    /// Asks, and hears the status of the answer.
    pub(super) fn status(self, wire: &mut Wire) -> io::Result<u16> {
        wire.write_all(&self.request())?;
        if self == Self::Http2 {
            loop {
                let frame = next(wire)?;
                if frame.kind == HEADERS {
                    return Ok(frame.status());
                }
            }
        }
        let mut head = [0; 12];
        wire.read_exact(&mut head)?;
        let status = std::str::from_utf8(&head[9..]).ok();
        let status = status.and_then(|text| text.parse().ok());
        status.ok_or_else(|| io::Error::other(head.escape_ascii().to_string()))
    }

    /// Asks, and hears the right answer.
    pub(super) fn ask(self, wire: &mut Wire) -> io::Result<()> {
        wire.write_all(&self.request())?;
        match self {
            Self::Http1 | Self::Uwsgi => {
                let mut answer = String::new();
                wire.read_to_string(&mut answer)?;
                let status = answer.split(' ').nth(1);
                expect(status == Some("200") && answer.ends_with(HELLO), &answer)
            }
            Self::Http2 => hear_http2(wire),
            Self::WebSocket => {
                let mut head = [0; 2];
                wire.read_exact(&mut head)?;
                let mut text = vec![0; usize::from(head[1])];
                wire.read_exact(&mut text)?;
                expect(head[0] == 0x81 && text == HELLO.as_bytes(), &text)
            }
            Self::Lines => hear(wire, b"hello world!\n"),
            Self::Frames => hear(wire, b"\0\0\0\x0Chello world!"),
        }
    }
}

fn expect(right: bool, answer: impl AsRef<[u8]>) -> io::Result<()> {
    if right {
        return Ok(());
    }
    let text = answer.as_ref().escape_ascii().to_string();
    Err(io::Error::other(format!("the answer is {text:?}")))
}

/// The next bytes are these.
fn hear(wire: &mut Wire, answer: &[u8]) -> io::Result<()> {
    let mut line = vec![0; answer.len()];
    wire.read_exact(&mut line)?;
    expect(line == answer, &line)
}

/// The next frame of HTTP/2.
fn next(wire: &mut Wire) -> io::Result<Frame> {
    let mut head = [0; 9];
    wire.read_exact(&mut head)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("it is short")];
    wire.read_exact(&mut payload)?;
    Ok(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    })
}

/// The answer on stream 1.
fn hear_http2(wire: &mut Wire) -> io::Result<()> {
    let mut body = Vec::new();
    loop {
        let frame = next(wire)?;
        match frame.kind {
            HEADERS => expect(frame.status() == 200, &frame.payload)?,
            DATA => body.extend_from_slice(&frame.payload),
            // One that leaves this stream alone says only that it is the last (RFC 9113 section 6.8).
            GOAWAY if frame.payload[3] > 0 => {}
            GOAWAY | RST_STREAM => return expect(false, format!("{frame:?}")),
            _ => {}
        }
        if frame.ends_stream() {
            return expect(body == HELLO.as_bytes(), &body);
        }
    }
}
