//! The bytes of one connection between the socket and the HTTP library: what the guard has not yet passed waits here.
//!
//! Heads pass whole, and one message at a time. So the library never holds half a head (whose loss would take the answer
//! before it along), what the guard knows is always about the request being served, and a client that sends its head
//! slowly costs its bytes and no parsing.

use super::guard::{Facts, Guard, Place, Refusal, Rules};

/// A buffer that was larger than this is given back when it is empty.
const KEEP: usize = 4096;

/// The inlet of one connection.
#[derive(Debug)]
pub struct Inlet {
    /// Apart: it is much, and gone when the connection leaves HTTP.
    guard: Option<Box<Guard>>,
    held: Vec<u8>,
    /// The held bytes before this are gone.
    start: usize,
    /// Those before this may go.
    cleared: usize,
    refusal: Option<(Refusal, Place)>,
}

impl Default for Inlet {
    fn default() -> Self {
        Self {
            guard: Some(Box::default()),
            held: Vec::new(),
            start: 0,
            cleared: 0,
            refusal: None,
        }
    }
}

impl Inlet {
    /// Offers bytes just read. So many of them may pass at once, and the first of those are a head if `on_head` was
    /// called, with it and whether it repeats the one before it; the rest is held.
    pub fn offer(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
        on_head: impl FnOnce(&[u8], bool),
    ) -> usize {
        if self.refusal.is_some() {
            return 0;
        }
        let pass = if self.held.is_empty() {
            self.look(rules, bytes, on_head)
        } else {
            0
        };
        if self.refusal.is_none() {
            self.held
                .extend_from_slice(bytes.get(pass..).unwrap_or_default());
        }
        pass
    }

    /// What may pass of the held bytes, at most to the end of a message; [`consume`](Self::consume) what was taken.
    pub fn take(&mut self, rules: &Rules, on_head: impl FnOnce(&[u8], bool)) -> &[u8] {
        if self.start == self.cleared && self.start < self.held.len() && self.refusal.is_none()
        {
            let held = std::mem::take(&mut self.held);
            let fresh = held.get(self.start..).unwrap_or_default();
            self.cleared += self.look(rules, fresh, on_head);
            self.held = held;
            if self.refusal.is_some() {
                self.held.truncate(self.cleared);
            }
        }
        self.held.get(self.start..self.cleared).unwrap_or_default()
    }

    /// `taken` bytes have passed.
    pub fn consume(&mut self, taken: usize) {
        self.start = (self.start + taken).min(self.cleared);
        if self.start == self.held.len() {
            self.start = 0;
            self.cleared = 0;
            if self.held.capacity() > KEEP {
                self.held = Vec::new();
            } else {
                self.held.clear();
            }
        }
    }

    /// Keeps bytes that came behind the request being served.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// How many bytes are held.
    #[must_use]
    pub(super) fn held(&self) -> usize {
        self.held.len() - self.start
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The connection leaves HTTP: what is held, and comes, is no message.
    pub fn leave_http(&mut self) {
        self.guard = None;
        self.cleared = self.held.len();
    }

    /// What is held since [`leave_http`](Self::leave_http); [`consume`](Self::consume) what was taken.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.held.get(self.start..).unwrap_or_default()
    }

    /// The guard stands between two messages and nothing is held: the connection is idle.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.guard.as_ref().is_some_and(|guard| guard.at_boundary())
    }

    /// Bytes of a body are awaited.
    #[must_use]
    pub fn in_body(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.in_body())
    }

    /// What the guard knows of the request being served.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.guard
            .as_ref()
            .map(|guard| guard.facts())
            .unwrap_or_default()
    }

    /// Why nothing more will pass.
    #[must_use]
    pub const fn refusal(&self) -> Option<(Refusal, Place)> {
        self.refusal
    }

    /// Refuses whatever comes next: a deadline has passed.
    pub fn refuse(&mut self, refusal: Refusal) {
        let place = if self.in_body() {
            Place::Body
        } else {
            Place::Head
        };
        self.refusal.get_or_insert((refusal, place));
        self.held.truncate(self.cleared);
    }

    fn look(
        &mut self,
        rules: &Rules,
        bytes: &[u8],
        on_head: impl FnOnce(&[u8], bool),
    ) -> usize {
        let Some(guard) = &mut self.guard else {
            return 0;
        };
        let look = guard.look(rules, bytes);
        if let Some(head) = look.head {
            on_head(bytes.get(..head.length).unwrap_or_default(), head.repeated);
        }
        self.refusal = look.refusal;
        look.pass
    }
}
