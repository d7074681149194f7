//! What a front end says of a request beside the request itself.

use std::ops::Range;

/// A part of the bytes that the front end sent. They are at most 64 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The bytes from `start` on, `length` of them; `None` where that is past 64 KiB.
    pub(crate) fn new(start: usize, length: usize) -> Option<Self> {
        Some(Self {
            start: u16::try_from(start).ok()?,
            end: u16::try_from(start.checked_add(length)?).ok()?,
        })
    }

    fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

/// What a front end that speaks uwsgi says of a request beside what HTTP has: the mount point, the name that the server
/// goes by, and every variable that is configured there (`uwsgi_param` of nginx).
///
/// The request itself is in the usual places: the `HTTP_` variables are header fields, and `REMOTE_ADDR` is the peer.
#[derive(Debug, Default)]
pub struct Gateway {
    bytes: Box<[u8]>,
    variables: Box<[(Span, Span)]>,
    script_name: Span,
    server_name: Span,
    server_port: Option<u16>,
}

impl Gateway {
    /// Made of the `bytes` that were sent, in which the spans are; a variable is its name and its value.
    pub(crate) fn new(
        bytes: Box<[u8]>,
        variables: Box<[(Span, Span)]>,
        script_name: Span,
        server_name: Span,
        server_port: Option<u16>,
    ) -> Self {
        Self {
            bytes,
            variables,
            script_name,
            server_name,
            server_port,
        }
    }

    fn part(&self, span: Span) -> &[u8] {
        self.bytes.get(span.range()).unwrap_or_default()
    }

    /// The variables with their values, in the order they were sent in. Those that the request was made of, such as
    /// `PATH_INFO` and `HTTP_HOST`, are not among them.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.variables.iter().filter_map(|(name, value)| {
            Some((
                std::str::from_utf8(self.part(*name)).ok()?,
                self.part(*value),
            ))
        })
    }

    /// The value of a variable; where it came more than once, the last one's.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self
            .variables
            .iter()
            .rev()
            .find(|(known, _)| self.part(*known) == name.as_bytes())?;
        Some(self.part(*value))
    }

    /// `SCRIPT_NAME`: where the app is mounted, decoded; the request's path begins with it. Empty at the root.
    #[must_use]
    pub fn script_name(&self) -> &[u8] {
        self.part(self.script_name)
    }

    /// `SERVER_NAME`; empty where the front end does not say.
    #[must_use]
    pub fn server_name(&self) -> &[u8] {
        self.part(self.server_name)
    }

    /// `SERVER_PORT`, where the front end says.
    #[must_use]
    pub const fn server_port(&self) -> Option<u16> {
        self.server_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_variables_counts() {
        let span = |start, length| Span::new(start, length).expect("a span");
        let gateway = Gateway::new(
            b"A1A2/app".as_slice().into(),
            Box::new([(span(0, 1), span(1, 1)), (span(2, 1), span(3, 1))]),
            span(4, 4),
            Span::default(),
            Some(80),
        );
        assert_eq!(gateway.variable("A"), Some(&b"2"[..]));
        assert_eq!(gateway.variable("B"), None);
        assert_eq!(gateway.variables().count(), 2);
        assert_eq!(gateway.script_name(), b"/app");
        assert!(gateway.server_name().is_empty());
    }

    #[test]
    fn a_span_ends_within_64_kib() {
        assert!(Span::new(65_535, 0).is_some());
        assert!(Span::new(65_535, 1).is_none());
        assert!(Span::new(usize::MAX, 1).is_none());
    }
}
