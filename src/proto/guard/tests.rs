//! The guard by tables: what passes, what is refused and how, and that it does not matter where the input is cut.

use super::*;
use crate::proto::inlet::Inlet;

fn rules() -> Rules {
    Rules::new(100, 5, 60, 1000, ["X-Forwarded-Proto"])
}

/// What becomes of `input` when it comes in these pieces: the bytes that passed, the heads among them, the refusal.
fn feed<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, usize, Option<(Refusal, Place)>) {
    feed_under(&rules(), pieces)
}

fn feed_under<'a>(
    rules: &Rules,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, usize, Option<(Refusal, Place)>) {
    let mut inlet = Inlet::default();
    let mut passed = Vec::new();
    let mut heads = 0;
    for piece in pieces {
        let pass = inlet.offer(rules, piece, |_, _| heads += 1);
        passed.extend_from_slice(&piece[..pass]);
        loop {
            let clear = inlet.take(rules, |_, _| heads += 1);
            if clear.is_empty() {
                break;
            }
            let taken = clear.len();
            passed.extend_from_slice(clear);
            inlet.consume(taken);
        }
    }
    (passed, heads, inlet.refusal())
}

/// The refusal of `input`, which must not depend on how it is cut.
fn refusal(input: &[u8]) -> Option<(Refusal, Place)> {
    let (passed, heads, whole) = feed([input]);
    let bytewise = feed(input.chunks(1));
    assert_eq!(
        (&passed, heads, whole),
        (&bytewise.0, bytewise.1, bytewise.2),
        "bytewise"
    );
    for at in 1..input.len() {
        let (first, second) = input.split_at(at);
        let cut = feed([first, second]);
        assert_eq!(
            (&passed, heads, whole),
            (&cut.0, cut.1, cut.2),
            "cut at {at}"
        );
    }
    whole
}

#[track_caller]
fn passes(input: &[u8]) {
    let (passed, _, _) = feed([input]);
    assert_eq!(refusal(input), None, "{}", input.escape_ascii());
    assert_eq!(passed, input, "{}", input.escape_ascii());
}

#[track_caller]
fn refused(status: u16, input: &[u8]) {
    let found = refusal(input).map(|(refusal, place)| (refusal.status.as_u16(), place));
    assert_eq!(
        found,
        Some((status, Place::Head)),
        "{}",
        input.escape_ascii()
    );
}

#[track_caller]
fn refused_in_body(status: u16, body: &str) {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let input = format!("{head}{body}");
    let found =
        refusal(input.as_bytes()).map(|(refusal, place)| (refusal.status.as_u16(), place));
    assert_eq!(found, Some((status, Place::Body)), "{body:?}");
    let (passed, heads, _) = feed([input.as_bytes()]);
    assert!(passed.starts_with(head.as_bytes()), "the head has passed");
    assert_eq!(heads, 1);
}

fn with(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n").into_bytes()
}

