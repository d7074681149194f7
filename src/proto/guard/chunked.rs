//! A chunked body (RFC 9112 section 7.1), byte by byte but for the data.

use http::StatusCode;

use super::class::{self, class};
use super::{Refusal, Rules};

/// Extensions of a whole body, in bytes: what the library's decoder bears.
const MOST_EXTENSION: usize = 16 * 1024 - 1;
/// Trailers of a body, in bytes: likewise.
const MOST_TRAILERS: usize = 16 * 1024 - 1;
/// Digits of a chunk's size: 64 bits.
const MOST_DIGITS: u8 = 16;
/// So much of a trailer's name is kept: longer than any forbidden one.
const NAME: usize = 24;

/// Fields that frame, route, or authenticate a message (RFC 9110 section 6.5.1) and so must not come after its body.
const FORBIDDEN: [&[u8]; 16] = [
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"host",
    b"keep-alive",
    b"max-forwards",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a size, after so many digits.
    Size(u8),
    /// After white space that only an extension may follow.
    BeforeSemicolon,
    /// After a semicolon, in white space.
    BeforeName,
    Name,
    /// After a name, in white space.
    AfterName,
    /// After an equals sign, in white space.
    BeforeValue,
    Value,
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
    AfterQuoted,
    SizeLf,
    Data(u64),
    DataCr,
    DataLf,
    /// At the first byte of a trailer line.
    Line,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    End,
}

/// A chunked body that is coming in.
#[derive(Debug)]
pub(super) struct Chunked {
    at: At,
    size: u64,
    total: u64,
    extension: usize,
    trailers: usize,
    lines: usize,
    line: usize,
    name: [u8; NAME],
    named: usize,
}

impl Default for Chunked {
    fn default() -> Self {
        Self {
            at: At::Size(0),
            size: 0,
            total: 0,
            extension: 0,
            trailers: 0,
            lines: 0,
            line: 0,
            name: [0; NAME],
            named: 0,
        }
    }
}

impl Chunked {
    pub(super) fn ended(&self) -> bool {
        self.at == At::End
    }

    /// Looks at `bytes`; how many belong to the body and may pass. A refusal comes with the number before it.
    pub(super) fn advance(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
    ) -> Result<usize, (usize, Refusal)> {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            if let At::Data(left) = self.at {
                let here = u64::try_from(bytes.len() - taken)
                    .unwrap_or(u64::MAX)
                    .min(left);
                taken += usize::try_from(here).unwrap_or(usize::MAX);
                self.at = if here == left {
                    At::DataCr
                } else {
                    At::Data(left - here)
                };
            } else if self.at == At::End {
                break;
            } else {
                self.at = self.step(rules, byte).map_err(|refusal| (taken, refusal))?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn step(&mut self, rules: &Rules, byte: u8) -> Result<At, Refusal> {
        match self.at {
            At::Size(digits) => self.size_digit(digits, byte),
            At::BeforeSemicolon
            | At::BeforeName
            | At::Name
            | At::AfterName
            | At::BeforeValue
            | At::Value
            | At::Quoted
            | At::Escaped
            | At::AfterQuoted => {
                self.extension += 1;
                if self.extension > MOST_EXTENSION {
                    return Err(Refusal::bad("chunk extensions too large"));
                }
                self.extension_byte(byte)
                    .ok_or(Refusal::bad("invalid chunk extension"))
            }
            At::SizeLf => {
                if byte != b'\n' {
                    return Err(Refusal::bad("chunk size without CRLF"));
                }
                self.sized(rules)
            }
            At::Data(left) => Ok(At::Data(left)),
            At::DataCr if byte == b'\r' => Ok(At::DataLf),
            At::DataLf if byte == b'\n' => {
                self.size = 0;
                Ok(At::Size(0))
            }
            At::DataCr | At::DataLf => Err(Refusal::bad("chunk data without CRLF")),
            At::Line | At::TrailerName | At::TrailerValue | At::TrailerLf | At::LastLf => {
                self.trailers += 1;
                if self.trailers > MOST_TRAILERS {
                    return Err(Refusal::new(
                        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                        "trailers too large",
                    ));
                }
                self.trailer_byte(rules, byte)
            }
            At::End => Ok(At::End),
        }
    }

    fn size_digit(&mut self, digits: u8, byte: u8) -> Result<At, Refusal> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits == MOST_DIGITS {
                return Err(Refusal::bad("chunk size out of range"));
            }
            self.size = (self.size << 4) | u64::from(digit);
            return Ok(At::Size(digits + 1));
        }
        match byte {
            _ if digits == 0 => Err(Refusal::bad("no chunk size")),
            b'\r' => Ok(At::SizeLf),
            b';' => Ok(At::BeforeName),
            b' ' | b'\t' => Ok(At::BeforeSemicolon),
            _ => Err(Refusal::bad("invalid chunk size")),
        }
    }

