//! Session tickets (RFC 5077, RFC 8446 section 4.6.1): any worker resumes a session that another has begun, as all have the
//! keys in common. They stand in memory that the master makes before it forks anybody; it alone writes there.
//!
//! There are three keys: the one that tickets are sealed by, and the two before it. Keys are random and independent of each
//! other, and forgotten: who steals one later cannot read what was recorded earlier. That memory is not unmapped by a
//! reload, so sessions outlive it. A new master is given a copy, so sessions outlive an upgrade, too; from there each master
//! has its own.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::server::ProducesTickets;

/// How many keys there are.
const KEYS: u64 = 3;
/// Words of a key's name, and of the key.
const NAME: usize = 2;
const SECRET: usize = 4;
const WORDS: usize = NAME + SECRET;
const NAME_BYTES: usize = NAME * 8;
/// What a copy begins with: another form of it has another number.
const COPY: u64 = 0x5247_554E_0000_0001;

/// The keys, in memory that the master and its workers share.
#[derive(Clone, Copy)]
struct Shared {
    /// Which key is the present one, counted up; then the keys.
    words: &'static [AtomicU64],
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A key and its name. Who reads one while the master replaces it, two periods after it was in use, has random bytes that
/// open nothing.
struct Key {
    name: [u8; NAME_BYTES],
    secret: [u8; SECRET * 8],
}

impl Shared {
    fn new() -> io::Result<Self> {
        let keys = usize::try_from(KEYS).unwrap_or_default();
        let words = crate::os::mmap::shared(1 + keys * WORDS)?;
        let shared = Self { words };
        for turn in 0..KEYS {
            shared.put(turn)?;
        }
        Ok(shared)
    }

    fn present(&self) -> u64 {
        self.words
            .first()
            .map_or(0, |turn| turn.load(Ordering::Acquire))
    }

    /// The words of the key of that turn.
    fn slot(&self, turn: u64) -> &[AtomicU64] {
        let place = usize::try_from(turn % KEYS).unwrap_or_default();
        self.words
            .get(1 + place * WORDS..)
            .and_then(|words| words.get(..WORDS))
            .unwrap_or_default()
    }

    /// Makes the key of that turn, in the place of the oldest, and takes it for the present one.
    fn put(&self, turn: u64) -> io::Result<()> {
        let mut random = [0; WORDS * 8];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| io::Error::other("the system has no randomness"))?;
        for (word, bytes) in self.slot(turn).iter().zip(random.as_chunks().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if let Some(present) = self.words.first() {
            present.store(turn, Ordering::Release);
        }
        Ok(())
    }

    fn key(&self, turn: u64) -> Key {
        let mut bytes = [0; WORDS * 8];
        for (word, bytes) in self.slot(turn).iter().zip(bytes.as_chunks_mut().0) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        let mut key = Key {
            name: [0; NAME_BYTES],
            secret: [0; SECRET * 8],
        };
        let (name, secret) = bytes.split_at(NAME_BYTES);
        key.name.copy_from_slice(name);
        key.secret.copy_from_slice(secret);
        key
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let present = self.present();
        (0..KEYS).map(move |back| self.key(present.wrapping_sub(back)))
    }
}

impl Key {
    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.secret)
            .map(LessSafeKey::new)
            .ok()
    }
}

/// The master's hold of the keys: it makes new ones.
#[derive(Clone, Debug)]
pub(crate) struct TicketKeys {
    shared: Shared,
    /// How long a ticket is good for, at least; no tickets where it is zero.
    lifetime: Duration,
    /// When the next key is due.
    due: Instant,
}

impl TicketKeys {
    /// New keys, for tickets that are good for `lifetime` at least, and half as long again at the most.
    ///
    /// # Errors
    /// No memory, or no randomness.
    pub(crate) fn new(lifetime: Duration, now: Instant) -> io::Result<Self> {
        let shared = Shared::new()?;
        Ok(Self {
            shared,
            lifetime,
            due: now + lifetime / 2,
        })
    }

