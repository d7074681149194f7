//! The PROXY header that a proxy sends before the client's first byte, versions 1 and 2. Pure: bytes in, addresses out.
//!
//! Source: "The PROXY protocol", versions 1 and 2, by Willy Tarreau (`doc/proxy-protocol.txt` of its sources). Gunicorn:
//! `http/message.py`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ProxyProtocol;

/// What version 1 begins with (section 2.1).
const V1: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end (section 2.1).
const V1_LONGEST: usize = 107;
/// What version 2 begins with (section 2.2).
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 before the addresses.
const V2_FIXED: usize = 16;
/// The addresses of version 2 in IPv6, the longest that are read.
const V2_ADDRESSES: usize = 36;
/// The longest header of version 2, with what follows the addresses.
const V2_LONGEST: usize = 4096;

/// The addresses that a header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The client's.
    pub client: SocketAddr,
    /// The proxy's that the client has connected to.
    pub server: SocketAddr,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// More bytes are needed to tell, or to pass the header.
    Unknown,
    /// No header.
    Bare,
    /// A header, passed; it may tell no addresses (`UNKNOWN`, `LOCAL`).
    Header(Option<Told>),
}

/// Why a header cannot be what it seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No end within the longest line.
    #[error("a line without an end")]
    Endless,
    /// Not the fields of version 1.
    #[error("fields that are not those of version 1")]
    Fields,
    /// Not an address of its family.
    #[error("an address that is none")]
    Address,
    /// Not a port.
    #[error("a port that is none")]
    Port,
    /// Neither `LOCAL` nor `PROXY` of version 2.
    #[error("a version or command that is not known")]
    Command,
    /// Neither TCP nor a unix stream.
    #[error("a transport that is not TCP")]
    Transport,
    /// The addresses do not fit into the length that is told.
    #[error("a length that is too short for its addresses")]
    Short,
    /// Longer than is read.
    #[error("a length beyond {V2_LONGEST} bytes")]
    Long,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing is taken.
    Start,
    /// The line of version 1 is taken as far as it is there.
    Line,
    /// The fixed part of version 2.
    Fixed,
    /// Its addresses, and how many bytes come after them.
    Addresses(Family, usize),
    /// So many bytes that nobody reads.
    Rest(usize, Option<Told>),
}

/// What the addresses of version 2 are.
#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

/// Reads one header, in pieces of any size.
#[derive(Debug)]
pub struct Header {
    expected: ProxyProtocol,
    state: State,
    held: [u8; V1_LONGEST],
    filled: usize,
}

impl Header {
    /// For a connection that may begin with an `expected` one.
    #[must_use]
    pub const fn new(expected: ProxyProtocol) -> Self {
        Self {
            expected,
            state: State::Start,
            held: [0; V1_LONGEST],
            filled: 0,
        }
    }

    /// Looks at the bytes that come next. So many of them belong to the header and are not to be offered again; the rest
    /// is, with more behind it, until the beginning is known.
    ///
    /// # Errors
    /// It is no header, although it began like one.
    pub fn look(&mut self, bytes: &[u8]) -> Result<(usize, Beginning), Malformed> {
        let mut taken = 0;
        loop {
            let left = bytes.get(taken..).unwrap_or_default();
            match self.state {
                State::Start => match self.begins(left) {
                    Some(state) => self.state = state,
                    None if self.may_begin(left) => return Ok((taken, Beginning::Unknown)),
                    None => return Ok((taken, Beginning::Bare)),
                },
                State::Line => {
                    let (held, line) = self.line(left);
                    taken += held;
                    let Some(line) = line else {
                        if self.filled == V1_LONGEST {
                            return Err(Malformed::Endless);
                        }
                        return Ok((taken, Beginning::Unknown));
                    };
                    return Ok((taken, Beginning::Header(version_1(line)?)));
                }
                State::Fixed => {
                    let (held, fixed) = self.hold(left, V2_FIXED);
                    taken += held;
                    match fixed {
                        Some(fixed) => self.state = version_2(fixed)?,
                        None => return Ok((taken, Beginning::Unknown)),
                    }
                    self.filled = 0;
                }
                State::Addresses(family, rest) => {
                    let (held, addresses) = self.hold(left, family.length());
                    taken += held;
                    match addresses {
                        Some(addresses) => {
                            self.state = State::Rest(rest, family.told(addresses));
                        }
                        None => return Ok((taken, Beginning::Unknown)),
                    }
                }
                State::Rest(rest, told) => {
                    let here = rest.min(left.len());
                    taken += here;
                    self.state = State::Rest(rest - here, told);
                    let end = if here == rest {
                        Beginning::Header(told)
                    } else {
                        Beginning::Unknown
                    };
                    return Ok((taken, end));
                }
            }
        }
    }

