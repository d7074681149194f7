//! A WebSocket client that sends exactly the frames it is given, wrong ones too.

use super::{Client, Response, Server};

const MASK: [u8; 4] = [0x5A, 0x00, 0xFF, 0x13];

/// One connection past its handshake.
pub(crate) struct Frames {
    client: Client,
}

/// The fields of a handshake that cannot be refused; the key is the RFC's.
pub(crate) const HANDSHAKE: &str = "Host: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                                    Sec-WebSocket-Version: 13\r\n\
                                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A frame as a client sends it: its first byte, and its payload under a mask.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).expect("short")),
        middle @ 126..65536 => {
            bytes.push(0xFE);
            bytes.extend_from_slice(&u16::try_from(middle).expect("middle").to_be_bytes());
        }
        long => {
            bytes.push(0xFF);
            bytes.extend_from_slice(&u64::try_from(long).expect("long").to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, key)| byte ^ key));
    bytes
}

impl Frames {
    /// Opens a WebSocket at `path`, with `more` header fields.
    #[track_caller]
    pub(crate) fn open_with(server: &Server, path: &str, more: &str) -> (Self, Response) {
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.1\r\n{HANDSHAKE}{more}\r\n"));
        let answer = client
            .one_response("GET")
            .unwrap_or_else(|error| panic!("no answer: {error}"));
        assert_eq!(answer.status(), 101, "{path}: {}", answer.text());
        assert_eq!(
            answer.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        (Self { client }, answer)
    }

    /// Opens a WebSocket at `path`.
    #[track_caller]
    pub(crate) fn open(server: &Server, path: &str) -> Self {
        Self::open_with(server, path, "").0
    }

    /// Sends these bytes, masked or not.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.send(bytes);
    }

    /// Sends a message of text.
    #[track_caller]
    pub(crate) fn say(&mut self, text: &str) {
        self.send(frame(0x81, text));
    }

    /// The next frame: its first byte, and its payload.
    #[track_caller]
    pub(crate) fn next(&mut self) -> (u8, Vec<u8>) {
        self.try_next()
            .unwrap_or_else(|error| panic!("no frame: {error}"))
    }

    fn try_next(&mut self) -> Result<(u8, Vec<u8>), String> {
        let head = self.client.exactly(2)?;
        let length = match head[1] {
            126 => {
                let bytes = self.client.exactly(2)?;
                usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
            }
            127 => {
                let bytes = self.client.exactly(8)?;
                let length = bytes.try_into().map(u64::from_be_bytes);
                length
                    .ok()
                    .and_then(|length| usize::try_from(length).ok())
                    .ok_or("a length")?
            }
            short if short < 126 => usize::from(short),
            masked => return Err(format!("a masked frame: {masked:x}")),
        };
        Ok((head[0], self.client.exactly(length)?))
    }

    /// The next frame is a message of this text.
    #[track_caller]
    pub(crate) fn hears(&mut self, text: &str) {
        let (first, payload) = self.next();
        let heard = String::from_utf8_lossy(&payload).into_owned();
        assert_eq!((first, &*heard), (0x81, text));
    }

    /// The next frame is a close with this code, and the end follows.
    #[track_caller]
    pub(crate) fn is_closed(&mut self, code: u16) {
        let (first, payload) = self.next();
        assert_eq!(first, 0x88, "{payload:x?}");
        assert_eq!(
            payload.get(..2),
            Some(&code.to_be_bytes()[..]),
            "{:?}",
            String::from_utf8_lossy(&payload)
        );
        assert!(self.client.closes_within(super::patience()));
    }

    /// Ends the connection without a word.
    pub(crate) fn cut(self) {
        drop(self);
    }
}
