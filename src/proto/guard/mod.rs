//! The guard: looks at the bytes of one connection before the HTTP library does, and refuses what RFC 9110, RFC 9112
//! or Gunicorn 27 would refuse.
//!
//! It is pure and incremental: bytes in, verdict out, no I/O, no clock. It is never laxer than the library behind it
//! (httparse's grammar, the library's chunk decoder, `http::Uri`), so that every refusal is ours and looks alike; and it
//! gives the same verdict wherever the input is cut.

mod chunked;
pub(super) mod class;
mod head;
mod inert;
mod parsed;
mod quick;

use http::StatusCode;

use self::chunked::Chunked;
use self::head::Head;
use self::inert::Inert;

/// What is refused, and what is looked for: made once from the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The longest request line in bytes, without its line end (`limit_request_line`).
    line: usize,
    /// The most header fields (`limit_request_fields`).
    fields: usize,
    /// The longest header line in bytes, without its line end (`limit_request_field_size` counts the line end).
    field: usize,
    /// The largest body in bytes (`limit_request_body`).
    body: u64,
    /// Field names to report, lower case.
    watched: Vec<Box<[u8]>>,
    /// A bit for each length among `watched` (lengths past 63 share the last bit).
    watched_lengths: u64,
    /// Lines that these rules have passed.
    inert: Inert,
}

impl Rules {
    /// More fields than this make the library's header map panic.
    const MOST_FIELDS: usize = 24_000;

    /// Rules from the settings of these names; zero is "no limit". `watched` are the field names that
    /// [`Facts::watched`] tells of.
    pub fn new<'a>(
        limit_request_line: usize,
        limit_request_fields: usize,
        limit_request_field_size: usize,
        limit_request_body: u64,
        watched: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let unless_zero = |limit: usize| if limit == 0 { usize::MAX - 2 } else { limit };
        let watched: Vec<Box<[u8]>> = watched
            .into_iter()
            .map(|name| name.to_ascii_lowercase().into_bytes().into_boxed_slice())
            .collect();
        Self {
            line: unless_zero(limit_request_line).min(usize::MAX - 2),
            fields: unless_zero(limit_request_fields).min(Self::MOST_FIELDS),
            field: unless_zero(limit_request_field_size)
                .min(usize::MAX - 2)
                .saturating_sub(2),
            body: if limit_request_body == 0 {
                u64::MAX
            } else {
                limit_request_body
            },
            watched_lengths: watched
                .iter()
                .fold(0, |bits, name| bits | length_bit(name.len())),
            watched,
            inert: Inert::default(),
        }
    }

    /// The most header fields that pass.
    #[must_use]
    pub fn most_fields(&self) -> usize {
        self.fields
    }

    /// The largest body that passes, in bytes.
    #[must_use]
    pub(crate) fn most_body(&self) -> u64 {
        self.body
    }

    /// The largest head that passes, in bytes, line ends included.
    #[must_use]
    pub fn largest_head(&self) -> usize {
        let field = self.field.saturating_add(2);
        self.fields
            .saturating_mul(field)
            .saturating_add(self.line)
            .saturating_add(6)
    }

    fn watches(&self, name: &[u8]) -> bool {
        self.watched_lengths & length_bit(name.len()) != 0
            && self
                .watched
                .iter()
                .any(|watched| watched.eq_ignore_ascii_case(name))
    }
}

const fn length_bit(length: usize) -> u64 {
    if length < 63 { 1 << length } else { 1 << 63 }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is answered.
    pub status: StatusCode,
    /// The reason, for the log and the answer.
    pub reason: &'static str,
}

impl Refusal {
    /// A refusal with `status`.
    #[must_use]
    pub const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }

    const fn bad(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }
}

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What the guard learned from a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How its body is delimited.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects: bool,
    /// At least one field name has an underscore.
    pub underscores: bool,
    /// At least one of the watched fields is there.
    pub watched: bool,
}

/// Where in a message the guard is.
#[derive(Debug)]
enum Stage {
    Head,
    Sized(u64),
    Chunked(Chunked),
    /// The message has ended; the next look starts a new one.
    Ended,
    /// Refused: nothing passes any more.
    Refused,
}

/// What a look at some bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// So many of the bytes may pass.
    pub pass: usize,
    /// A head was completed among them.
    pub head: Option<Completed>,
    /// What comes next is refused, there.
    pub refusal: Option<(Refusal, Place)>,
}