    /// Those of an old master, from its [`copy`](Self::copy); new ones where that is none.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn inherited(
        copy: Option<File>,
        lifetime: Duration,
        now: Instant,
    ) -> io::Result<Self> {
        let mut keys = Self::new(lifetime, now)?;
        let Some(mut copy) = copy else {
            return Ok(keys);
        };
        let mut words = Vec::new();
        let mut bytes = Vec::new();
        copy.rewind()
            .and_then(|()| copy.read_to_end(&mut bytes))
            .unwrap_or_else(|error| {
                tracing::warn!("TLS sessions of the old master end: {error}");
                0
            });
        words.extend(bytes.as_chunks().0.iter().copied().map(u64::from_ne_bytes));
        if let [COPY, left, theirs @ ..] = words.as_slice()
            && theirs.len() == keys.shared.words.len()
        {
            for (word, there) in keys.shared.words.iter().zip(theirs) {
                word.store(*there, Ordering::Relaxed);
            }
            keys.due = keys
                .due
                .min(now + Duration::from_millis(*left).min(lifetime));
        }
        Ok(keys)
    }

    /// A copy for a new master, in a file without a name; none where there are no sessions.
    ///
    /// # Errors
    /// Those of `memfd_create(2)` and write(2).
    pub(crate) fn copy(&self, now: Instant) -> io::Result<Option<File>> {
        if self.lifetime.is_zero() {
            return Ok(None);
        }
        let left = self.due.saturating_duration_since(now).as_millis();
        let words = self.shared.words.iter();
        let bytes: Vec<u8> = [COPY, u64::try_from(left).unwrap_or(u64::MAX)]
            .into_iter()
            .chain(words.map(|word| word.load(Ordering::Relaxed)))
            .flat_map(u64::to_ne_bytes)
            .collect();
        let mut file = File::from(memfd_create(c"rgun-async-tickets", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&bytes)?;
        Ok(Some(file))
    }

    /// Takes another lifetime.
    pub(crate) fn live(&mut self, lifetime: Duration, now: Instant) {
        if lifetime != self.lifetime {
            self.lifetime = lifetime;
            self.due = self.due.min(now + lifetime / 2);
        }
    }

    /// When [`turn`](Self::turn) is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.lifetime.is_zero()).then_some(self.due)
    }

    /// Makes a new key where one is due, and forgets the oldest.
    pub(crate) fn turn(&mut self, now: Instant) {
        if self.lifetime.is_zero() || now < self.due {
            return;
        }
        self.due = now + self.lifetime / 2;
        if let Err(error) = self.shared.put(self.shared.present().wrapping_add(1)) {
            tracing::error!("no new key for TLS session tickets: {error}; the old one stays");
        }
    }

    /// Seals and opens tickets, for listeners that are of the same `kind`.
    pub(super) fn ticketer(&self, kind: [u8; 32]) -> Ticketer {
        let lifetime = u32::try_from(self.lifetime.as_secs()).unwrap_or(u32::MAX);
        Ticketer {
            shared: self.shared,
            // RFC 8446 section 4.6.1: a week at the most.
            lifetime: lifetime.clamp(1, 604_800),
            enabled: !self.lifetime.is_zero(),
            kind,
            random: SystemRandom::new(),
        }
    }
}

