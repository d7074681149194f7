//! What a client sends, frame by frame (RFC 9113 section 4.1): looked at before the library reads it, for two things that
//! the library does not tell. How far a frame or a header block is under way, for the deadlines; and how many frames come
//! that ask for work and carry nothing.
//!
//! Pure: bytes in, cut anywhere; the time is given.

use h2::Reason;

/// What a client's side of a connection begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's head.
const HEAD: usize = 9;
/// Floods are counted over so many milliseconds.
const PERIOD: u64 = 10_000;
/// So many streams may be reset in a period (Gunicorn's number).
const RESETS: u64 = 200;
/// So many frames may come in a period that carry neither a request nor a part of one (Gunicorn's number), and one more for
/// every [`WORTH`] bytes of bodies in either direction: who reads a large body has many windows to open.
const IDLE_FRAMES: u64 = 1000;
/// Bytes of bodies that are worth a frame.
const WORTH: u64 = 64;

/// So many streams are remembered whose end has come; of earlier ones the library knows.
const REMEMBERED: usize = 64;

/// Frame types of RFC 9113 section 6.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const ACK: u8 = 1;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
}

/// What the library would let pass, or end with another error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The first frame is none of settings (RFC 9113 section 3.4).
    #[error("the first frame is not SETTINGS")]
    Unsettled,
    /// A stream goes on whose end has come (RFC 9113 section 5.1); as an error of the connection, which section 5.4.1 allows.
    #[error("a frame behind the end of its stream")]
    Ended,
    /// `RST_STREAM` (CVE-2023-44487).
    #[error("too many streams are reset")]
    Resets,
    /// `PING`, `SETTINGS`, `WINDOW_UPDATE`, `PRIORITY`, empty and unknown frames (CVE-2019-9511 to 9518).
    #[error("too many frames carry nothing")]
    Idle,
}

impl Wrong {
    /// What the client is told.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Unsettled => Reason::PROTOCOL_ERROR,
            Self::Ended => Reason::STREAM_CLOSED,
            Self::Resets | Self::Idle => Reason::ENHANCE_YOUR_CALM,
        }
    }
}

/// Where in the client's bytes the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So much of the preface was there.
    Preface(usize),
    /// So much of a frame's head was there.
    Head(usize),
    /// So much of a frame's payload is to come.
    Payload(usize),
}

