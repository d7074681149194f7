//! Close codes and the reasons that go with them (RFC 6455 section 7.4).

/// Nothing is wrong, the connection has done its work.
pub const NORMAL: u16 = 1000;
/// The endpoint goes away.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// No code came. Never sent.
pub const NO_STATUS: u16 = 1005;
/// The connection ended without a word. Never sent.
pub const ABNORMAL: u16 = 1006;
/// What came is not what it says it is: text that is no UTF-8.
pub const INVALID_DATA: u16 = 1007;
/// A message is larger than this side takes.
pub const TOO_BIG: u16 = 1009;
/// This side failed.
pub const INTERNAL_ERROR: u16 = 1011;
/// The server restarts; the client may come again.
pub const SERVICE_RESTART: u16 = 1012;

/// The longest reason that fits a frame, in bytes.
pub const LONGEST_REASON: usize = 123;

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// A code of RFC 6455 section 7.4.
    pub code: u16,
    /// In words; often none.
    pub reason: String,
}

impl Close {
    /// A code without a reason.
    #[must_use]
    pub const fn bare(code: u16) -> Self {
        Self {
            code,
            reason: String::new(),
        }
    }
}

/// Whether `code` may stand in a frame: defined for that, registered, or for the use of applications.
#[must_use]
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// As much of `reason` as fits a frame, cut between characters.
#[must_use]
pub fn fitting(reason: &str) -> &str {
    let mut end = reason.len().min(LONGEST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_sent() {
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ] {
            assert!(may_be_sent(code), "{code}");
        }
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ] {
            assert!(!may_be_sent(code), "{code}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = "ä".repeat(100);
        assert_eq!(fitting(&long).len(), 122);
        assert_eq!(fitting("short"), "short");
    }
}
