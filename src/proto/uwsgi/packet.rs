//! The packet that a uwsgi request begins with: bytes in, variables out.
//!
//! ```text
//! modifier1  size of the block     modifier2  the block: name and value, each behind its size, over and over
//! 1 byte     2 bytes, low first    1 byte     2 bytes, low first, then so many bytes
//! ```
//!
//! Everything is checked before anything is given out, nothing is copied. The uwsgi protocol, uWSGI's documentation; the
//! limit on variables is Gunicorn's.

use http::StatusCode;

use crate::proto::guard::Refusal;

/// The bytes before the block.
pub const HEADER: usize = 4;
/// The most variables of a packet (Gunicorn: `MAX_UWSGI_VARS`).
pub const MOST_VARIABLES: usize = 1000;

const fn bad(reason: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason)
}

/// A packet that was found to be in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    block: &'a [u8],
}

/// One variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Visible ASCII, at least one byte.
    pub name: &'a [u8],
    /// Any bytes.
    pub value: &'a [u8],
    /// Where the name begins, from the beginning of the block.
    pub name_at: usize,
    /// Where the value begins, likewise.
    pub value_at: usize,
}

impl<'a> Packet<'a> {
    /// The packet that `bytes` begin with, and its length in bytes; `None` while it is incomplete.
    ///
    /// # Errors
    /// 501 for a packet that asks for something else than a request to a web app, as soon as that is seen; 400 for one
    /// whose sizes do not fit, that has no variables or too many, or whose names are not visible ASCII.
    pub fn read(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Refusal> {
        match bytes.first() {
            None => return Ok(None),
            Some(0) => {}
            Some(_) => {
                return Err(Refusal::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "uwsgi modifier1 is not 0",
                ));
            }
        }
        let Some((&[_, low, high, modifier2], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        if modifier2 != 0 {
            return Err(Refusal::new(
                StatusCode::NOT_IMPLEMENTED,
                "uwsgi modifier2 is not 0",
            ));
        }
        let size = usize::from(u16::from_le_bytes([low, high]));
        if size == 0 {
            return Err(bad("uwsgi packet without variables"));
        }
        let Some(block) = rest.get(..size) else {
            return Ok(None);
        };
        check(block)?;
        Ok(Some((Self { block }, HEADER + size)))
    }

    /// Its variables, in their order.
    #[must_use]
    pub const fn variables(&self) -> Variables<'a> {
        Variables {
            block: self.block,
            at: 0,
        }
    }

    /// The bytes that the variables are in.
    #[must_use]
    pub const fn block(&self) -> &'a [u8] {
        self.block
    }
}

fn check(block: &[u8]) -> Result<(), Refusal> {
    let mut variables = Variables { block, at: 0 };
    let mut count = 0;
    while variables.at < block.len() {
        let Some(variable) = variables.next() else {
            return Err(bad("uwsgi variable cut short"));
        };
        count += 1;
        if count > MOST_VARIABLES {
            return Err(bad("too many uwsgi variables"));
        }
        if variable.name.is_empty() {
            return Err(bad("uwsgi variable without a name"));
        }
        if !variable.name.iter().all(u8::is_ascii_graphic) {
            return Err(bad("invalid name of a uwsgi variable"));
        }
    }
    Ok(())
}

/// The variables of a packet.
#[derive(Clone, Debug)]
pub struct Variables<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Variables<'a> {
    /// The bytes behind the size at `at`, and where they begin.
    fn sized(&self, at: usize) -> Option<(usize, &'a [u8])> {
        let (size, rest) = self.block.get(at..)?.split_first_chunk()?;
        let bytes = rest.get(..usize::from(u16::from_le_bytes(*size)))?;
        Some((at + size.len(), bytes))
    }
}

impl<'a> Iterator for Variables<'a> {
    type Item = Variable<'a>;

