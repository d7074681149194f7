//! What hostile clients do, at any door.

use super::speech::Speech;
use super::wire::{Door, Wire, hello};

/// What one client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It connects and says nothing.
    Silent,
    /// It says nothing once the protocol has begun.
    SilentWithin,
    /// It stalls in what is before the protocol: the proxy's header, the TLS handshake, a preface.
    HalfPrelude,
    /// It stalls after the first message of the TLS handshake.
    HalfHandshake,
    HalfRequest,
    HalfBody,
    /// It closes its sending half at once.
    Finish,
    FinishWithin,
    FinishInRequest,
    FinishInBody,
    FinishAfterRequest,
    ResetAtOnce,
    ResetInHandshake,
    ResetInRequest,
    ResetInBody,
    ResetInAnswer,
    Garbage,
    GarbageWithin,
    Oversized,
    OversizedWithin,
    /// It does not read a large answer.
    Deaf,
}

impl Act {
    pub(super) const ALL: [Self; 21] = [
        Self::Silent,
        Self::SilentWithin,
        Self::HalfPrelude,
        Self::HalfHandshake,
        Self::HalfRequest,
        Self::HalfBody,
        Self::Finish,
        Self::FinishWithin,
        Self::FinishInRequest,
        Self::FinishInBody,
        Self::FinishAfterRequest,
        Self::ResetAtOnce,
        Self::ResetInHandshake,
        Self::ResetInRequest,
        Self::ResetInBody,
        Self::ResetInAnswer,
        Self::Garbage,
        Self::GarbageWithin,
        Self::Oversized,
        Self::OversizedWithin,
        Self::Deaf,
    ];

    /// Does it at `door`, if there is such a thing.
    pub(super) fn at(self, door: &Door) -> Option<Wire> {
        let speech = door.speech;
        let mut wire = match self.from() {
            From::Start => Wire::bare(door),
            From::Within => Wire::open(door)
                .unwrap_or_else(|error| panic!("{}: {self:?}: {error}", door.name)),
        };
        match self {
            Self::Silent
            | Self::SilentWithin
            | Self::Finish
            | Self::FinishWithin
            | Self::ResetAtOnce => {}
            Self::HalfPrelude => {
                let prelude = prelude(door)?;
                wire.send(&prelude[..prelude.len() / 2]);
            }
            Self::HalfHandshake | Self::ResetInHandshake => {
                wire.send(door.header);
                wire.send(&hello(door)?);
            }
            Self::HalfRequest | Self::FinishInRequest | Self::ResetInRequest => {
                let request = speech.request();
                wire.send(&request[..request.len() / 2]);
            }
            Self::HalfBody | Self::FinishInBody | Self::ResetInBody => {
                wire.send(&speech.half_a_body());
            }
            Self::FinishAfterRequest => wire.send(&speech.request()),
            Self::ResetInAnswer => {
                // As much as is answered before anybody has to read.
                let large = speech.large();
                wire.send(&large[..large.len().min(70_000)]);
                let mut some = [0; 1000];
                std::io::Read::read_exact(&mut wire, &mut some)
                    .unwrap_or_else(|error| panic!("{}: {self:?}: {error}", door.name));
            }
            Self::Garbage => wire.send(&garbage(door)),
            Self::GarbageWithin => wire.send(&speech.garbage()),
            Self::Oversized => wire.send(&oversized(door)?),
            Self::OversizedWithin => wire.send(&speech.oversized()),
            Self::Deaf => wire.send(&speech.large()),
        }
        if self.finishes() {
            wire.finish();
        }
        if self.resets() {
            wire.reset();
            return None;
        }
        Some(wire)
    }

    /// The server ends the connection by itself. A service may be silent, and wait for the next word, as long as it likes.
    pub(super) fn ends(self, door: &Door) -> Ends {
        let mut waits = vec![Self::SilentWithin, Self::HalfRequest, Self::HalfBody];
        let mut before = vec![Self::Silent];
        if door.speech == Speech::Lines {
            // It is a line, too.
            waits.push(Self::GarbageWithin);
            before.push(Self::Garbage);
        }
        let is_service = matches!(door.speech, Speech::Lines | Speech::Frames);
        let is_bare = door.header.is_empty() && door.tls.is_none();
        if is_service && (waits.contains(&self) || is_bare && before.contains(&self)) {
            return Ends::ByClient;
        }
        if self == Self::Deaf {
            Ends::Unseen
        } else {
            Ends::ByServer
        }
    }

    const fn finishes(self) -> bool {
        matches!(
            self,
            Self::Finish
                | Self::FinishWithin
                | Self::FinishInRequest
                | Self::FinishInBody
                | Self::FinishAfterRequest
        )
    }

    const fn resets(self) -> bool {
        matches!(
            self,
            Self::ResetAtOnce
                | Self::ResetInHandshake
                | Self::ResetInRequest
                | Self::ResetInBody
                | Self::ResetInAnswer
        )
    }

    const fn from(self) -> From {
        match self {
            Self::Silent
            | Self::HalfPrelude
            | Self::HalfHandshake
            | Self::Finish
            | Self::ResetAtOnce
            | Self::ResetInHandshake
            | Self::Garbage
            | Self::Oversized => From::Start,
            Self::SilentWithin
            | Self::HalfRequest
            | Self::HalfBody
            | Self::FinishWithin
            | Self::FinishInRequest
            | Self::FinishInBody
            | Self::FinishAfterRequest
            | Self::ResetInRequest
            | Self::ResetInBody
            | Self::ResetInAnswer
            | Self::GarbageWithin
            | Self::OversizedWithin
            | Self::Deaf => From::Within,
        }
    }
}

/// Where an act begins.
enum From {
    Start,
    Within,
}

/// How a connection comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    ByServer,
    /// The same, and the client does not look.
    Unseen,
    ByClient,
}

/// What is first said at a door, if that is not a request.
fn prelude(door: &Door) -> Option<Vec<u8>> {
    if !door.header.is_empty() {
        return Some(door.header.to_vec());
    }
    let opening = || Some(door.speech.opening()).filter(|bytes| !bytes.is_empty());
    hello(door).or_else(opening)
}

fn garbage(door: &Door) -> Vec<u8> {
    if door.header.starts_with(b"PROXY") {
        return b"PROXY TCP4 garbage\r\n".to_vec();
    }
    if !door.header.is_empty() {
        // The signature of version 2, and what is no version.
        return [&door.header[..12], &[0xFF; 40]].concat();
    }
    if door.tls.is_some() {
        return b"\x16\x03\x01\x00\x05hello".to_vec();
    }
    match door.speech {
        Speech::WebSocket | Speech::Http2 => b"\x00\xFF\x80garbage\r\n\r\n".to_vec(),
        speech @ (Speech::Http1 | Speech::Uwsgi | Speech::Lines | Speech::Frames) => {
            speech.garbage()
        }
    }
}

fn oversized(door: &Door) -> Option<Vec<u8>> {
    if door.header.starts_with(b"PROXY") {
        return Some([&b"PROXY TCP4 "[..], &vec![b'1'; 70_000]].concat());
    }
    if !door.header.is_empty() {
        return Some([&door.header[..14], &vec![0xFF; 70_000]].concat());
    }
    door.tls
        .is_some()
        .then(|| [&[22, 3, 1, 0xFF, 0xFF][..], &vec![1; 70_000]].concat())
}