/// The client's side of one connection.
#[derive(Debug)]
pub struct Frames {
    place: Place,
    head: [u8; HEAD],
    /// The frame whose payload is read is of a body.
    data: bool,
    /// A header block has begun and not ended.
    block: bool,
    /// Frames and header blocks that have ended; wraps.
    ended: u32,
    /// The first frame has come.
    settled: bool,
    /// Streams whose end has come, the last ones; 0 is none.
    over: [u32; REMEMBERED],
    /// Where the next one goes.
    oldest: usize,
    period: u64,
    resets: u64,
    idle: u64,
    /// Bytes of bodies in this period.
    worth: u64,
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// Nothing came yet, not even the preface.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            place: Place::Preface(0),
            head: [0; HEAD],
            data: false,
            block: false,
            ended: 0,
            settled: false,
            over: [0; REMEMBERED],
            oldest: 0,
            period: 0,
            resets: 0,
            idle: 0,
            worth: 0,
        }
    }

    /// Looks at the bytes that come next, at `now` milliseconds of a clock that never goes back.
    ///
    /// # Errors
    /// [`Wrong`]: nothing of these bytes is to be read, nor of what comes after.
    pub fn look(&mut self, mut bytes: &[u8], now: u64) -> Result<(), Wrong> {
        self.turn_to(now);
        while !bytes.is_empty() {
            match self.place {
                Place::Preface(had) => {
                    let taken = bytes.len().min(PREFACE.len() - had);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    self.place = if had + taken == PREFACE.len() {
                        Place::Head(0)
                    } else {
                        Place::Preface(had + taken)
                    };
                }
                Place::Head(had) => {
                    let taken = bytes.len().min(HEAD - had);
                    let (now_here, rest) = bytes.split_at(taken);
                    if let Some(room) = self.head.get_mut(had..had + taken) {
                        room.copy_from_slice(now_here);
                    }
                    bytes = rest;
                    self.place = Place::Head(had + taken);
                    if had + taken == HEAD {
                        self.begin()?;
                    }
                }
                Place::Payload(left) => {
                    let taken = left.min(bytes.len());
                    bytes = bytes.get(taken..).unwrap_or_default();
                    self.place = Place::Payload(left - taken);
                    if self.data {
                        self.carried(taken);
                    }
                    if left == taken {
                        self.end();
                    }
                }
            }
        }
        Ok(())
    }

    /// So many bytes of a body were carried, in either direction.
    pub fn carried(&mut self, bytes: usize) {
        self.worth = self
            .worth
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The client has sent something.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.place != Place::Preface(0)
    }

    /// Something is under way that has to come to its end soon: the preface, a header block, a frame that is not of a body.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        match self.place {
            Place::Preface(_) => true,
            Place::Head(had) => had > 0 || self.block,
            Place::Payload(_) => !self.data,
        }
    }

    /// Changes when a frame, or the header block that it belongs to, ends.
    #[must_use]
    pub fn ended(&self) -> u32 {
        self.ended
    }

    fn turn_to(&mut self, now: u64) {
        if now.saturating_sub(self.period) >= PERIOD {
            self.period = now;
            self.resets = 0;
            self.idle = 0;
            self.worth = 0;
        }
    }

    /// A frame's head is complete.
    fn begin(&mut self) -> Result<(), Wrong> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if !std::mem::replace(&mut self.settled, true)
            && (kind != kind::SETTINGS || flags & flag::ACK != 0)
        {
            return Err(Wrong::Unsettled);
        }
        self.data = kind == kind::DATA;
        if matches!(kind, kind::DATA | kind::HEADERS) {
            self.go_on(flags & flag::END_STREAM != 0)?;
        }
        match kind {
            kind::DATA if length > 0 || flags & flag::END_STREAM != 0 => {}
            kind::HEADERS | kind::CONTINUATION => {
                // Their number is limited by what they begin, and by the library for one block.
                self.block = flags & flag::END_HEADERS == 0;
            }
            kind::RST_STREAM => {
                self.resets += 1;
                if self.resets > RESETS {
                    return Err(Wrong::Resets);
                }
            }
            kind::SETTINGS if flags & flag::ACK != 0 => {}
            // An empty DATA, SETTINGS, PING and its answer, WINDOW_UPDATE, PRIORITY, GOAWAY, what a server is never sent, and
            // what nobody knows.
            _ => {
                self.idle += 1;
                if self.idle > IDLE_FRAMES.saturating_add(self.worth / WORTH) {
                    return Err(Wrong::Idle);
                }
            }
        }
        self.place = Place::Payload(length);
        if length == 0 {
            self.end();
        }
        Ok(())
    }

    /// A stream begins, or goes on, and ends if it `ends`.
    fn go_on(&mut self, ends: bool) -> Result<(), Wrong> {
        let [.., a, b, c, d] = self.head;
        let stream = u32::from_be_bytes([a & 0x7F, b, c, d]);
        if stream == 0 {
            // The library's business.
            return Ok(());
        }
        if self.over.contains(&stream) {
            return Err(Wrong::Ended);
        }
        if ends {
            if let Some(oldest) = self.over.get_mut(self.oldest) {
                *oldest = stream;
            }
            self.oldest = (self.oldest + 1) % REMEMBERED;
        }
        Ok(())
    }

    /// The frame's last byte is there.
    fn end(&mut self) {
        self.place = Place::Head(0);
        if !self.block {
            self.ended = self.ended.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        on_stream(1, kind, flags, payload)
    }

    fn on_stream(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len())
            .expect("a length")
            .to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn open() -> Frames {
        let mut frames = Frames::new();
        assert_eq!(frames.look(PREFACE, 0), Ok(()));
        assert_eq!(frames.look(&frame(kind::SETTINGS, 0, &[]), 0), Ok(()));
        frames
    }

    #[test]
    fn what_is_under_way_is_the_same_wherever_the_bytes_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(kind::SETTINGS, 0, &[]));
        bytes.extend(frame(kind::HEADERS, 0, b"abc"));
        bytes.extend(frame(kind::CONTINUATION, flag::END_HEADERS, b"def"));
        bytes.extend(frame(kind::DATA, 0, &[0; 300]));
        bytes.extend(frame(PING, 0, &[0; 8]));
        let mut whole = Frames::new();
        assert_eq!(whole.look(&bytes, 0), Ok(()));
        assert_eq!(whole.ended(), 4);
        assert!(!whole.is_amid());
        for step in [1, 2, 5, 23, 24, 25, 100] {
            let mut pieces = Frames::new();
            for piece in bytes.chunks(step) {
                assert_eq!(pieces.look(piece, 0), Ok(()));
            }
            assert_eq!(pieces.ended(), 4);
            assert!(!pieces.is_amid());
        }
    }

    #[test]
    fn a_body_may_take_its_time_and_the_rest_may_not() {
        let mut frames = Frames::new();
        assert!(frames.is_amid());
        frames.look(PREFACE, 0).expect("no flood");
        assert!(!frames.is_amid());
        frames
            .look(&frame(kind::SETTINGS, 0, &[]), 0)
            .expect("no flood");
        frames
            .look(&frame(kind::HEADERS, 0, b"abc"), 0)
            .expect("no flood");
        assert!(frames.is_amid(), "the header block goes on");
        let rest = frame(kind::CONTINUATION, flag::END_HEADERS, b"abc");
        frames.look(&rest[..10], 0).expect("no flood");
        assert!(frames.is_amid(), "a frame is cut");
        frames.look(&rest[10..], 0).expect("no flood");
        assert!(!frames.is_amid());
        frames
            .look(&frame(kind::DATA, 0, b"abc")[..10], 0)
            .expect("no flood");
        assert!(!frames.is_amid());
    }

    #[test]
    fn resets_are_counted_by_the_period() {
        let mut frames = open();
        let reset = frame(kind::RST_STREAM, 0, &[0; 4]);
        for _ in 0..RESETS {
            assert_eq!(frames.look(&reset, 5), Ok(()));
        }
        assert_eq!(frames.look(&reset, PERIOD - 1), Err(Wrong::Resets));
        let mut frames = open();
        for now in 0..5 * RESETS {
            assert_eq!(frames.look(&reset, now * PERIOD / RESETS), Ok(()));
        }
    }

    #[test]
    fn frames_that_carry_nothing_are_few_unless_bodies_are_carried() {
        for idle in [
            frame(PING, 0, &[0; 8]),
            frame(kind::SETTINGS, 0, &[]),
            frame(8, 0, &[0, 0, 0, 1]),
            frame(2, 0, &[0; 5]),
            frame(kind::DATA, 0, &[]),
            frame(200, 0, b"whatever"),
        ] {
            let mut frames = open();
            // The settings that a connection begins with are one.
            for _ in 1..IDLE_FRAMES {
                assert_eq!(frames.look(&idle, 0), Ok(()));
            }
            assert_eq!(frames.look(&idle, 0), Err(Wrong::Idle));
            let mut frames = open();
            for _ in 0..10 * IDLE_FRAMES {
                frames.carried(64);
                assert_eq!(frames.look(&idle, 0), Ok(()));
            }
        }
    }

    #[test]
    fn what_carries_something_is_not_counted() {
        let mut frames = open();
        for number in 0..3 * IDLE_FRAMES {
            let stream = u32::try_from(2 * number + 1).expect("a stream");
            for carries in [
                frame(kind::SETTINGS, flag::ACK, b""),
                on_stream(stream, kind::DATA, 0, b"a"),
                on_stream(stream, kind::DATA, flag::END_STREAM, b""),
            ] {
                assert_eq!(frames.look(&carries, 0), Ok(()));
            }
        }
    }

    #[test]
    fn a_connection_begins_with_settings() {
        for first in [
            frame(kind::HEADERS, flag::END_HEADERS, b"a"),
            frame(kind::SETTINGS, flag::ACK, b""),
        ] {
            let mut frames = Frames::new();
            assert_eq!(frames.look(PREFACE, 0), Ok(()));
            assert_eq!(frames.look(&first, 0), Err(Wrong::Unsettled));
        }
    }

    #[test]
    fn a_stream_does_not_go_on_behind_its_end() {
        let whole = flag::END_HEADERS | flag::END_STREAM;
        for (stream, again) in [(3, 3), (3, 3 | 1 << 31)] {
            for kind in [kind::DATA, kind::HEADERS] {
                let mut frames = open();
                let request = on_stream(stream, kind::HEADERS, whole, b"a");
                assert_eq!(frames.look(&request, 0), Ok(()));
                let window = on_stream(stream, 8, 0, &[0; 4]);
                assert_eq!(frames.look(&window, 0), Ok(()));
                let more = on_stream(again, kind, 0, b"a");
                assert_eq!(frames.look(&more, 0), Err(Wrong::Ended));
            }
        }
    }
}
