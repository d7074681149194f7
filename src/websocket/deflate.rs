//! permessage-deflate (RFC 7692 section 7.2): each message a run of deflate blocks, whose history may go on from message
//! to message.
//!
//! A compressor's tables take hundreds of kilobytes. So a worker has one of each kind for all of its connections, and a
//! connection keeps what makes its stream its own: the last bytes of plain text in either direction, which the tables
//! are primed with for each message. A connection that never packed anything keeps nothing.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::extension::Agreement;
use super::frame::Violation;

/// What a sender leaves out at the end of each message (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// A middle course: most of the gain of the default level, at half its time.
const LEVEL: Compression = Compression::new(4);
/// Memory for unpacked text is taken in steps, of this size at first.
const STEP: usize = 1024;

const BROKEN: Violation = Violation::Data("broken compressed data");

thread_local! {
    /// By window bits, from nine on. Who uses one takes it away, and puts it back when all went well.
    static PACKERS: RefCell<[Option<Compress>; 7]> = const { RefCell::new([const { None }; 7]) };
    static UNPACKER: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// The last bytes of a stream of text, up to a window's size.
#[derive(Debug)]
struct History {
    kept: Vec<u8>,
    /// Zero keeps nothing.
    most: usize,
}

impl History {
    /// For a window of 2 to the power of `bits`, if it is taken over from message to message.
    fn new(bits: u8, takeover: bool) -> Self {
        Self {
            kept: Vec::new(),
            most: if takeover { 1 << bits } else { 0 },
        }
    }

    fn push(&mut self, text: &[u8]) {
        if self.most == 0 {
            return;
        }
        let fresh = text
            .get(text.len().saturating_sub(self.most)..)
            .unwrap_or_default();
        let excess = (self.kept.len() + fresh.len()).saturating_sub(self.most);
        self.kept.drain(..excess);
        self.kept.reserve_exact(fresh.len());
        self.kept.extend_from_slice(fresh);
    }
}

/// Packs what one connection sends.
#[derive(Debug)]
pub struct Packer {
    bits: u8,
    history: History,
}

impl Packer {
    /// As agreed.
    #[must_use]
    pub fn new(agreement: &Agreement) -> Self {
        Self {
            bits: agreement.server_bits,
            history: History::new(agreement.server_bits, !agreement.server_no_context_takeover),
        }
    }

    /// The message packed, for a frame that says so; `None` if it would not be shorter.
    pub fn pack(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let packed = PACKERS.with_borrow_mut(|packers| {
            let place = packers.get_mut(usize::from(self.bits).checked_sub(9)?)?;
            let mut tables = match place.take() {
                Some(mut tables) => {
                    tables.reset();
                    tables
                }
                None => Compress::new_with_window_bits(LEVEL, false, self.bits),
            };
            if !self.history.kept.is_empty() {
                tables.set_dictionary(&self.history.kept).ok()?;
            }
            let packed = pack(&mut tables, text)?;
            // Only one that has given all it had: a reset does not forget the place in the buffer of what it still has.
            *place = Some(tables);
            Some(packed)
        })?;
        if packed.len() >= text.len() {
            return None;
        }
        // What is sent as it is leaves no trace in the receiver's window.
        self.history.push(text);
        Some(packed)
    }
}

/// The message packed, and nothing of it left in `tables`.
fn pack(tables: &mut Compress, text: &[u8]) -> Option<Vec<u8>> {
    // The most that a small window makes of noise: nine bits of each byte, and the blocks' heads.
    let most = text.len() + text.len() / 8 + text.len() / 64 + 64;
    let mut packed = Vec::with_capacity(most);
    let mut read = 0;
    loop {
        let before = tables.total_in();
        let status = tables
            .compress_vec(text.get(read..)?, &mut packed, FlushCompress::Sync)
            .ok()?;
        read += usize::try_from(tables.total_in() - before).ok()?;
        let full = packed.len() == packed.capacity();
        match status {
            Status::Ok if read == text.len() && !full => break,
            Status::Ok if !full => (),
            Status::Ok | Status::BufError | Status::StreamEnd => return None,
        }
    }
    packed.truncate(packed.len() - packed.ends_with(&TAIL).then_some(TAIL.len())?);
    if packed.is_empty() {
        // An empty message is an empty block (section 7.2.3.6).
        packed.push(0);
    }
    Some(packed)
}

/// Unpacks what one connection receives.
#[derive(Debug)]
pub struct Unpacker {
    history: History,
}

impl Unpacker {
    /// As agreed.
    #[must_use]
    pub fn new(agreement: &Agreement) -> Self {
        Self {
            history: History::new(agreement.client_bits, !agreement.client_no_context_takeover),
        }
    }

    /// The text of a packed message, of `limit` bytes at most.
    ///
    /// # Errors
    /// What is larger, and what is no deflate stream.
    pub fn unpack(&mut self, packed: &[u8], limit: u64) -> Result<Vec<u8>, Violation> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let text = UNPACKER.with_borrow_mut(|place| {
            let mut tables = match place.take() {
                Some(mut tables) => {
                    tables.reset(false);
                    tables
                }
                None => Decompress::new(false),
            };
            if !self.history.kept.is_empty() {
                tables
                    .set_dictionary(&self.history.kept)
                    .map_err(|_| BROKEN)?;
            }
            let mut text = Vec::new();
            let last = unpack(&mut tables, packed, &mut text, limit)?;
            if last == Reached::End {
                unpack(&mut tables, &TAIL, &mut text, limit)?;
            }
            *place = Some(tables);
            Ok(text)
        })?;
        self.history.push(&text);
        Ok(text)
    }
}

