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
    // Nearly all names are letters and hyphens.
    let simple = simple_run(bytes, b'-');
    let (colon, classes) = match bytes.get(simple)? {
        b':' if simple > 0 => (simple, 0),
        _ => {
            let name = bytes
                .iter()
                .take_while(|&&byte| class(byte) & class::TOKEN != 0);
            name.fold((0, 0), |(colon, classes), &byte| {
                (colon + 1, classes | class(byte))
            })
        }
    };
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

/// How many letters, digits and bytes `also` the slice begins with; eight at a time.
#[inline]
pub(super) fn simple_run(bytes: &[u8], also: u8) -> usize {
    let (words, rest) = bytes.as_chunks();
    let mut run = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // Each sum sets a byte's high bit if the byte is at least, or above, a bound. No sum carries out of a byte below
        // 0x80; one that is not stops the run, and what it carries into comes after it.
        let at_least = |word: u64, bound: u8| word.wrapping_add(ONES * u64::from(0x80 - bound));
        let lower = word | (ONES * 0x20);
        let letter = at_least(lower, b'a') & !at_least(lower, b'z' + 1);
        let digit = at_least(word, b'0') & !at_least(word, b'9' + 1);
        let also = !at_least(word ^ (ONES * u64::from(also)), 1);
        let stop = (!(letter | digit | also) | word) & HIGHS;
        if stop != 0 {
            return run + usize::try_from(stop.trailing_zeros() / 8).unwrap_or(0);
        }
        run += 8;
    }
    run + rest
        .iter()
        .take_while(|&&byte| byte.is_ascii_alphanumeric() || byte == also)
        .count()
}

/// Where the first byte is that may not stand in a field's value, or a tab; eight at a time.
#[inline]
fn value_end(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    let mut end = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let delete = word ^ (ONES * 0x7F);
        // A byte's high bit is set if it is below SP, or DEL; the lowest such bit is exact, those above it need not be.
        let controls =
            (word.wrapping_sub(ONES * 0x20) & !word) | (delete.wrapping_sub(ONES) & !delete);
        let controls = controls & HIGHS;
        if controls != 0 {
            return Some(end + usize::try_from(controls.trailing_zeros() / 8).unwrap_or(0));
        }
        end += 8;
    }
    Some(
        end + rest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_a_look_at_each_byte_tells() {
        for byte in (0..=u8::MAX).filter(|&byte| byte != b'\t') {
            for at in 0..17 {
                let mut text = *b"aZ-09azA-mM5-0-9x";
                text[at] = byte;
                let plain = |&&byte: &&u8| byte.is_ascii_alphanumeric() || byte == b'-';
                assert_eq!(
                    simple_run(&text, b'-'),
                    text.iter().take_while(plain).count()
                );
                let mut text = *b" ~\x80\xffaZ-09azA-mM";
                text[at % 15] = byte;
                let stops = |&byte: &u8| byte < b' ' || byte == 0x7F;
                assert_eq!(
                    value_end(&text),
                    text.iter().position(stops),
                    "{byte} at {at}"
                );
            }
        }
    }

    #[test]
    fn host_in_any_case() {
        assert!(is_host(b"host") && is_host(b"HOST") && is_host(b"Host"));
        assert!(!is_host(b"hist") && !is_host(b"Ho"));
    }
}
