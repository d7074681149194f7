//! The way from HTTP/1 to HTTP/2 (`Upgrade: h2c`, RFC 7540 section 3.2).
//!
//! RFC 9113 has given it up and so has the library: it knows no connection whose first stream was asked for elsewhere. But
//! such a connection is, to a server, one whose client has sent its first request as stream 1; so that is what the library
//! is given to read, behind the client's first frame. It changes nothing in what client and server know of each other: the
//! fields are written without a place in HPACK's table, and the settings that came in HTTP/1, which no frame acknowledges,
//! stand before the client's own in the same frame.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use http::request;

use super::frames::PREFACE;

const SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const NO_FIELDS_OF_A_STREAM: [&str; 7] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
];
/// Settings have no padding in a field (RFC 7540 section 3.2.1); who sends some means the same.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// A setting in a SETTINGS frame: its number and value.
const SETTING: usize = 6;
/// More settings than a client has reason to send.
const MOST_SETTINGS: usize = 64;
/// A frame's head.
const HEAD: usize = 9;
/// The size of frames that each side may send without being told so (RFC 9113 section 4.2).
const FRAME: usize = 16_384;

/// A request that asks for HTTP/2, and what it is as the first stream.
#[derive(Debug)]
pub struct Seed {
    /// The client's settings, as a frame has them.
    settings: Vec<u8>,
    /// The request's fields (RFC 7541).
    fields: Vec<u8>,
}

impl Seed {
    /// What a request without a body asks for; `None` if not for HTTP/2, or not as it should.
    #[must_use]
    pub fn of(parts: &request::Parts) -> Option<Self> {
        let lists = |name: HeaderName, token: &str| {
            parts
                .headers
                .get_all(name)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .any(|item| item.trim().eq_ignore_ascii_case(token))
        };
        let mut settings = parts.headers.get_all(&SETTINGS).iter();
        let (Some(value), None) = (settings.next(), settings.next()) else {
            return None;
        };
        if !lists(UPGRADE, "h2c")
            || !lists(CONNECTION, "upgrade")
            || !lists(CONNECTION, "http2-settings")
        {
            return None;
        }
        let settings = LENIENT.decode(value.as_bytes()).ok()?;
        if settings.len() > MOST_SETTINGS * SETTING || !are_right(&settings) {
            return None;
        }
        Some(Self {
            settings,
            fields: fields(parts)?,
        })
    }

    /// To be put behind the client's first frame.
    #[must_use]
    pub fn into_graft(self) -> Graft {
        Graft {
            seed: self,
            held: Vec::new(),
        }
    }

    /// The request as the frames of stream 1, which end it.
    fn frames(&self, out: &mut Vec<u8>) {
        let mut pieces = self.fields.chunks(FRAME).peekable();
        let mut kind = 1;
        while let Some(piece) = pieces.next() {
            let end_stream = u8::from(kind == 1);
            let end_headers = if pieces.peek().is_none() { 4 } else { 0 };
            head(out, piece.len(), kind, end_stream | end_headers, 1);
            out.extend_from_slice(piece);
            kind = 9;
        }
    }
}

/// Whether settings have values that they can have (RFC 9113 section 6.5.2): before it is too late to answer in HTTP/1.
fn are_right(settings: &[u8]) -> bool {
    let (settings, []) = settings.as_chunks::<SETTING>() else {
        return false;
    };
    settings.iter().all(|&[high, low, a, b, c, d]| {
        let value = u32::from_be_bytes([a, b, c, d]);
        match u16::from_be_bytes([high, low]) {
            2 => value <= 1,
            4 => value < 1 << 31,
            5 => (1 << 14..1 << 24).contains(&value),
            _ => true,
        }
    })
}

fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u8) {
    let [.., high, middle, low] = length.to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, flags, 0, 0, 0, stream]);
}