/// Where a refusal struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the request reached the app: we answer.
    Head,
    /// In its body: the app has it.
    Body,
}

/// A head that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Its length in bytes.
    pub length: usize,
    /// It is, byte by byte, the one before it on this connection.
    pub repeated: bool,
}

/// A head up to this size is kept, to be compared with the next.
const KEPT: usize = 512;

/// The state of one connection.
#[derive(Debug)]
pub struct Guard {
    stage: Stage,
    head: Head,
    facts: Facts,
    /// The last head that passed, if it is small. A head tells its own end, and its verdict and facts follow from its
    /// bytes alone: so if these bytes come again, as they do from many clients, there is nothing to look at.
    last: Vec<u8>,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

impl Guard {
    /// The guard of a fresh connection.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stage: Stage::Ended,
            head: Head::default(),
            facts: Facts::default(),
            last: Vec::new(),
        }
    }

    /// The facts of the head that was completed last.
    #[must_use]
    pub const fn facts(&self) -> Facts {
        self.facts
    }

    /// The message has ended, or none has begun.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Bytes of a body are awaited.
    #[must_use]
    pub const fn in_body(&self) -> bool {
        matches!(self.stage, Stage::Sized(_) | Stage::Chunked(_))
    }

    /// Looks at `bytes`, at most to the end of the current message.
    ///
    /// While a head is incomplete nothing passes: the caller keeps the bytes and looks again at all of them, with what
    /// came since at their end. Body bytes pass as they come and are looked at once.
    pub fn look(&mut self, rules: &Rules, bytes: &[u8]) -> Look {
        if bytes.is_empty() {
            return Look {
                pass: 0,
                head: None,
                refusal: None,
            };
        }
        let mut head = None;
        if let Stage::Ended = self.stage {
            if !self.last.is_empty() && bytes.starts_with(&self.last) {
                head = Some(Completed {
                    length: self.last.len(),
                    repeated: true,
                });
                self.stage = self.after_head();
            } else {
                self.head = Head::default();
                self.stage = Stage::Head;
            }
        }
        if let Stage::Head = self.stage {
            match self.head.advance(rules, bytes) {
                Ok(None) => {
                    return Look {
                        pass: 0,
                        head: None,
                        refusal: None,
                    };
                }
                Ok(Some(length)) => {
                    self.facts = self.head.facts();
                    self.keep(bytes.get(..length).unwrap_or_default());
                    head = Some(Completed {
                        length,
                        repeated: false,
                    });
                    self.stage = self.after_head();
                }
                Err(refusal) => {
                    self.stage = Stage::Refused;
                    let refusal = Some((refusal, Place::Head));
                    return Look {
                        pass: 0,
                        head: None,
                        refusal,
                    };
                }
            }
        }
        let begin = head.map_or(0, |head| head.length);
        if let Stage::Ended = self.stage {
            return Look {
                pass: begin,
                head,
                refusal: None,
            };
        }
        let (body, refusal) = self.look_at_body(rules, bytes.get(begin..).unwrap_or_default());
        let refusal = refusal.map(|refusal| (refusal, Place::Body));
        Look {
            pass: begin + body,
            head,
            refusal,
        }
    }

    fn after_head(&self) -> Stage {
        match self.facts.framing {
            Framing::None | Framing::Length(0) => Stage::Ended,
            Framing::Length(length) => Stage::Sized(length),
            Framing::Chunked => Stage::Chunked(Chunked::default()),
        }
    }

    fn keep(&mut self, head: &[u8]) {
        self.last.clear();
        if head.len() <= KEPT {
            self.last.extend_from_slice(head);
        }
    }

    fn look_at_body(&mut self, rules: &Rules, bytes: &[u8]) -> (usize, Option<Refusal>) {
        match &mut self.stage {
            Stage::Sized(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                if *left == 0 {
                    self.stage = Stage::Ended;
                }
                (taken, None)
            }
            Stage::Chunked(chunked) => match chunked.advance(rules, bytes) {
                Ok(taken) => {
                    if chunked.ended() {
                        self.stage = Stage::Ended;
                    }
                    (taken, None)
                }
                Err((taken, refusal)) => {
                    self.stage = Stage::Refused;
                    (taken, Some(refusal))
                }
            },
            Stage::Head | Stage::Ended | Stage::Refused => (0, None),
        }
    }
}

#[cfg(test)]
mod tests;