/// Tickets of one listener: the key's name, a nonce, and what is sealed.
///
/// A ticket stands for a client that was let in, perhaps by its certificate. So it opens nowhere else: `kind` (who is let in) is
/// sealed in.
#[derive(Debug)]
pub(super) struct Ticketer {
    shared: Shared,
    lifetime: u32,
    enabled: bool,
    kind: [u8; 32],
    random: SystemRandom,
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        self.enabled
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.shared.key(self.shared.present());
        // Random, as workers do not know of each other; a key is replaced long before 2^32 tickets (NIST SP 800-38D).
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket =
            Vec::with_capacity(NAME_BYTES + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.cipher()?
            .seal_in_place_append_tag(nonce, Aad::from(self.kind), &mut sealed)
            .ok()?;
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = self.shared.keys().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key
            .cipher()?
            .open_in_place(nonce, Aad::from(self.kind), &mut sealed)
            .ok()?
            .len();
        sealed.truncate(plain);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(100);

    fn keys(now: Instant) -> TicketKeys {
        TicketKeys::new(LIFETIME, now).unwrap()
    }

    #[test]
    fn one_worker_opens_what_another_has_sealed() {
        let keys = keys(Instant::now());
        let (one, other) = (keys.ticketer([1; 32]), keys.ticketer([1; 32]));
        let ticket = one.encrypt(b"session").unwrap();
        assert_ne!(one.encrypt(b"session").unwrap(), ticket);
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(one.lifetime(), 100);
    }

    #[test]
    fn a_ticket_opens_at_no_other_kind_of_listener() {
        let keys = keys(Instant::now());
        let ticket = keys.ticketer([1; 32]).encrypt(b"session").unwrap();
        assert_eq!(keys.ticketer([2; 32]).decrypt(&ticket), None);
    }

    #[test]
    fn whatever_was_changed_or_cut_opens_nothing() {
        let keys = keys(Instant::now());
        let ticketer = keys.ticketer([0; 32]);
        let ticket = ticketer.encrypt(b"session").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "{at}");
            assert_eq!(ticketer.decrypt(&ticket[..at]), None, "{at}");
        }
    }

    #[test]
    fn a_copy_opens_what_the_old_master_sealed_until_it_would_forget() {
        let begun = Instant::now();
        let mut old = keys(begun);
        let at = |seconds| begun + Duration::from_secs(seconds);
        old.turn(at(50));
        let ticket = old.ticketer([0; 32]).encrypt(b"session").unwrap();
        let copy = old.copy(at(60)).unwrap();
        let mut new = TicketKeys::inherited(copy, LIFETIME, at(61)).unwrap();
        assert_eq!(new.deadline(), Some(at(101)));
        let theirs = new.ticketer([0; 32]);
        assert_eq!(theirs.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        let back = theirs.encrypt(b"session").unwrap();
        assert!(old.ticketer([0; 32]).decrypt(&back).is_some());
        new.turn(at(101));
        new.turn(at(151));
        assert!(theirs.decrypt(&ticket).is_some());
        new.turn(at(201));
        assert_eq!(theirs.decrypt(&ticket), None);
        // From the copy on, each has keys of its own.
        assert!(old.ticketer([0; 32]).decrypt(&ticket).is_some());
    }

    #[test]
    fn what_is_no_copy_is_left_and_no_lifetime_has_none() {
        let now = Instant::now();
        let mut keys = keys(now);
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(&[7; 999]).unwrap();
        let new = TicketKeys::inherited(Some(other), LIFETIME, now).unwrap();
        assert_eq!(new.deadline(), Some(now + LIFETIME / 2));
        keys.live(Duration::ZERO, now);
        assert!(keys.copy(now).unwrap().is_none());
    }

    #[test]
    fn keys_turn_and_are_forgotten_when_the_lifetime_is_over() {
        let begun = Instant::now();
        let mut keys = keys(begun);
        let ticketer = keys.ticketer([0; 32]);
        let at = |seconds| begun + Duration::from_secs(seconds);
        let first = ticketer.encrypt(b"session").unwrap();
        keys.turn(at(49));
        let second = ticketer.encrypt(b"session").unwrap();
        assert_eq!(first[..NAME_BYTES], second[..NAME_BYTES]);
        assert_eq!(keys.deadline(), Some(at(50)));
        keys.turn(at(50));
        let third = ticketer.encrypt(b"session").unwrap();
        assert_ne!(first[..NAME_BYTES], third[..NAME_BYTES]);
        keys.turn(at(100));
        assert!(ticketer.decrypt(&first).is_some() && ticketer.decrypt(&third).is_some());
        keys.turn(at(150));
        assert!(ticketer.decrypt(&first).is_none() && ticketer.decrypt(&third).is_some());
        keys.live(Duration::from_secs(10), at(150));
        assert_eq!(keys.deadline(), Some(at(155)));
        keys.live(Duration::ZERO, at(150));
        assert_eq!(keys.deadline(), None);
        assert!(!keys.ticketer([0; 32]).enabled());
    }
}
