//! The head: request line and header fields, looked at line by line as they complete.

use http::StatusCode;
use memchr::memchr;

use super::class::{self, class};
use super::{Facts, Framing, Refusal, Rules, quick};

/// The longest target `http::Uri` holds.
const LONGEST_TARGET: usize = 65_534;
/// The largest `Content-Length` the library can count.
const LARGEST_LENGTH: u64 = u64::MAX - 2;

/// Fields of which one is enough, and what was found of the transfer codings.
mod seen {
    pub(super) const HOST: u8 = 1;
    pub(super) const LENGTH: u8 = 2;
    pub(super) const TYPE: u8 = 4;
    pub(super) const CODING: u8 = 8;
    /// `chunked` was among the codings: nothing may follow it.
    pub(super) const CHUNKED: u8 = 16;
    /// A known coding that is not done here.
    pub(super) const COMPRESSED: u8 = 32;
}

/// Whether a field tells the guard anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    None,
    Some,
}

/// A head that is coming in.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of one head, independent of each other"
)]
pub(super) struct Head {
    /// Where the current line begins.
    line: usize,
    /// Where the search for its end goes on.
    scan: usize,
    /// The request line has been read.
    requested: bool,
    /// An empty line came before it.
    blank: bool,
    /// HTTP/1.1, not 1.0.
    http11: bool,
    fields: usize,
    seen: u8,
    length: u64,
    expects: bool,
    underscores: bool,
    watched: bool,
}

impl Head {
    /// Looks at the lines that are complete in `bytes`, which begin where the head begins; the end of the head, once it
    /// is there.
    pub(super) fn advance(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
    ) -> Result<Option<usize>, Refusal> {
        loop {
            let rest = bytes.get(self.line..).unwrap_or_default();
            if let [b'\r', b'\n', ..] = rest {
                self.line += 2;
                self.scan = self.line;
                if self.requested {
                    self.conclude()?;
                    return Ok(Some(self.line));
                }
                if self.blank {
                    return Err(Refusal::bad("empty lines before the request line"));
                }
                self.blank = true;
                continue;
            }
            if self.requested
                && self.scan == self.line
                && let Some(line) = rules.inert.known(self.fields, rest)
            {
                self.room(rules)?;
                self.fields += 1;
                self.line += line;
                self.scan = self.line;
                continue;
            }
            // Nearly every line is whole and in order, and read in one pass. Whatever else it may be is found out by
            // `slow_line`, which alone decides what is wrong.
            let quick = if self.scan > self.line {
                // Part of it was searched before: it came in pieces.
                None
            } else if self.requested {
                match quick::field(rest).filter(|field| field.line <= rules.field) {
                    Some(field) => {
                        let place = self.fields;
                        let meaning =
                            self.field(rules, field.name, field.value, field.classes)?;
                        if meaning == Meaning::None {
                            let line = rest.get(..field.line + 2).unwrap_or_default();
                            rules.inert.keep(place, line);
                        }
                        Some(field.line)
                    }
                    None => None,
                }
            } else {
                quick::request_line(rest)
                    .filter(|&(line, _)| line <= rules.line)
                    .map(|(line, http11)| {
                        self.http11 = http11;
                        self.requested = true;
                        line
                    })
            };
            match quick {
                Some(line) => {
                    self.line += line + 2;
                    self.scan = self.line;
                }
                None if self.slow_line(rules, bytes)? => (),
                None => return Ok(None),
            }
        }
    }

    /// What is found in the fields of a request that was parsed elsewhere.
    pub(super) fn of_fields<'a>(
        rules: &Rules,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Facts, Refusal> {
        let mut head = Self {
            http11: true,
            requested: true,
            ..Self::default()
        };
        for (name, value) in fields {
            if name.len().saturating_add(value.len()).saturating_add(2) > rules.field {
                return Err(head.too_long());
            }
            if !class::all(value, class::VALUE) || class::trim(value).len() != value.len() {
                return Err(Refusal::bad("invalid header field value"));
            }
            let classes = name.iter().fold(0, |classes, &byte| classes | class(byte));
            head.field(rules, name, value, classes)?;
        }
        head.conclude()?;
        Ok(head.facts())
    }

    /// Looks at one line that is not empty; `false` if it is not complete.
    #[cold]
    fn slow_line(&mut self, rules: &Rules, bytes: &[u8]) -> Result<bool, Refusal> {
        let longest = if self.requested {
            rules.field
        } else {
            rules.line
        };
        let found = memchr(b'\n', bytes.get(self.scan..).unwrap_or_default());
        let end = found.map_or(bytes.len(), |at| self.scan + at);
        // First of all, so that a line is too long wherever the input was cut.
        if end - self.line >= longest + 2 {
            return Err(self.too_long());
        }
        self.scan = end;
        if found.is_none() {
            return Ok(false);
        }
        let Some([line @ .., b'\r']) = bytes.get(self.line..end) else {
            return Err(Refusal::bad("bare LF"));
        };
        if self.requested {
            self.field_line(rules, line)?;
        } else {
            self.request_line(line)?;
            self.requested = true;
        }
        self.line = end + 1;
        self.scan = end + 1;
        Ok(true)
    }