    fn signatures(&self) -> impl Iterator<Item = (&'static [u8], State)> {
        let (v1, v2) = match self.expected {
            ProxyProtocol::Off => (None, None),
            ProxyProtocol::V1 => (Some(V1), None),
            ProxyProtocol::V2 => (None, Some(V2)),
            ProxyProtocol::Auto => (Some(V1), Some(V2)),
        };
        let v1 = v1.map(|signature| (signature, State::Line));
        v1.into_iter()
            .chain(v2.map(|signature| (signature, State::Fixed)))
    }

    fn begins(&self, bytes: &[u8]) -> Option<State> {
        self.signatures()
            .find(|(signature, _)| bytes.starts_with(signature))
            .map(|(_, state)| state)
    }

    fn may_begin(&self, bytes: &[u8]) -> bool {
        self.signatures()
            .any(|(signature, _)| signature.starts_with(bytes))
    }

    /// Takes bytes up to the end of the line; the line, once it is there.
    fn line(&mut self, bytes: &[u8]) -> (usize, Option<&[u8]>) {
        let room = self.held.len() - self.filled;
        let fits = bytes.get(..room).unwrap_or(bytes);
        let end = memchr::memchr(b'\n', fits);
        let taken = end.map_or(fits.len(), |end| end + 1);
        self.fill(fits.get(..taken).unwrap_or_default());
        (taken, end.and(self.held.get(..self.filled)))
    }

    /// Takes bytes until there are `length`; these, once they are there.
    fn hold(&mut self, bytes: &[u8], length: usize) -> (usize, Option<&[u8]>) {
        let missing = length.saturating_sub(self.filled);
        let fits = bytes.get(..missing).unwrap_or(bytes);
        self.fill(fits);
        let whole = self.filled == length;
        (fits.len(), whole.then(|| self.held.get(..length)).flatten())
    }

    fn fill(&mut self, bytes: &[u8]) {
        let end = self.filled + bytes.len();
        if let Some(room) = self.held.get_mut(self.filled..end) {
            room.copy_from_slice(bytes);
            self.filled = end;
        }
    }
}

/// A line of version 1, with its end.
fn version_1(line: &[u8]) -> Result<Option<Told>, Malformed> {
    let text = std::str::from_utf8(line).ok();
    let text = text.and_then(|text| text.strip_prefix("PROXY ")?.strip_suffix("\r\n"));
    let text = text.filter(|text| !text.contains(['\r', '\n', '\0']));
    let mut fields = text.ok_or(Malformed::Fields)?.split(' ');
    let family = fields.next();
    if family == Some("UNKNOWN") {
        // Whatever follows is to be ignored.
        return Ok(None);
    }
    let (Some(client), Some(server), Some(client_port), Some(server_port), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(Malformed::Fields);
    };
    let address = match family {
        Some("TCP4") => |text: &str| text.parse::<Ipv4Addr>().map(IpAddr::V4),
        Some("TCP6") => |text: &str| text.parse::<Ipv6Addr>().map(IpAddr::V6),
        Some(_) | None => return Err(Malformed::Fields),
    };
    let whole = |ip: &str, number: &str| {
        let ip = address(ip).map_err(|_| Malformed::Address)?;
        Ok(SocketAddr::new(ip, port(number)?))
    };
    Ok(Some(Told {
        client: whole(client, client_port)?,
        server: whole(server, server_port)?,
    }))
}

/// A decimal number without a sign or leading zeros.
fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.starts_with('0') && text != "0") {
        return Err(Malformed::Port);
    }
    text.parse().map_err(|_| Malformed::Port)
}

