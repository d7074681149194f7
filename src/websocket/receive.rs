//! Frames as they come, put together to messages.

use super::deflate::Unpacker;
use super::frame::{Header, LONGEST_HEADER, Opcode, Violation, unmask};

/// A frame's announced length is believed up to here; memory for more is taken as it comes.
const BELIEVED: u64 = 64 * 1024;

/// A message, or its payload's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// Something whole that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message; text is valid UTF-8.
    Message(Kind, Vec<u8>),
    /// To be answered with the same payload.
    Ping(Vec<u8>),
    /// An answer to a ping, or a sign of life.
    Pong(Vec<u8>),
    /// The payload of a close frame.
    Close(Vec<u8>),
}

/// A message of which a part is here.
#[derive(Debug)]
struct Partial {
    kind: Kind,
    compressed: bool,
    /// As it came, without mask.
    data: Vec<u8>,
    /// So many of them are valid UTF-8, in a text that is not compressed.
    valid: usize,
}

/// A frame of which the header is here.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    left: u64,
    /// Begins with the next byte.
    mask: [u8; 4],
}

/// Puts messages together.
#[derive(Debug)]
pub struct Receiver {
    /// The largest message, in bytes.
    limit: u64,
    /// The first bytes of a header that is not whole.
    head: [u8; LONGEST_HEADER],
    headed: usize,
    frame: Option<Frame>,
    message: Option<Partial>,
    control: Vec<u8>,
}

impl Receiver {
    /// For messages up to `limit` bytes, counted after decompression.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self {
            limit,
            head: [0; LONGEST_HEADER],
            headed: 0,
            frame: None,
            message: None,
            control: Vec::new(),
        }
    }

    /// Takes from the front of `bytes`, until something is whole.
    ///
    /// # Errors
    /// A [`Violation`] as soon as it can be told; nothing may be given to this afterwards.
    pub fn advance(
        &mut self,
        bytes: &mut &[u8],
        mut unpacker: Option<&mut Unpacker>,
    ) -> Result<Option<Received>, Violation> {
        loop {
            if self.frame.is_none() && !self.header(bytes, unpacker.is_some())? {
                return Ok(None);
            }
            if let Some(received) = self.payload(bytes, unpacker.as_deref_mut())? {
                return Ok(Some(received));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Reads the next frame's header; false if it is not whole.
    fn header(&mut self, bytes: &mut &[u8], deflate: bool) -> Result<bool, Violation> {
        let known = self.headed;
        let parsed = if known == 0 {
            Header::parse(bytes, deflate)?
        } else {
            let room = self.head.get_mut(known..).unwrap_or_default();
            for (room, byte) in room.iter_mut().zip(*bytes) {
                *room = *byte;
            }
            let filled = (known + bytes.len()).min(LONGEST_HEADER);
            Header::parse(self.head.get(..filled).unwrap_or_default(), deflate)?
        };
        let Some((header, length)) = parsed else {
            // All of it belongs to the header, or that would be whole.
            for (room, byte) in self.head.iter_mut().skip(known).zip(*bytes) {
                *room = *byte;
            }
            self.headed = (known + bytes.len()).min(LONGEST_HEADER);
            *bytes = &[];
            return Ok(false);
        };
        *bytes = bytes.get(length - known..).unwrap_or_default();
        self.headed = 0;
        self.begin(&header)?;
        Ok(true)
    }

    fn begin(&mut self, header: &Header) -> Result<(), Violation> {
        let kind = match header.opcode {
            Opcode::Continuation => None,
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.start(header);
                return Ok(());
            }
        };
        let message = match (kind, &mut self.message) {
            (None, Some(message)) => message,
            (Some(kind), message @ None) => message.insert(Partial {
                kind,
                compressed: header.compressed,
                data: Vec::new(),
                valid: 0,
            }),
            (None, None) => return Err(Violation::Protocol("continuation of nothing")),
            (Some(_), Some(_)) => {
                return Err(Violation::Protocol("a message within a message"));
            }
        };
        // What does not compress grows a little by it.
        let limit = if message.compressed {
            self.limit.saturating_add(self.limit / 64 + 64)
        } else {
            self.limit
        };
        let size = u64::try_from(message.data.len()).unwrap_or(u64::MAX);
        if size.saturating_add(header.length) > limit {
            return Err(Violation::TooBig);
        }
        message
            .data
            .reserve(usize::try_from(header.length.min(BELIEVED)).unwrap_or(0));
        self.start(header);
        Ok(())
    }

    fn start(&mut self, header: &Header) {
        self.frame = Some(Frame {
            opcode: header.opcode,
            fin: header.fin,
            left: header.length,
            mask: header.mask,
        });
    }

    /// Takes payload of the current frame.
    fn payload(
        &mut self,
        bytes: &mut &[u8],
        unpacker: Option<&mut Unpacker>,
    ) -> Result<Option<Received>, Violation> {
        let Some(frame) = &mut self.frame else {
            return Ok(None);
        };
        let taken = usize::try_from(frame.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let (piece, rest) = bytes.split_at(taken);
        *bytes = rest;
        frame.left = frame
            .left
            .saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        let target = match (&mut self.message, frame.opcode.is_control()) {
            (Some(message), false) => &mut message.data,
            (_, true) => &mut self.control,
            // `begin` made the message.
            (None, false) => return Ok(None),
        };
        let before = target.len();
        target.extend_from_slice(piece);
        unmask(target.get_mut(before..).unwrap_or_default(), frame.mask);
        frame.mask.rotate_left(taken % 4);
        let (opcode, fin, whole) = (frame.opcode, frame.fin, frame.left == 0);
        if whole {
            self.frame = None;
        }
        match opcode {
            Opcode::Close if whole => {
                Ok(Some(Received::Close(std::mem::take(&mut self.control))))
            }
            Opcode::Ping if whole => {
                Ok(Some(Received::Ping(std::mem::take(&mut self.control))))
            }
            Opcode::Pong if whole => {
                Ok(Some(Received::Pong(std::mem::take(&mut self.control))))
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => Ok(None),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                if let Some(message) = &mut self.message {
                    message.validate()?;
                }
                match self.message.take_if(|_| whole && fin) {
                    Some(message) => message.complete(self.limit, unpacker).map(Some),
                    None => Ok(None),
                }
            }
        }
    }
}

impl Partial {
    /// Looks at the text that came since the last look.
    fn validate(&mut self) -> Result<(), Violation> {
        if self.compressed || self.kind == Kind::Binary {
            return Ok(());
        }
        let fresh = self.data.get(self.valid..).unwrap_or_default();
        match std::str::from_utf8(fresh) {
            Ok(_) => self.valid = self.data.len(),
            // A character may go on in what is to come.
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(NO_UTF8),
        }
        Ok(())
    }

    fn complete(
        self,
        limit: u64,
        unpacker: Option<&mut Unpacker>,
    ) -> Result<Received, Violation> {
        let data = match unpacker {
            Some(unpacker) if self.compressed => {
                let data = unpacker.unpack(&self.data, limit)?;
                if self.kind == Kind::Text && std::str::from_utf8(&data).is_err() {
                    return Err(NO_UTF8);
                }
                data
            }
            Some(_) | None => {
                if self.kind == Kind::Text && self.valid < self.data.len() {
                    return Err(NO_UTF8);
                }
                self.data
            }
        };
        Ok(Received::Message(self.kind, data))
    }
}

const NO_UTF8: Violation = Violation::Data("text that is not UTF-8");