fn fields(parts: &request::Parts) -> Option<Vec<u8>> {
    let authority = parts.headers.get(HOST)?.as_bytes();
    if authority.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    field(&mut out, b":method", parts.method.as_str().as_bytes());
    field(&mut out, b":scheme", b"http");
    field(&mut out, b":authority", authority);
    field(&mut out, b":path", target.as_bytes());
    for (name, value) in &parts.headers {
        if !NO_FIELDS_OF_A_STREAM.contains(&name.as_str()) {
            field(&mut out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    Some(out)
}

/// A literal field without indexing (RFC 7541 section 6.2.2), its texts as they are.
fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    for text in [name, value] {
        length(out, text.len());
        out.extend_from_slice(text);
    }
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1), beside a zero bit: no Huffman code.
fn length(out: &mut Vec<u8>, length: usize) {
    const FULL: u8 = 127;
    let low = |number: usize| u8::try_from(number & 0x7F).unwrap_or_default();
    if length < usize::from(FULL) {
        return out.push(low(length));
    }
    out.push(FULL);
    let mut rest = length - usize::from(FULL);
    while rest >= 128 {
        out.push(low(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

/// Puts the request behind the client's preface and first frame.
#[derive(Debug)]
pub struct Graft {
    seed: Seed,
    held: Vec<u8>,
}

impl Graft {
    /// Takes what the client sends; all that the library is to read, once the first frame is there. If that is none of
    /// settings the library gets it as it is, to complain.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let Some((preface, rest)) = held.split_at_checked(PREFACE.len()) else {
            if PREFACE.starts_with(&held) {
                self.held = held;
                return None;
            }
            return Some(held);
        };
        if preface != PREFACE {
            return Some(held);
        }
        let Some((frame, rest)) = rest.split_at_checked(HEAD) else {
            self.held = held;
            return None;
        };
        let &[high, middle, low, kind, flags, 0, 0, 0, 0] = frame else {
            return Some(held);
        };
        let size = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if kind != 4 || flags != 0 || size > MOST_SETTINGS * SETTING {
            return Some(held);
        }
        let Some((settings, rest)) = rest.split_at_checked(size) else {
            self.held = held;
            return None;
        };
        let mut out = preface.to_vec();
        head(&mut out, self.seed.settings.len() + size, 4, 0, 0);
        out.extend_from_slice(&self.seed.settings);
        out.extend_from_slice(settings);
        self.seed.frames(&mut out);
        out.extend_from_slice(rest);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::get("/a?b").header("host", "x.org");
        for &(name, value) in fields {
            request = request.header(name, value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    const UPGRADE: (&str, &str) = ("upgrade", "h2c");
    const CONNECTION: (&str, &str) = ("connection", "Upgrade, HTTP2-Settings");
    const SETTINGS: (&str, &str) = ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA");

    #[test]
    fn a_request_that_asks_for_it_as_it_should_is_taken() {
        let seed = Seed::of(&request(&[UPGRADE, CONNECTION, SETTINGS])).expect("a seed");
        assert_eq!(
            seed.settings,
            [0, 3, 0, 0, 0, 100, 0, 4, 0, 160, 0, 0, 0, 2, 0, 0, 0, 0]
        );
        assert!(seed.fields.starts_with(b"\0\x07:method\x03GET\0"));
        assert!(!seed.fields.windows(7).any(|part| part == b"upgrade"));
    }

    #[test]
    fn any_other_request_is_not() {
        for fields in [
            &[UPGRADE, CONNECTION][..],
            &[UPGRADE, CONNECTION, SETTINGS, SETTINGS],
            &[CONNECTION, SETTINGS],
            &[("upgrade", "websocket"), CONNECTION, SETTINGS],
            &[UPGRADE, ("connection", "upgrade"), SETTINGS],
            &[UPGRADE, CONNECTION, ("http2-settings", "AAMAAABkAA")],
            &[UPGRADE, CONNECTION, ("http2-settings", "AAM*")],
            // ENABLE_PUSH of 2, a window and a frame that are too large.
            &[UPGRADE, CONNECTION, ("http2-settings", "AAIAAAAC")],
            &[UPGRADE, CONNECTION, ("http2-settings", "AASAAAAA")],
            &[UPGRADE, CONNECTION, ("http2-settings", "AAUBAAAA")],
        ] {
            assert!(Seed::of(&request(fields)).is_none(), "{fields:?}");
        }
        let long = "A".repeat(8 * (MOST_SETTINGS + 1));
        let fields = [UPGRADE, CONNECTION, ("http2-settings", &*long)];
        assert!(Seed::of(&request(&fields)).is_none());
    }

    fn client() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        head(&mut bytes, 6, 4, 0, 0);
        bytes.extend([0, 3, 0, 0, 0, 1]);
        head(&mut bytes, 8, 6, 0, 0);
        bytes.extend([7; 8]);
        bytes
    }

    #[test]
    fn the_request_stands_behind_the_first_frame_wherever_that_is_cut() {
        let seed = || Seed::of(&request(&[UPGRADE, CONNECTION, SETTINGS])).expect("a seed");
        let whole = seed().into_graft().take(&client()).expect("all is there");
        assert_eq!(whole[24..33], [0, 0, 24, 4, 0, 0, 0, 0, 0]);
        let stream = &whole[33 + 24..];
        assert_eq!(stream[3..9], [1, 5, 0, 0, 0, 1]);
        assert!(whole.ends_with(&[7; 8]));
        for step in [1, 3, 24, 30, 33, 40] {
            let mut graft = Some(seed().into_graft());
            let mut out = Vec::new();
            for piece in client().chunks(step) {
                match &mut graft {
                    Some(taking) => {
                        if let Some(grafted) = taking.take(piece) {
                            out = grafted;
                            graft = None;
                        }
                    }
                    None => out.extend_from_slice(piece),
                }
            }
            assert_eq!(out, whole, "cut by {step}");
        }
    }

    #[test]
    fn what_is_no_beginning_of_http2_is_left_to_the_library() {
        for wrong in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n......",
        ] {
            let seed = Seed::of(&request(&[UPGRADE, CONNECTION, SETTINGS])).expect("a seed");
            assert_eq!(seed.into_graft().take(wrong).as_deref(), Some(wrong));
        }
        let mut bytes = PREFACE.to_vec();
        head(&mut bytes, 8, 6, 0, 0);
        let seed = Seed::of(&request(&[UPGRADE, CONNECTION, SETTINGS])).expect("a seed");
        assert_eq!(seed.into_graft().take(&bytes), Some(bytes));
    }

    #[test]
    fn long_fields_go_on_in_other_frames() {
        let long = "a".repeat(20_000);
        let fields = [UPGRADE, CONNECTION, SETTINGS, ("x-long", &*long)];
        let seed = Seed::of(&request(&fields)).expect("a seed");
        let mut out = Vec::new();
        seed.frames(&mut out);
        assert_eq!(out[..9], [0, 64, 0, 1, 1, 0, 0, 0, 1]);
        assert_eq!(out[9 + FRAME + 3..9 + FRAME + 9], [9, 4, 0, 0, 0, 1]);
        let (mut number, mut expected) = (Vec::new(), vec![127]);
        length(&mut number, 20_000);
        expected.extend([0xA1, 0x9B, 0x01]);
        assert_eq!(number, expected);
    }
}