    /// A chunk's line has ended.
    fn sized(&mut self, rules: &Rules) -> Result<At, Refusal> {
        if self.size == 0 {
            return Ok(At::Line);
        }
        self.total = self
            .total
            .checked_add(self.size)
            .ok_or(Refusal::bad("chunk size out of range"))?;
        if self.total > rules.body {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body too large",
            ));
        }
        Ok(At::Data(self.size))
    }

    /// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`
    fn extension_byte(&self, byte: u8) -> Option<At> {
        let token = class(byte) & class::TOKEN != 0;
        let blank = byte == b' ' || byte == b'\t';
        match (self.at, byte) {
            (At::Escaped, _) => (class(byte) & class::VALUE != 0).then_some(At::Quoted),
            (At::Quoted, b'"') => Some(At::AfterQuoted),
            (At::Quoted, b'\\') => Some(At::Escaped),
            (At::Quoted, _) => (class(byte) & class::VALUE != 0).then_some(At::Quoted),
            (At::BeforeSemicolon, _) if blank => Some(At::BeforeSemicolon),
            (At::BeforeName, _) if blank => Some(At::BeforeName),
            (At::BeforeName | At::Name, _) if token => Some(At::Name),
            (At::Name | At::AfterName, _) if blank => Some(At::AfterName),
            (At::Name | At::AfterName, b'=') => Some(At::BeforeValue),
            (At::BeforeValue, _) if blank => Some(At::BeforeValue),
            (At::BeforeValue, b'"') => Some(At::Quoted),
            (At::BeforeValue | At::Value, _) if token => Some(At::Value),
            (At::Value | At::AfterQuoted, _) if blank => Some(At::BeforeSemicolon),
            (
                At::BeforeSemicolon | At::Name | At::AfterName | At::Value | At::AfterQuoted,
                b';',
            ) => Some(At::BeforeName),
            (At::Name | At::Value | At::AfterQuoted, b'\r') => Some(At::SizeLf),
            _ => None,
        }
    }

    fn trailer_byte(&mut self, rules: &Rules, byte: u8) -> Result<At, Refusal> {
        self.line += 1;
        match (self.at, byte) {
            (At::LastLf, b'\n') => return Ok(At::End),
            (At::TrailerLf, b'\n') => {
                self.line = 0;
                self.named = 0;
                return Ok(At::Line);
            }
            (At::Line, b'\r') => return Ok(At::LastLf),
            (At::TrailerValue, b'\r') => return Ok(At::TrailerLf),
            _ => (),
        }
        if self.line > rules.field {
            return Err(Refusal::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "trailer field too large",
            ));
        }
        match (self.at, byte) {
            (At::Line | At::TrailerName, _) if class(byte) & class::TOKEN != 0 => {
                if let Some(place) = self.name.get_mut(self.named) {
                    *place = byte.to_ascii_lowercase();
                }
                self.named += 1;
                Ok(At::TrailerName)
            }
            (At::TrailerName, b':') => {
                self.lines += 1;
                // The library's decoder bears a hundred of them, whatever is set for heads.
                if self.lines > rules.fields.min(100) {
                    return Err(Refusal::new(
                        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                        "too many trailer fields",
                    ));
                }
                let name = self.name.get(..self.named).unwrap_or_default();
                if FORBIDDEN.contains(&name) {
                    return Err(Refusal::bad("forbidden trailer field"));
                }
                Ok(At::TrailerValue)
            }
            (At::TrailerValue, _) if class(byte) & class::VALUE != 0 => Ok(At::TrailerValue),
            _ => Err(Refusal::bad("invalid trailer field")),
        }
    }
}