    fn next(&mut self) -> Option<Variable<'a>> {
        let (name_at, name) = self.sized(self.at)?;
        let (value_at, value) = self.sized(name_at + name.len())?;
        self.at = value_at + value.len();
        Some(Variable {
            name,
            value,
            name_at,
            value_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(variables: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut block = Vec::new();
        for part in variables.iter().flat_map(|(name, value)| [name, value]) {
            let size = u16::try_from(part.len()).expect("a size");
            block.extend_from_slice(&size.to_le_bytes());
            block.extend_from_slice(part);
        }
        block
    }

    fn packet(block: &[u8]) -> Vec<u8> {
        let [low, high] = u16::try_from(block.len()).expect("a size").to_le_bytes();
        let mut packet = vec![0, low, high, 0];
        packet.extend_from_slice(block);
        packet
    }

    fn refusal(bytes: &[u8]) -> (u16, &'static str) {
        let refusal = Packet::read(bytes).expect_err("a refusal");
        (refusal.status.as_u16(), refusal.reason)
    }

    #[test]
    fn a_packet_gives_its_variables() {
        let bytes = packet(&block(&[(b"A", b"1"), (b"B_C", b""), (b"A", b"\n\0")]));
        let (packet, length) = Packet::read(&bytes)
            .expect("no refusal")
            .expect("a whole packet");
        assert_eq!(length, bytes.len());
        let found: Vec<_> = packet
            .variables()
            .map(|variable| (variable.name, variable.value))
            .collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"A", b"1"), (b"B_C", b""), (b"A", b"\n\0")];
        assert_eq!(found, expected);
        for variable in packet.variables() {
            let at = |start: usize, part: &[u8]| {
                packet.block().get(start..start + part.len()) == Some(part)
            };
            assert!(at(variable.name_at, variable.name));
            assert!(at(variable.value_at, variable.value));
        }
    }

    #[test]
    fn what_follows_a_packet_is_not_looked_at() {
        let mut bytes = packet(&block(&[(b"A", b"1")]));
        let length = bytes.len();
        bytes.extend_from_slice(b"\x05body");
        let (_, read) = Packet::read(&bytes)
            .expect("no refusal")
            .expect("a whole packet");
        assert_eq!(read, length);
    }

    #[test]
    fn a_packet_is_incomplete_until_its_last_byte() {
        let bytes = packet(&block(&[(b"A", b"1"), (b"B", b"2")]));
        for end in 0..bytes.len() {
            assert_eq!(Packet::read(&bytes[..end]), Ok(None), "{end} bytes");
        }
    }

    #[test]
    fn the_largest_packet_is_read() {
        let value = vec![b'x'; 65_535 - 5];
        let bytes = packet(&block(&[(b"A", &value)]));
        assert_eq!(bytes.len(), HEADER + 65_535);
        assert!(matches!(Packet::read(&bytes), Ok(Some((_, 65_539)))));
    }

    #[test]
    fn other_requests_than_those_to_a_web_app_are_not_implemented() {
        for first in 1..=255 {
            assert_eq!(refusal(&[first]), (501, "uwsgi modifier1 is not 0"));
        }
        assert_eq!(
            refusal(b"GET / HTTP/1.1\r\n"),
            (501, "uwsgi modifier1 is not 0")
        );
        assert_eq!(refusal(&[0, 1, 0, 7]), (501, "uwsgi modifier2 is not 0"));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert_eq!(
            refusal(&packet(&[])),
            (400, "uwsgi packet without variables")
        );
        let cut = (400, "uwsgi variable cut short");
        assert_eq!(refusal(&packet(&[1])), cut);
        assert_eq!(refusal(&packet(&[2, 0, b'A'])), cut);
        assert_eq!(refusal(&packet(&[1, 0, b'A'])), cut);
        assert_eq!(refusal(&packet(&[1, 0, b'A', 1])), cut);
        assert_eq!(refusal(&packet(&[1, 0, b'A', 2, 0, b'1'])), cut);
        assert_eq!(refusal(&packet(&[1, 0, b'A', 0xFF, 0xFF, b'1'])), cut);
    }

    #[test]
    fn names_are_visible_ascii() {
        assert_eq!(
            refusal(&packet(&block(&[(b"", b"1")]))),
            (400, "uwsgi variable without a name")
        );
        for name in [&b"A B"[..], b"A\n", b"\xE9", b"A\0"] {
            assert_eq!(
                refusal(&packet(&block(&[(name, b"1")]))),
                (400, "invalid name of a uwsgi variable")
            );
        }
    }

    #[test]
    fn there_is_a_most_of_variables() {
        let many = vec![(&b"A"[..], &b""[..]); MOST_VARIABLES];
        assert!(matches!(Packet::read(&packet(&block(&many))), Ok(Some(_))));
        let more = vec![(&b"A"[..], &b""[..]); MOST_VARIABLES + 1];
        assert_eq!(
            refusal(&packet(&block(&more))),
            (400, "too many uwsgi variables")
        );
    }
}
