//! One frame (RFC 6455 section 5.2): its header, and the mask over what a client sends.

/// The longest header: two bytes, a length of eight, a mask of four.
pub const LONGEST_HEADER: usize = 14;
/// The longest payload of a control frame.
pub const LONGEST_CONTROL: u64 = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// What a client did that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It broke the protocol: 1002.
    #[error("{0}")]
    Protocol(&'static str),
    /// What it sent is no valid text, or no valid compressed data: 1007.
    #[error("{0}")]
    Data(&'static str),
    /// Its message is larger than is taken: 1009.
    #[error("message too big")]
    TooBig,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message that has begun.
    Continuation,
    /// A message of text, or its beginning.
    Text,
    /// A message of bytes, or its beginning.
    Binary,
    /// The end.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    const fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Close, ping or pong.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// The message that begins here is compressed (RFC 7692 section 6).
    pub compressed: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Bytes of payload.
    pub length: u64,
    /// Over the payload.
    pub mask: [u8; 4],
}

impl Header {
    /// The header that `bytes` begin with, and its length; `None` if more must come. `deflate` says that messages may be
    /// compressed.
    ///
    /// # Errors
    /// What can be told to be wrong is told with the second byte.
    pub fn parse(bytes: &[u8], deflate: bool) -> Result<Option<(Self, usize)>, Violation> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let Some(opcode) = Opcode::of(first & 0x0F) else {
            return Err(Violation::Protocol("reserved opcode"));
        };
        let fin = first & FIN != 0;
        let compressed = first & RSV1 != 0;
        let may_compress = deflate && matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & RSV2_3 != 0 || (compressed && !may_compress) {
            return Err(Violation::Protocol("reserved bit"));
        }
        if second & MASKED == 0 {
            return Err(Violation::Protocol("frame without a mask"));
        }
        let short = u64::from(second & !MASKED);
        if opcode.is_control() {
            if !fin {
                return Err(Violation::Protocol("fragmented control frame"));
            }
            if short > LONGEST_CONTROL {
                return Err(Violation::Protocol("control frame too long"));
            }
        }
        let (length, rest, taken) = match short {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from(u16::from_be_bytes(*length)), rest, 4)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from_be_bytes(*length), rest, 10)
            }
            short => (short, rest, 2),
        };
        let least = match short {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if length < least || length > u64::MAX >> 1 {
            return Err(Violation::Protocol("length not in its shortest form"));
        }
        let Some((mask, _)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let header = Self {
            fin,
            compressed,
            opcode,
            length,
            mask: *mask,
        };
        Ok(Some((header, taken + 4)))
    }
}

/// Appends a whole message, or control frame, in one frame as a server sends it: without a mask.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, compressed: bool, payload: &[u8]) {
    let first = FIN | if compressed { RSV1 } else { 0 } | opcode.bits();
    if let Some(short) = u8::try_from(payload.len())
        .ok()
        .filter(|&short| short < 126)
    {
        out.extend_from_slice(&[first, short]);
    } else if let Ok(length) = u16::try_from(payload.len()) {
        out.extend_from_slice(&[first, 126]);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        out.extend_from_slice(&[first, 127]);
        out.extend_from_slice(&length.to_be_bytes());
    }
    out.extend_from_slice(payload);
}

/// Takes the mask off `payload`, eight bytes at a time (section 5.3). The mask begins with the first byte of it.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasking_is_what_a_look_at_each_byte_makes() {
        let mask = [1, 20, 77, 255];
        for length in 0..70 {
            let plain: Vec<u8> = (0..length).map(|n| n * 3).collect();
            let mut masked = plain.clone();
            for (byte, key) in masked.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= key;
            }
            unmask(&mut masked, mask);
            assert_eq!(masked, plain);
        }
    }

    #[test]
    fn headers_of_every_length() {
        for (length, size) in [
            (0, 2),
            (125, 2),
            (126, 4),
            (65535, 4),
            (65536, 10),
            (70_000, 10),
        ] {
            let payload = vec![0; length];
            let mut out = Vec::new();
            write(&mut out, Opcode::Binary, false, &payload);
            assert_eq!(out.len(), size + length);
            // As a client would send it.
            out[1] |= MASKED;
            let mut header = out[..size].to_vec();
            header.extend_from_slice(&[1, 2, 3, 4]);
            for end in 0..header.len() {
                assert_eq!(Header::parse(&header[..end], false), Ok(None), "{end}");
            }
            let parsed = Header::parse(&header, false);
            let (parsed, taken) = parsed.expect("valid").expect("whole");
            assert_eq!(
                (parsed.length, taken),
                (u64::try_from(length).expect("it fits"), size + 4)
            );
            assert_eq!(parsed.mask, [1, 2, 3, 4]);
        }
    }

    #[test]
    fn broken_headers_are_told_with_the_second_byte() {
        for (bytes, deflate) in [
            ([0x83, 0x80], true),
            ([0x8B, 0x80], true),
            ([0x8F, 0x80], true),
            ([0xA1, 0x80], true),
            ([0x91, 0x80], true),
            ([0xC1, 0x80], false),
            ([0xC0, 0x80], true),
            ([0xC9, 0x80], true),
            ([0x81, 0x00], true),
            ([0x09, 0x80], true),
            ([0x89, 0xFE], true),
            ([0x88, 0xFF], true),
        ] {
            let parsed = Header::parse(&bytes, deflate);
            assert!(
                matches!(parsed, Err(Violation::Protocol(_))),
                "{bytes:x?} {parsed:?}"
            );
        }
        for bytes in [
            &[0x82, 0xFE, 0, 125, 0, 0, 0, 0][..],
            &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0],
            &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(Header::parse(bytes, false).is_err(), "{bytes:x?}");
        }
    }
}