/// What follows the fixed part of version 2.
fn version_2(fixed: &[u8]) -> Result<State, Malformed> {
    let [.., command, transport, high, low] = *fixed else {
        return Err(Malformed::Command);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if V2_FIXED + length > V2_LONGEST {
        return Err(Malformed::Long);
    }
    match command {
        // The proxy itself has connected; whatever follows is to be ignored.
        0x20 => return Ok(State::Rest(length, None)),
        0x21 => {}
        _ => return Err(Malformed::Command),
    }
    let family = match transport {
        0x11 => Family::V4,
        0x21 => Family::V6,
        // Not told, or a unix stream: what would its client be called?
        0x00 | 0x31 => return Ok(State::Rest(length, None)),
        _ => return Err(Malformed::Transport),
    };
    let rest = length.checked_sub(family.length());
    Ok(State::Addresses(family, rest.ok_or(Malformed::Short)?))
}

impl Family {
    const fn length(self) -> usize {
        match self {
            Self::V4 => 12,
            Self::V6 => V2_ADDRESSES,
        }
    }

    /// Both addresses, then both ports.
    fn told(self, bytes: &[u8]) -> Option<Told> {
        let (client, server, ports) = match self {
            Self::V4 => {
                let (client, rest) = bytes.split_first_chunk::<4>()?;
                let (server, ports) = rest.split_first_chunk::<4>()?;
                (IpAddr::from(*client), IpAddr::from(*server), ports)
            }
            Self::V6 => {
                let (client, rest) = bytes.split_first_chunk::<16>()?;
                let (server, ports) = rest.split_first_chunk::<16>()?;
                (IpAddr::from(*client), IpAddr::from(*server), ports)
            }
        };
        let (client_port, rest) = ports.split_first_chunk()?;
        let (server_port, _) = rest.split_first_chunk()?;
        Some(Told {
            client: SocketAddr::new(client, u16::from_be_bytes(*client_port)),
            server: SocketAddr::new(server, u16::from_be_bytes(*server_port)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Look = Result<(usize, Beginning), Malformed>;

    /// The outcome for `bytes` in pieces of `size`.
    fn pieces(expected: ProxyProtocol, bytes: &[u8], size: usize) -> Look {
        let mut header = Header::new(expected);
        let (mut taken, mut seen) = (0, size.min(bytes.len()));
        loop {
            let (more, beginning) = header.look(&bytes[taken..seen])?;
            taken += more;
            if beginning != Beginning::Unknown || seen == bytes.len() {
                return Ok((taken, beginning));
            }
            seen = (seen + size).min(bytes.len());
        }
    }

    #[track_caller]
    fn look(expected: ProxyProtocol, bytes: &[u8]) -> Look {
        let whole = Header::new(expected).look(bytes);
        for size in 1..20 {
            assert_eq!(pieces(expected, bytes, size), whole, "in pieces of {size}");
        }
        whole
    }

    fn told(client: &str, server: &str) -> Beginning {
        Beginning::Header(Some(Told {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
        }))
    }

    fn v2(command: u8, transport: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        [V2, &[command, transport, high, low], rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 9, 0x1f, 0x90, 1, 187];

    #[test]
    fn version_1_tells_both_ends() {
        for (line, client, server) in [
            (
                "PROXY TCP4 192.0.2.1 10.0.0.9 8080 443\r\n",
                "192.0.2.1:8080",
                "10.0.0.9:443",
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
                "[2001:db8::1]:0",
                "[::1]:65535",
            ),
            (
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ] {
            let bytes = format!("{line}GET / HTTP/1.1\r\n");
            for expected in [ProxyProtocol::V1, ProxyProtocol::Auto] {
                assert_eq!(
                    look(expected, bytes.as_bytes()),
                    Ok((line.len(), told(client, server)))
                );
            }
        }
    }

    #[test]
    fn a_header_may_tell_nothing() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
        assert_eq!(longest.len(), V1_LONGEST);
        for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN a  b\r\n", &longest] {
            assert_eq!(
                look(ProxyProtocol::Auto, line.as_bytes()),
                Ok((line.len(), Beginning::Header(None)))
            );
        }
        for header in [
            v2(0x20, 0x00, 0, &[]),
            v2(0x20, 0xff, 3, &[1, 2, 3]),
            v2(0x21, 0x00, 0, &[]),
            v2(0x21, 0x31, 216, &[0; 216]),
        ] {
            assert_eq!(
                look(ProxyProtocol::Auto, &header),
                Ok((header.len(), Beginning::Header(None)))
            );
        }
    }

    #[test]
    fn what_is_no_line_of_version_1_is_refused() {
        for (line, why) in [
            ("PROXY TCP4 192.0.2.1 10.0.0.9 1 2\n", Malformed::Fields),
            ("PROXY TCP4 192.0.2.1 10.0.0.9 1\r\n", Malformed::Fields),
            ("PROXY TCP4 192.0.2.1 10.0.0.9 1 2 3\r\n", Malformed::Fields),
            ("PROXY TCP4  192.0.2.1 10.0.0.9 1 2\r\n", Malformed::Fields),
            ("PROXY tcp4 192.0.2.1 10.0.0.9 1 2\r\n", Malformed::Fields),
            ("PROXY UDP4 192.0.2.1 10.0.0.9 1 2\r\n", Malformed::Fields),
            ("PROXY \r\n", Malformed::Fields),
            ("PROXY UNKNOWN a\rb\r\n", Malformed::Fields),
            ("PROXY TCP4 ::1 10.0.0.9 1 2\r\n", Malformed::Address),
            ("PROXY TCP6 192.0.2.1 ::1 1 2\r\n", Malformed::Address),
            ("PROXY TCP4 192.0.2.01 10.0.0.9 1 2\r\n", Malformed::Address),
            ("PROXY TCP4 192.0.2.1 10.0.0.9 01 2\r\n", Malformed::Port),
            ("PROXY TCP4 192.0.2.1 10.0.0.9 +1 2\r\n", Malformed::Port),
            ("PROXY TCP4 192.0.2.1 10.0.0.9 65536 2\r\n", Malformed::Port),
            ("PROXY TCP4 192.0.2.1 10.0.0.9 1 \r\n", Malformed::Port),
        ] {
            assert_eq!(
                look(ProxyProtocol::V1, line.as_bytes()),
                Err(why),
                "{line:?}"
            );
        }
        let endless = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
        assert_eq!(
            look(ProxyProtocol::Auto, endless.as_bytes()),
            Err(Malformed::Endless)
        );
    }

    #[test]
    fn version_2_tells_both_ends_and_more_that_is_skipped() {
        let header = v2(0x21, 0x11, 12, &V4);
        let ends = told("192.0.2.1:8080", "10.0.0.9:443");
        let with_request = [&header[..], b"GET"].concat();
        assert_eq!(look(ProxyProtocol::V2, &with_request), Ok((28, ends)));
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[31] = 2;
        v6[33] = 3;
        v6[35] = 4;
        let header = v2(0x21, 0x21, 36, &v6);
        let ends = told("[::1]:3", "[::2]:4");
        assert_eq!(look(ProxyProtocol::Auto, &header), Ok((52, ends)));
        // Type, length and value of whatever else the proxy tells: an authority, an empty one.
        let more = [&V4[..], &[2, 0, 1, b'a', 4, 0, 0], b"PROXY"].concat();
        let ends = told("192.0.2.1:8080", "10.0.0.9:443");
        assert_eq!(
            look(ProxyProtocol::Auto, &v2(0x21, 0x11, 19, &more)),
            Ok((35, ends))
        );
        let much = [&V4[..], &vec![7; V2_LONGEST - V2_FIXED - 12]].concat();
        let header = v2(0x21, 0x11, 4080, &much);
        assert_eq!(look(ProxyProtocol::Auto, &header), Ok((V2_LONGEST, ends)));
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        for (header, why) in [
            (v2(0x11, 0x11, 12, &V4), Malformed::Command),
            (v2(0x22, 0x11, 12, &V4), Malformed::Command),
            (v2(0x21, 0x12, 12, &V4), Malformed::Transport),
            (v2(0x21, 0x10, 12, &V4), Malformed::Transport),
            (v2(0x21, 0x41, 12, &V4), Malformed::Transport),
            (v2(0x21, 0x11, 11, &V4), Malformed::Short),
            (v2(0x21, 0x21, 12, &V4), Malformed::Short),
            (v2(0x21, 0x11, 4081, &V4), Malformed::Long),
            (v2(0x20, 0x00, 65535, &[]), Malformed::Long),
        ] {
            assert_eq!(look(ProxyProtocol::V2, &header), Err(why));
        }
    }

    #[test]
    fn what_begins_otherwise_has_no_header() {
        let v1 = b"PROXY UNKNOWN\r\n";
        let v2 = v2(0x20, 0, 0, &[]);
        for (expected, bytes) in [
            (ProxyProtocol::Auto, &b"GET / HTTP/1.1\r\n"[..]),
            (ProxyProtocol::Auto, b"PROPFIND / HTTP/1.1\r\n"),
            (ProxyProtocol::Auto, b"PUT / HTTP/1.1\r\n"),
            (ProxyProtocol::Auto, b"\r\n\r\nGET / HTTP/1.1\r\n"),
            (ProxyProtocol::Auto, b"\x16\x03\x01"),
            (ProxyProtocol::Off, v1),
            (ProxyProtocol::V2, v1),
            (ProxyProtocol::V1, &v2),
        ] {
            assert_eq!(look(expected, bytes), Ok((0, Beginning::Bare)));
        }
        for bytes in [&b"PROX"[..], b"P", b"", b"\r\n\r\n"] {
            assert_eq!(
                look(ProxyProtocol::Auto, bytes),
                Ok((0, Beginning::Unknown))
            );
        }
    }
}
