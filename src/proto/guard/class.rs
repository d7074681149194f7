//! Which byte may stand where.

/// `token` of RFC 9110 section 5.6.2: methods, field names, chunk extension names.
pub(in crate::proto) const TOKEN: u8 = 1;
/// A method as Gunicorn takes it: a token without lower case letters and `#`.
pub(super) const METHOD: u8 = 2;
/// In a path; what `http::Uri` takes, less what is not ASCII.
pub(in crate::proto) const PATH: u8 = 4;
/// In a query; likewise.
pub(super) const QUERY: u8 = 8;
/// In a registered name, `%` aside (RFC 3986 section 3.2.2).
pub(super) const HOST: u8 = 16;
/// In a field's value: visible, SP, HTAB, obs-text (RFC 9110 section 5.5).
pub(in crate::proto) const VALUE: u8 = 32;
/// `_`, in a field's name.
pub(super) const UNDERSCORE: u8 = 64;
/// A hexadecimal digit.
pub(super) const HEX: u8 = 128;

#[expect(
    clippy::as_conversions,
    reason = "try_from is not const; a loop over 0..256 fits a byte"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a loop over 0..256 fits a byte"
)]
const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let mut class = 0;
        let token = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        if token {
            class |= TOKEN;
            if !byte.is_ascii_lowercase() && byte != b'#' {
                class |= METHOD;
            }
        }
        if matches!(byte,
            0x21 | 0x22 | 0x24..=0x3B | 0x3D | 0x40..=0x5F | 0x61..=0x7E)
        {
            class |= PATH;
        }
        if matches!(byte, 0x21 | 0x24..=0x3B | 0x3D | 0x3F..=0x7E) {
            class |= QUERY;
        }
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            )
        {
            class |= HOST;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7F) {
            class |= VALUE;
        }
        if byte == b'_' {
            class |= UNDERSCORE;
        }
        if byte.is_ascii_hexdigit() {
            class |= HEX;
        }
        table[index] = class;
        index += 1;
    }
    table
};

/// The classes of `byte`.
#[inline]
pub(in crate::proto) fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// All of `bytes` are of `wanted`.
#[inline]
pub(in crate::proto) fn all(bytes: &[u8], wanted: u8) -> bool {
    bytes.iter().all(|&byte| class(byte) & wanted != 0)
}

/// `bytes` without the SP and HTAB around them.
#[inline]
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