#[test]
fn ordinary_requests_pass() {
    passes(b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n");
    passes(b"GET / HTTP/1.0\r\n\r\n");
    passes(b"\r\nGET / HTTP/1.0\r\n\r\n");
    passes(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    passes(b"GET /a\"{}/b?c=d&e=%20[]{}|/?f HTTP/1.1\r\nHost: x\r\n\r\n");
    passes(b"GET http://example.com:80/a?b HTTP/1.1\r\nHost: x\r\n\r\n");
    passes(b"GET HTTPS://example.com HTTP/1.1\r\nHost: x\r\n\r\n");
    passes(b"GET http://example.com?q HTTP/1.1\r\nHost: x\r\n\r\n");
    passes(b"M-SEARCH / HTTP/1.1\r\nHost: x\r\n\r\n");
    passes(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    passes(
        b"POST / HTTP/1.1\r\nHost: x\r\ncontent-length: 005\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
    );
    passes(&with("A: \u{e9} \t b\r\nB:\r\nC: \t x \t "));
    passes(&with("Expect: 100-Continue"));
    passes(&with("Connection: close, foo"));
}

#[test]
fn request_lines_are_refused() {
    for line in [
        "GET",
        "GET /",
        "GET / HTTP/1.1 ",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/1",
        "GET / HTTP/11",
        "GET\t/ HTTP/1.1",
        "get / HTTP/1.1",
        "GE / HTTP/1.1",
        "G#T / HTTP/1.1",
        "G(T / HTTP/1.1",
        "ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS ** HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /<a> HTTP/1.1",
        "GET /?\" HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://:80/ HTTP/1.1",
        "GET http://u@x/ HTTP/1.1",
        "GET ftp://x/ HTTP/1.1",
        "GET http:x HTTP/1.1",
        "GET host:80 HTTP/1.1",
    ] {
        refused(400, format!("{line}\r\nHost: x\r\n\r\n").as_bytes());
    }
    refused(505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n");
    refused(505, b"GET / HTTP/1.2\r\nHost: x\r\n\r\n");
    refused(505, b"GET / HTTP/0.9\r\nHost: x\r\n\r\n");
    refused(505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    refused(501, b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n");
    refused(400, b"\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    refused(400, b"\nGET / HTTP/1.0\r\n\r\n");
    refused(400, b"GET / HTTP/1.0\n\n");
    // TLS to a plain port.
    refused(400, b"\x16\x03\x01\x02\x00\n");
}

#[test]
fn limits_are_exact() {
    let target = |length: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(length));
    let fixed = "GET / HTTP/1.0".len();
    passes(target(100 - fixed).as_bytes());
    refused(414, target(101 - fixed).as_bytes());
    // Without an end in sight.
    refused(414, "G".repeat(200).as_bytes());
    let field = |length: usize| with(&format!("a:{}", "b".repeat(length)));
    passes(&field(60 - 2 - 2));
    refused(431, &field(60 - 2 - 1));
    let fields = |count: usize| with(&vec!["a: b"; count].join("\r\n"));
    passes(&fields(4));
    refused(431, &fields(5));
    passes(b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
    refused(413, &with("Content-Length: 1001"));
}

#[test]
fn no_limit_is_no_limit() {
    let rules = Rules::new(0, 0, 0, 0, []);
    let mut input = format!("GET /{} HTTP/1.0\r\n", "a".repeat(60_000)).into_bytes();
    for _ in 0..1000 {
        input.extend_from_slice(b"a: ");
        input.extend(std::iter::repeat_n(b'b', 1000));
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(b"\r\n");
    let look = Guard::new().look(&rules, &input);
    assert_eq!(look.refusal, None);
    assert_eq!(look.pass, input.len());
    let input = format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(65_534));
    let look = Guard::new().look(&rules, input.as_bytes());
    assert_eq!(
        look.refusal.map(|(refusal, _)| refusal.status.as_u16()),
        Some(414)
    );
}

#[test]
fn header_fields_are_refused() {
    for fields in [
        "A : b",
        " A: b",
        "A",
        ": b",
        "A: b\r\n folded",
        "A: b\r\n\tfolded",
        "A\u{e9}: b",
        "A(: b",
        "A: b\x00c",
        "A: b\x1bc",
        "Transfer-Encoding: \x0bchunked",
        "A: b\x7fc",
        "A: b\rc",
        "A: b\nC: d",
        "A: b\r\r",
        "Content-Type: a\r\ncontent-type: a",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 1 1",
        "Content-Length: 0x1",
        "Content-Length:",
        "Content-Length: 18446744073709551613",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 1",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: chunked,",
    ] {
        refused(400, &with(fields));
    }
    refused(501, &with("Transfer-Encoding: gzip, chunked"));
    refused(
        501,
        &with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
    );
    refused(501, &with("Transfer-Encoding: xchunked"));
    refused(501, &with("Transfer-Encoding: \"chunked\""));
    refused(501, &with("Transfer-Encoding: chunked;a=b"));
    refused(417, &with("Expect: more"));
    refused(417, &with("Expect: 100-continue, more"));
    refused(
        400,
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
}

#[test]
fn exactly_one_valid_host_in_1_1_and_at_most_one_in_1_0() {
    let host = |version: &str, lines: &str| {
        format!("GET / HTTP/{version}\r\n{lines}\r\n").into_bytes()
    };
    for value in [
        "x",
        "",
        "x:",
        "x:80",
        "x:65535",
        "1.2.3.4:80",
        "[::1]",
        "[::1]:80",
        "a_b-c.d~",
        "a%20b",
        "%41:80",
    ] {
        passes(&host("1.1", &format!("Host: {value}\r\n")));
    }
    for value in [
        "a b", "a/b", "a@b", "a:b", "a:80:80", "x:65536", "x:123456", "[::1", "[::g]",
        "[::1]a", "::1", "a, b", "%4", "%zz", "a?b", "a#b", "a\\b", "<a>", "\u{e9}",
    ] {
        refused(400, &host("1.1", &format!("Host: {value}\r\n")));
        refused(400, &host("1.0", &format!("Host: {value}\r\n")));
    }
    refused(400, &host("1.1", ""));
    refused(400, &host("1.1", "Host: a\r\nhost: a\r\n"));
    refused(400, &host("1.0", "Host: a\r\nhost: a\r\n"));
    passes(&host("1.0", ""));
}

#[test]
fn chunked_bodies_pass_to_their_end() {
    let chunked = |body: &str| {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{body}GET / HTTP/1.0\r\n\r\n").into_bytes()
    };
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n1\r\na\r\n000\r\n\r\n",
        "5;a\r\nhello\r\n0;b=c;d=\"e\\\"f;\"\r\n\r\n",
        "5 ; a = b ; c\r\nhello\r\n0\r\n\r\n",
        "0\r\nA: b\r\nX-Check:\t1\r\n\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
    ] {
        passes(&chunked(body));
        assert_eq!(
            feed([chunked(body).as_slice()]).1,
            2,
            "both heads: {body:?}"
        );
    }
}

#[test]
fn broken_chunked_bodies_are_refused() {
    for body in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\r\n",
        "5\rhello\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "00000000000000005\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "5;\r\nhello\r\n",
        "5;a=\r\nhello\r\n",
        "5;=b\r\nhello\r\n",
        "5;a b\r\nhello\r\n",
        "5;a=\"b\r\nhello\r\n",
        "5;a\nhello\r\n",
        "5;a=\"\x01\"\r\nhello\r\n",
        "0\r\nA\r\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\n A: b\r\n\r\n",
        "0\r\nA: b\nC: d\r\n\r\n",
        "0\r\nA: b\r\n c\r\n\r\n",
        "0\r\nA: b\x00\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
        "0\r\nHOST: x\r\n\r\n",
        "0\r\nAuthorization: x\r\n\r\n",
        "0\r\n\n",
        "0\r\n\rx",
    ] {
        refused_in_body(400, body);
    }
    refused_in_body(413, "3E9\r\n");
    refused_in_body(413, "FFFFFFFFFFFFFFFF\r\n");
    let many = "1\r\na\r\n".repeat(1000);
    refused_in_body(413, &format!("{many}1\r\n"));
    refused_in_body(431, &format!("0\r\n{}\r\n", "a: b\r\n".repeat(6)));
    refused_in_body(431, &format!("0\r\na: {}\r\n\r\n", "b".repeat(60)));
}

#[test]
fn extensions_and_trailers_do_not_grow_without_end() {
    let rules = Rules::new(0, 0, 0, 0, []);
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for tail in [
        "1;".to_owned() + &"a".repeat(20_000),
        "0\r\na: ".to_owned() + &"b".repeat(20_000),
    ] {
        let mut guard = Guard::new();
        assert_eq!(guard.look(&rules, head).refusal, None);
        assert!(guard.look(&rules, tail.as_bytes()).refusal.is_some());
    }
}

#[test]
fn facts_are_of_the_message_at_hand() {
    let rules = rules();
    let facts = |input: &[u8]| {
        let mut guard = Guard::new();
        assert_eq!(guard.look(&rules, input).refusal, None);
        guard.facts()
    };
    assert_eq!(facts(&with("A-b: c")), Facts::default());
    assert!(facts(&with("A_b: c")).underscores);
    assert!(facts(&with("x-forwarded-PROTO: c")).watched);
    assert!(!facts(&with("x-forwarded-prot0: c")).watched);
    assert_eq!(
        facts(&with("Content-Length: 7")).framing,
        Framing::Length(7)
    );
    assert_eq!(
        facts(&with("Transfer-Encoding: Chunked")).framing,
        Framing::Chunked
    );
}

#[test]
fn one_message_passes_at_a_time() {
    let rules = rules();
    let mut guard = Guard::new();
    let input = b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.0\r\n\r\n";
    let look = guard.look(&rules, input);
    assert_eq!(look.pass, input.len() - b"GET / HTTP/1.0\r\n\r\n".len());
    assert!(guard.at_boundary());
    let mut guard = Guard::new();
    assert_eq!(guard.look(&rules, b"GET").pass, 0);
    assert!(!guard.at_boundary() && !guard.in_body());
}

/// Small numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % 1_000_003).unwrap_or(0) % sides
    }
}

/// Requests with some bytes changed, put in, or left out.
fn mutants(seeds: &[&[u8]], rounds: usize, mut check: impl FnMut(&[u8])) {
    let spice = b"\r\n\t \0:;=,_*#%/?\"<\x7f\x80\xff5aAZ{}[]@\\\x0b\x1f";
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for round in 0..rounds {
        let mut input = seeds[round % seeds.len()].to_vec();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(input.len());
            let byte = spice[dice.roll(spice.len())];
            match dice.roll(4) {
                0 => input[at] = byte,
                1 => input.insert(at, byte),
                2 => drop(input.remove(at)),
                _ => {
                    let to = (at + dice.roll(20)).min(input.len());
                    let copy = input[at..to].to_vec();
                    let into = dice.roll(input.len());
                    input.splice(into..into, copy);
                }
            }
        }
        check(&input);
    }
}

const SEEDS: [&[u8]; 6] = [
    b"GET /a/b?c=d HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: x y\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    b"GET http://example.com:80/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
    b"\r\nGET / HTTP/1.0\r\nExpect: 100-continue\r\nX_Y: z\r\n\r\n",
];

#[test]
fn no_head_passes_that_the_parser_behind_refuses() {
    let mut heads = 0;
    mutants(&SEEDS, 50_000, |input| {
        let rules = rules();
        let Some(end) = Guard::new()
            .look(&rules, input)
            .head
            .map(|head| head.length)
        else {
            return;
        };
        heads += 1;
        let head = &input[..end];
        let mut fields = [httparse::EMPTY_HEADER; 5];
        let mut request = httparse::Request::new(&mut fields);
        let text = input.escape_ascii();
        assert_eq!(
            request.parse(head),
            Ok(httparse::Status::Complete(end)),
            "{text}"
        );
        assert!(
            http::Uri::try_from(request.path.unwrap_or_default()).is_ok(),
            "{text}"
        );
        for field in request.headers {
            assert!(
                http::HeaderName::from_bytes(field.name.as_bytes()).is_ok(),
                "{text}"
            );
            assert!(http::HeaderValue::from_bytes(field.value).is_ok(), "{text}");
        }
    });
    assert!(
        heads > 5_000,
        "only {heads} heads passed: the comparison is worth nothing"
    );
}

#[test]
fn mutants_do_not_depend_on_where_they_are_cut() {
    mutants(&SEEDS, 2_000, |input| _ = refusal(input));
}

#[test]
fn a_head_that_comes_again_is_known() {
    let rules = rules();
    let mut guard = Guard::new();
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nA_b: c\r\nContent-Length: 2\r\n\r\n";
    let facts = Facts {
        framing: Framing::Length(2),
        underscores: true,
        ..Facts::default()
    };
    for repeated in [false, true, true] {
        let look = guard.look(&rules, &[&head[..], b"abGET"].concat());
        assert_eq!(
            look.head,
            Some(Completed {
                length: head.len(),
                repeated
            })
        );
        assert_eq!((look.pass, guard.facts()), (head.len() + 2, facts));
    }
    // Nearly the same is not the same.
    let longer = b"POST / HTTP/1.1\r\nHost: x\r\nA_b: c\r\nContent-Length: 22\r\n\r\n";
    assert_eq!(
        guard.look(&rules, longer).head.map(|head| head.repeated),
        Some(false)
    );
    assert_eq!(guard.facts().framing, Framing::Length(22));
}

/// Lines are remembered across connections.
#[test]
fn lines_that_came_before_change_no_verdict() {
    let head = |lines: &[&str]| format!("GET / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
    let heads = [
        head(&["Host: a", "Accept: */*", "X-A: 1"]),
        head(&["Host: a", "Accept: */*", "X-A: 1", "X-B: 2", "X-C: 3"]),
        head(&[
            "Host: a",
            "Accept: */*",
            "X-A: 1",
            "X-B: 2",
            "X-C: 3",
            "X-D: 4",
        ]),
        head(&["Host: a", "Accept: */*", "X-A: 12"]),
        head(&["Host: a", "Accept: */*", "X-A:"]),
        head(&["Host: a", "Accept: */*", "Host: b"]),
        head(&["Accept: */*", "Accept: */*", "X-A: 1"]),
        head(&["Host: a", "Accept: */*", "X-A: 1\n"]),
        head(&["Host: a", "Accept: */*", "X-A: 1\0"]),
        head(&["Host: a", "Content-Length: 3", "X-A: 1"]) + "abc",
        head(&["Host: a", "Content-Length: 3", "Content-Length: 3"]) + "abc",
        head(&["Host: a", "Content-Length: 4", "Content-Length: 3"]) + "abc",
        head(&["Host: a", "Transfer-Encoding: chunked", "X-A: 1"]) + "0\r\n\r\n",
        head(&["Host: a", "Expect: 100-continue", "Content-Length: 1"]) + "a",
        head(&["Host: a", "X_A: 1", "X-Forwarded-Proto: https"]),
    ];
    let warm = rules();
    for _ in 0..2 {
        for first in &heads {
            for second in &heads {
                let cold = feed([second.as_bytes()]);
                feed_under(&warm, [first.as_bytes()]);
                assert_eq!(feed_under(&warm, [second.as_bytes()]), cold, "{second:?}");
                let cut = feed_under(&warm, second.as_bytes().chunks(7));
                assert_eq!(cut, cold, "{second:?}");
            }
        }
    }
}

/// What is known of a head that the lines of another one were remembered from.
#[test]
fn facts_do_not_depend_on_lines_that_came_before() {
    let warm = rules();
    let heads = [
        "GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\nAccept: */*\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: a\r\nAccept: */*\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nAccept: */*\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAccept: */*\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    ];
    for head in heads.iter().cycle().take(3 * heads.len()) {
        let facts = |rules: &Rules| {
            let mut guard = Guard::new();
            guard.look(rules, head.as_bytes());
            guard.facts()
        };
        assert_eq!(facts(&warm), facts(&rules()), "{head:?}");
    }
}