/// Where unpacking stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// At the end of what there is.
    End,
    /// At the end of a block that says it is the last (section 7.2.3.5): no tail belongs to it.
    LastBlock,
}

fn unpack(
    unpacker: &mut Decompress,
    packed: &[u8],
    text: &mut Vec<u8>,
    limit: usize,
) -> Result<Reached, Violation> {
    let mut read = 0;
    loop {
        if text.len() == text.capacity() {
            // One byte more than allowed tells what is too big.
            let room = limit.saturating_add(1).saturating_sub(text.len());
            let step = packed.len().saturating_mul(2).max(text.len()).max(STEP);
            text.reserve_exact(step.min(room));
        }
        let (before, had) = (unpacker.total_in(), text.len());
        let rest = packed.get(read..).unwrap_or_default();
        let status = unpacker
            .decompress_vec(rest, text, FlushDecompress::Sync)
            .map_err(|_| BROKEN)?;
        let taken = usize::try_from(unpacker.total_in() - before).unwrap_or(0);
        read += taken;
        if text.len() > limit {
            return Err(Violation::TooBig);
        }
        match status {
            Status::StreamEnd => {
                // After its last block a sender puts the first byte of an empty one, or nothing.
                return match packed.get(read..).unwrap_or_default() {
                    [] | [0] => Ok(Reached::LastBlock),
                    _ => Err(BROKEN),
                };
            }
            Status::Ok | Status::BufError => {
                let full = text.len() == text.capacity();
                if read == packed.len() && !full {
                    return Ok(Reached::End);
                }
                if taken == 0 && text.len() == had && !full {
                    return Err(BROKEN);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Agreement = Agreement {
        server_bits: 12,
        client_bits: 15,
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_bits_asked: false,
        client_bits_asked: false,
    };

    /// Text that is like nothing but itself.
    fn text(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed;
        let letters = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
            b"abcdefghijklmnopqrstuvwxyz012345"[usize::try_from(state >> 27).expect("small")]
        });
        letters.take(length).collect()
    }

    fn unpacks(packed: &[u8], limit: u64) -> Result<Vec<u8>, Violation> {
        Unpacker::new(&BOTH).unpack(packed, limit)
    }

    #[test]
    fn what_is_packed_unpacks_and_the_history_goes_on() {
        let (mut sender, mut receiver) = (Packer::new(&BOTH), Unpacker::new(&BOTH));
        let message = text(1, 1000);
        let first = sender.pack(&message).expect("it is letters");
        let second = sender.pack(&message).expect("it is the same again");
        assert!(second.len() * 10 < first.len(), "{}", second.len());
        for packed in [first, second] {
            assert_eq!(receiver.unpack(&packed, 1000), Ok(message.clone()));
        }
        // Far past the window, interleaved with another connection's messages.
        let (mut other, mut theirs) = (Packer::new(&BOTH), Unpacker::new(&BOTH));
        for seed in 0..60_u32 {
            let length = usize::try_from(seed).expect("small") * 400 + 500;
            let (mine, yours) = (text(seed, length), text(seed + 1, length));
            let packed = sender.pack(&mine).expect("letters");
            assert_eq!(receiver.unpack(&packed, 1 << 20), Ok(mine));
            let packed = other.pack(&yours).expect("letters");
            assert_eq!(theirs.unpack(&packed, 1 << 20), Ok(yours));
        }
        assert!(sender.history.kept.len() <= 4096 && sender.history.kept.capacity() <= 4096);
        assert!(receiver.history.kept.capacity() <= 32768);
    }

    #[test]
    fn without_takeover_each_message_stands_alone() {
        let alone = Agreement {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            ..BOTH
        };
        let mut sender = Packer::new(&alone);
        let message = text(3, 500);
        let first = sender.pack(&message).expect("letters");
        assert_eq!(sender.pack(&message), Some(first.clone()));
        assert_eq!(sender.history.kept.capacity(), 0);
        assert_eq!(unpacks(&first, 500), Ok(message));
    }

    #[test]
    fn every_window_size_packs() {
        for bits in 9..=15 {
            let mut sender = Packer::new(&Agreement {
                server_bits: bits,
                ..BOTH
            });
            let mut receiver = Unpacker::new(&Agreement {
                client_bits: bits,
                ..BOTH
            });
            for seed in [1, 2, 1, 2] {
                let message = text(seed, 3000);
                let packed = sender.pack(&message).expect("letters");
                assert_eq!(receiver.unpack(&packed, 3000), Ok(message), "{bits}");
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_sent_as_it_is() {
        let mut sender = Packer::new(&BOTH);
        assert_eq!(sender.pack(b"x"), None);
        assert_eq!(sender.pack(b""), None);
        assert!(sender.history.kept.is_empty());
    }

    /// The compressor of a worker serves all its connections. After enough messages that it did not make smaller, it panicked
    /// at each one.
    #[test]
    fn noise_spoils_nothing_for_what_comes_next() {
        let mut state = 1_u64;
        let mut noise = |length| {
            let bytes = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            });
            bytes.take(length).collect::<Vec<u8>>()
        };
        for bits in 9..=15 {
            let agreement = Agreement {
                server_bits: bits,
                ..BOTH
            };
            let (mut sender, mut receiver) =
                (Packer::new(&agreement), Unpacker::new(&agreement));
            for length in [10, 70_000].into_iter().chain([300, 3000].repeat(30)) {
                assert_eq!(sender.pack(&noise(length)), None, "{bits}");
            }
            let message = text(1, 1000);
            let packed = sender.pack(&message).expect("letters");
            assert_eq!(receiver.unpack(&packed, 1000), Ok(message), "{bits}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc_unpack() {
        // Section 7.2.3, all of them "Hello".
        for packed in [
            &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..],
            &[
                0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00,
            ],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            &[
                0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
            ],
        ] {
            assert_eq!(unpacks(packed, 5), Ok(b"Hello".to_vec()), "{packed:x?}");
        }
        assert_eq!(unpacks(&[0], 5), Ok(Vec::new()));
        let mut shared = Unpacker::new(&BOTH);
        for packed in [
            &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..],
            &[0xF2, 0x00, 0x11, 0x00, 0x00],
        ] {
            assert_eq!(shared.unpack(packed, 5), Ok(b"Hello".to_vec()));
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_noise_is_broken() {
        let packed = Packer::new(&BOTH)
            .pack(&vec![0; 1 << 20])
            .expect("it is zeros");
        assert!(packed.len() < 5000);
        assert_eq!(unpacks(&packed, (1 << 20) - 1), Err(Violation::TooBig));
        assert_eq!(
            unpacks(&packed, 1 << 20).map(|text| text.len()),
            Ok(1 << 20)
        );
        assert_eq!(unpacks(&[0xFF, 0xFF, 0xFF], 100), Err(BROKEN));
        assert_eq!(
            unpacks(&[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 1, 2], 100),
            Err(BROKEN)
        );
        // A distance before the beginning.
        assert_eq!(unpacks(&[0xF2, 0x00, 0x11, 0x00, 0x00], 100), Err(BROKEN));
    }
}
