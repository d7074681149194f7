//! One connection's protocol: what comes is checked, pings are answered, the closing handshake is kept (RFC 6455
//! sections 5.5 and 7).

use super::close::{self, Close};
use super::deflate::{Packer, Unpacker};
use super::extension::Agreement;
use super::frame::{self, Opcode, Violation};
use super::receive::{Kind, Received, Receiver};

/// Shorter messages are sent as they are: packing them costs more than the bytes it saves.
const WORTH_PACKING: usize = 128;
/// A buffer that was larger than this is given back when it is empty.
const KEEP: usize = 1024;

/// What the owner of a session must know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, whole.
    Message(Kind, Vec<u8>),
    /// The client has closed, or answered our close. Once the output is sent the connection has ended in order.
    Closed(Close),
    /// The client broke a rule: the close that it is told. Once the output is sent the connection is to be ended.
    Broken(Close),
}

/// How far the closing handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Our close frame is sent, the client's is awaited.
    Closing,
    /// There is nothing more to say.
    Closed,
}

/// The protocol's state.
#[derive(Debug)]
pub struct Session {
    receiver: Receiver,
    deflate: Option<Box<(Packer, Unpacker)>>,
    stage: Stage,
    out: Vec<u8>,
    /// Those before this are sent.
    sent: usize,
}

impl Session {
    /// Freshly open. `limit` is the largest message that is taken, in bytes.
    #[must_use]
    pub fn new(limit: u64, agreement: Option<&Agreement>) -> Self {
        Self {
            receiver: Receiver::new(limit),
            deflate: agreement
                .map(|agreement| (Packer::new(agreement), Unpacker::new(agreement)))
                .map(Box::new),
            stage: Stage::Open,
            out: Vec::new(),
            sent: 0,
        }
    }

    /// Takes from the front of `bytes` until there is something to tell, or nothing left.
    pub fn receive(&mut self, bytes: &mut &[u8]) -> Option<Event> {
        while !bytes.is_empty() && self.stage != Stage::Closed {
            let unpacker = self.deflate.as_deref_mut().map(|(_, unpacker)| unpacker);
            let received = match self.receiver.advance(bytes, unpacker) {
                Ok(Some(received)) => received,
                Ok(None) => return None,
                Err(violation) => return Some(self.fail(violation)),
            };
            match received {
                Received::Message(kind, data) if self.stage == Stage::Open => {
                    return Some(Event::Message(kind, data));
                }
                Received::Ping(payload) if self.stage == Stage::Open => {
                    frame::write(&mut self.out, Opcode::Pong, false, &payload);
                }
                // After our close nobody wants to know.
                Received::Message(..) | Received::Ping(_) | Received::Pong(_) => (),
                Received::Close(payload) => {
                    return Some(match read_close(&payload) {
                        Ok(close) => self.closed(close),
                        Err(violation) => self.fail(violation),
                    });
                }
            }
        }
        None
    }

    fn closed(&mut self, close: Close) -> Event {
        if self.stage == Stage::Open {
            self.write_close(&Close::bare(close.code));
        }
        self.stage = Stage::Closed;
        Event::Closed(close)
    }

    fn fail(&mut self, violation: Violation) -> Event {
        let close = Close {
            code: match violation {
                Violation::Protocol(_) => close::PROTOCOL_ERROR,
                Violation::Data(_) => close::INVALID_DATA,
                Violation::TooBig => close::TOO_BIG,
            },
            reason: violation.to_string(),
        };
        if self.stage == Stage::Open {
            self.write_close(&close);
        }
        self.stage = Stage::Closed;
        Event::Broken(close)
    }

    /// Messages can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Sends a message; nothing if the connection is not open any more.
    pub fn send(&mut self, kind: Kind, data: &[u8]) {
        if !self.is_open() {
            return;
        }
        let opcode = match kind {
            Kind::Text => Opcode::Text,
            Kind::Binary => Opcode::Binary,
        };
        let packed = match self.deflate.as_deref_mut() {
            Some((packer, _)) if data.len() >= WORTH_PACKING => packer.pack(data),
            Some(_) | None => None,
        };
        match packed {
            Some(packed) => frame::write(&mut self.out, opcode, true, &packed),
            None => frame::write(&mut self.out, opcode, false, data),
        }
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self) {
        if self.is_open() {
            frame::write(&mut self.out, Opcode::Ping, false, &[]);
        }
    }

    /// Begins the closing handshake, unless it has begun.
    pub fn close(&mut self, close: &Close) {
        if self.is_open() {
            self.write_close(close);
            self.stage = Stage::Closing;
        }
    }

    fn write_close(&mut self, close: &Close) {
        let mut payload = Vec::new();
        if close.code != close::NO_STATUS {
            payload.extend_from_slice(&close.code.to_be_bytes());
            payload.extend_from_slice(close::fitting(&close.reason).as_bytes());
        }
        frame::write(&mut self.out, Opcode::Close, false, &payload);
    }

    /// What is to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of it are sent.
    pub fn wrote(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.out.len() {
            self.sent = 0;
            if self.out.capacity() > KEEP {
                self.out = Vec::new();
            } else {
                self.out.clear();
            }
        }
    }
}

/// Section 5.5.1.
fn read_close(payload: &[u8]) -> Result<Close, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Close::bare(close::NO_STATUS)),
            _ => Err(Violation::Protocol("half a close code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !close::may_be_sent(code) {
        return Err(Violation::Protocol("close code that must not be sent"));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Close {
            code,
            reason: reason.to_owned(),
        }),
        Err(_) => Err(Violation::Data("close reason that is not UTF-8")),
    }
}