    pub(super) fn facts(&self) -> Facts {
        let framing = if self.seen & seen::CHUNKED != 0 {
            Framing::Chunked
        } else if self.seen & seen::LENGTH != 0 {
            Framing::Length(self.length)
        } else {
            Framing::None
        };
        Facts {
            framing,
            expects: self.expects,
            underscores: self.underscores,
            watched: self.watched,
        }
    }

    fn too_long(&self) -> Refusal {
        if self.requested {
            Refusal::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "header field too large",
            )
        } else {
            Refusal::new(StatusCode::URI_TOO_LONG, "request line too large")
        }
    }

    /// RFC 9112 section 3: `method SP request-target SP HTTP-version`.
    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(space) = memchr(b' ', line) else {
            return Err(Refusal::bad("invalid request line"));
        };
        let (method, rest) = line.split_at(space);
        check_method(method)?;
        let Some(rest) = rest.get(1..) else {
            return Err(Refusal::bad("invalid request line"));
        };
        let Some(space) = memchr(b' ', rest) else {
            return Err(Refusal::bad("invalid request line"));
        };
        let (target, version) = rest.split_at(space);
        self.http11 = match version {
            b" HTTP/1.1" => true,
            b" HTTP/1.0" => false,
            [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::new(
                    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    "unsupported HTTP version",
                ));
            }
            _ => return Err(Refusal::bad("invalid HTTP version")),
        };
        check_target(method, target)
    }

    /// RFC 9112 section 5: `field-name ":" OWS field-value OWS`.
    fn field_line(&mut self, rules: &Rules, line: &[u8]) -> Result<(), Refusal> {
        self.room(rules)?;
        let colon = line
            .iter()
            .take_while(|&&byte| class(byte) & class::TOKEN != 0)
            .count();
        let (name, rest) = line.split_at(colon);
        let value = match rest {
            [b':', value @ ..] if !name.is_empty() => value,
            [b' ' | b'\t', ..] if name.is_empty() => {
                return Err(Refusal::bad("folded header field"));
            }
            [b' ' | b'\t', ..] => return Err(Refusal::bad("whitespace before the colon")),
            _ => return Err(Refusal::bad("invalid header field name")),
        };
        if !class::all(value, class::VALUE) {
            return Err(Refusal::bad("invalid header field value"));
        }
        let classes = name.iter().fold(0, |classes, &byte| classes | class(byte));
        self.field(rules, name, value, classes).map(drop)
    }

    /// One field more must be allowed.
    fn room(&self, rules: &Rules) -> Result<(), Refusal> {
        if self.fields >= rules.fields {
            return Err(Refusal::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "too many header fields",
            ));
        }
        Ok(())
    }

    /// A field of right form. `classes` are those of the name's bytes.
    #[inline]
    fn field(
        &mut self,
        rules: &Rules,
        name: &[u8],
        value: &[u8],
        classes: u8,
    ) -> Result<Meaning, Refusal> {
        self.room(rules)?;
        self.fields += 1;
        let underscore = classes & class::UNDERSCORE != 0;
        let watched = rules.watches(name);
        self.underscores |= underscore;
        self.watched |= watched;
        match name.len() {
            4 if quick::is_host(name) => {
                self.once(seen::HOST, "more than one Host")?;
                if !host(class::trim(value)) {
                    return Err(Refusal::bad("invalid Host"));
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects = class::trim(value).eq_ignore_ascii_case(b"100-continue");
                if !self.expects {
                    let status = StatusCode::EXPECTATION_FAILED;
                    return Err(Refusal::new(status, "unknown expectation"));
                }
            }
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                self.once(seen::TYPE, "more than one Content-Type")?;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.once(seen::LENGTH, "more than one Content-Length")?;
                self.length = length(class::trim(value))?;
                if self.length > rules.body {
                    return Err(Refusal::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "body too large",
                    ));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.codings(value)?,
            _ if underscore || watched => (),
            _ => return Ok(Meaning::None),
        }
        Ok(Meaning::Some)
    }

    fn once(&mut self, bit: u8, reason: &'static str) -> Result<(), Refusal> {
        if self.seen & bit != 0 {
            return Err(Refusal::bad(reason));
        }
        self.seen |= bit;
        Ok(())
    }

    /// RFC 9112 section 6.1. Lines add up to one list.
    fn codings(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if !self.http11 {
            return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
        }
        self.seen |= seen::CODING;
        for coding in value.split(|&byte| byte == b',') {
            let coding = class::trim(coding);
            let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
            let chunked = is(b"chunked");
            let compressed =
                is(b"gzip") || is(b"deflate") || is(b"compress") || is(b"identity");
            if coding.is_empty() {
                return Err(Refusal::bad("empty transfer coding"));
            }
            if !chunked && !compressed {
                return Err(Refusal::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "unknown transfer coding",
                ));
            }
            if self.seen & seen::CHUNKED != 0 {
                return Err(Refusal::bad(
                    "chunked is not the last transfer coding, once",
                ));
            }
            self.seen |= if chunked {
                seen::CHUNKED
            } else {
                seen::COMPRESSED
            };
        }
        Ok(())
    }

    /// What can only be told of the whole head.
    fn conclude(&self) -> Result<(), Refusal> {
        let has = |bit: u8| self.seen & bit != 0;
        if self.http11 && !has(seen::HOST) {
            return Err(Refusal::bad("no Host"));
        }
        if has(seen::CODING) {
            if has(seen::LENGTH) {
                return Err(Refusal::bad("both Content-Length and Transfer-Encoding"));
            }
            if !has(seen::CHUNKED) {
                return Err(Refusal::bad("chunked is not the last transfer coding"));
            }
            if has(seen::COMPRESSED) {
                return Err(Refusal::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "only the transfer coding chunked is supported",
                ));
            }
        }
        Ok(())
    }
}

