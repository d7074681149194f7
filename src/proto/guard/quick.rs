//! The quick way through lines that are whole and in order: one pass, nothing looked at twice. What is not recognised here
//! is not wrong yet: the slow way decides.

use super::class::{self, class};

/// The longest target this looks at.
const LONGEST_TARGET: usize = 60_000;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A header field.
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// With the white space around it.
    pub(super) value: &'a [u8],
    /// Of all bytes of the name.
    pub(super) classes: u8,
    /// The length of its line, without the line end.
    pub(super) line: usize,
}

/// The request line that `bytes` begin with, if it is in origin form: its length without the line end, and whether it
/// is HTTP/1.1.
#[inline]
pub(super) fn request_line(bytes: &[u8]) -> Option<(usize, bool)> {
    let method = bytes
        .iter()
        .position(|&byte| class(byte) & class::METHOD == 0)?;
    let after = bytes.get(method..)?;
    if !(3..=20).contains(&method) || bytes.starts_with(b"CONNECT") {
        return None;
    }
    let [b' ', b'/', path @ ..] = after else {
        return None;
    };
    let end = path
        .iter()
        .position(|&byte| class(byte) & class::PATH == 0)?;
    let mut rest = path.get(end..)?;
    if let [b'?', query @ ..] = rest {
        let end = query
            .iter()
            .position(|&byte| class(byte) & class::QUERY == 0)?;
        rest = query.get(end..)?;
    }
    let http11 = match rest.first_chunk()? {
        b" HTTP/1.1\r\n" => true,
        b" HTTP/1.0\r\n" => false,
        _ => return None,
    };
    let line = bytes.len() - rest.len() + 9;
    (line <= LONGEST_TARGET).then_some((line, http11))
}

/// The header field that `bytes` begin with.
#[inline]
pub(super) fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let mut classes = 0;
    let mut colon = 0;
    for &byte in bytes {
        let of_byte = class(byte);
        if of_byte & class::TOKEN == 0 {
            break;
        }
        classes |= of_byte;
        colon += 1;
    }
    let (name, rest) = bytes.split_at_checked(colon)?;
    let [b':', value @ ..] = rest else {
        return None;
    };
    if name.is_empty() {
        return None;
    }
    let end = value_end(value)?;
    let [b'\r', b'\n', ..] = value.get(end..)? else {
        return None;
    };
    Some(Field {
        name,
        value: value.get(..end)?,
        classes,
        line: colon + 1 + end,
    })
}

/// Where the first byte is that may not stand in a field's value; eight at a time.
#[inline]
fn value_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let delete = word ^ (ONES * 0x7F);
        // A byte's high bit is set if it is below SP, or DEL; the lowest such bit is exact, those above it need not be.
        let controls =
            (word.wrapping_sub(ONES * 0x20) & !word) | (delete.wrapping_sub(ONES) & !delete);
        let controls = controls & HIGHS;
        if controls == 0 {
            at += 8;
            continue;
        }
        at += usize::try_from(controls.trailing_zeros() / 8).unwrap_or(0);
        if bytes.get(at) != Some(&b'\t') {
            return Some(at);
        }
        at += 1;
    }
    let rest = bytes.get(at..)?;
    Some(
        at + rest
            .iter()
            .position(|&byte| class(byte) & class::VALUE == 0)?,
    )
}

/// `name`, four bytes long, is `Host` in any case.
#[inline]
pub(super) fn is_host(name: &[u8]) -> bool {
    name.first_chunk().is_some_and(|name| {
        u32::from_le_bytes(*name) | 0x2020_2020 == u32::from_le_bytes(*b"host")
    })
}
