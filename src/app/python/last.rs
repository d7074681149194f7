//! What comes again and again is made once.

/// What was made of the bytes that came last; they often come again.
pub(super) struct Last<T> {
    raw: Vec<u8>,
    made: Option<T>,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            raw: Vec::new(),
            made: None,
        }
    }
}

impl<T: Clone> Last<T> {
    /// Longer ones are not worth the comparison.
    const LONGEST: usize = 512;

    /// What was made of these bytes, or is made of them now.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn get<E>(
        &mut self,
        raw: &[u8],
        make: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(before) = &self.made
            && self.raw == raw
        {
            return Ok(before.clone());
        }
        let fresh = make(raw)?;
        if raw.len() <= Self::LONGEST {
            self.raw.clear();
            self.raw.extend_from_slice(raw);
            self.made = Some(fresh.clone());
        }
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_last_is_not_made_again() {
        let mut last = Last::default();
        let mut made = 0;
        let long = vec![b'x'; Last::<usize>::LONGEST + 1];
        for (raw, expected) in [
            (&b"a"[..], 1),
            (b"a", 1),
            (b"b", 2),
            (b"", 3),
            (b"", 3),
            // Too long to be kept, and what is kept stays.
            (&long, 4),
            (&long, 5),
            (b"", 3),
            (b"a", 6),
        ] {
            let got = last.get(raw, |_| {
                made += 1;
                Ok::<_, ()>(made)
            });
            assert_eq!(got, Ok(expected));
        }
    }
}