/// What a method may be, to us.
pub(super) fn check_method(method: &[u8]) -> Result<(), Refusal> {
    if !(3..=20).contains(&method.len()) || !class::all(method, class::METHOD) {
        return Err(Refusal::bad("invalid method"));
    }
    Ok(())
}

/// What may be asked for by a method.
pub(super) fn check_target(method: &[u8], target: &[u8]) -> Result<(), Refusal> {
    if method == b"CONNECT" {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "CONNECT is not supported",
        ));
    }
    if target.len() > LONGEST_TARGET {
        return Err(Refusal::new(
            StatusCode::URI_TOO_LONG,
            "request target too large",
        ));
    }
    match target {
        [b'/', path @ ..] if path_and_query(path) => Ok(()),
        b"*" if method == b"OPTIONS" => Ok(()),
        [b'h' | b'H', ..] if absolute(target) => Ok(()),
        _ => Err(Refusal::bad("invalid request target")),
    }
}

/// What follows the first slash of a target: nothing but printable ASCII, and no fragment.
fn path_and_query(bytes: &[u8]) -> bool {
    let path = bytes
        .iter()
        .take_while(|&&byte| class(byte) & class::PATH != 0)
        .count();
    match bytes.get(path..) {
        None | Some([]) => true,
        Some([b'?', query @ ..]) => class::all(query, class::QUERY),
        Some(_) => false,
    }
}

/// The absolute form (RFC 9112 section 3.2.2), of http and https, with a valid authority and no user.
#[cold]
fn absolute(target: &[u8]) -> bool {
    let rest = match target.iter().position(|&byte| byte == b':') {
        Some(4)
            if target
                .get(..4)
                .is_some_and(|s| s.eq_ignore_ascii_case(b"http")) =>
        {
            target.get(4..)
        }
        Some(5)
            if target
                .get(..5)
                .is_some_and(|s| s.eq_ignore_ascii_case(b"https")) =>
        {
            target.get(5..)
        }
        _ => None,
    };
    let Some(after) = rest.and_then(|rest| rest.strip_prefix(b"://")) else {
        return false;
    };
    let end = after
        .iter()
        .position(|&byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(after.len());
    let (authority, path) = after.split_at(end);
    let valid_path = match path {
        [b'/', path @ ..] => path_and_query(path),
        path => path_and_query(path),
    };
    !authority.is_empty()
        && !authority.starts_with(b":")
        && host(authority)
        && valid_path
        && http::Uri::try_from(target).is_ok()
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2), or nothing: that is what a client sends whose target has no authority.
fn host(value: &[u8]) -> bool {
    let rest = if let [b'[', rest @ ..] = value {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, rest) = rest.split_at(end);
        let address = std::str::from_utf8(address).ok();
        if address
            .and_then(|text| text.parse::<std::net::Ipv6Addr>().ok())
            .is_none()
        {
            return false;
        }
        rest.get(1..).unwrap_or_default()
    } else {
        let simple = value
            .get(quick::simple_run(value, b'.')..)
            .unwrap_or_default();
        match simple {
            [] | [b':', ..] => simple,
            _ => match name(simple) {
                Some(rest) => rest,
                None => return false,
            },
        }
    };
    match rest {
        [] => true,
        [b':', port @ ..] => {
            let mut number = 0_u32;
            for &digit in port {
                number = number * 10 + u32::from(digit.wrapping_sub(b'0'));
                if !digit.is_ascii_digit() || number > u32::from(u16::MAX) {
                    return false;
                }
            }
            port.len() <= 5
        }
        _ => false,
    }
}

/// What follows the registered name that `rest` begins with.
#[cold]
fn name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'%', high, low, rest @ ..] if class::all(&[*high, *low], class::HEX) => rest,
            [b'%', ..] => return None,
            [byte, rest @ ..] if class(*byte) & class::HOST != 0 => rest,
            rest => return Some(rest),
        };
    }
}

/// `1*DIGIT` (RFC 9110 section 8.6).
fn length(digits: &[u8]) -> Result<u64, Refusal> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::bad("invalid Content-Length"));
    }
    digits
        .iter()
        .try_fold(0_u64, |length, digit| {
            length.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .filter(|&length| length < LARGEST_LENGTH)
        .ok_or(Refusal::bad("Content-Length out of range"))
}
