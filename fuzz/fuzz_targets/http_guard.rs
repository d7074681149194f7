//! The guard against arbitrary bytes: it does not panic, where the input is cut changes nothing, what passes is what came,
//! and no head passes that the parser behind it refuses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgun_async::proto::guard::{Place, Refusal, Rules};
use rgun_async::proto::inlet::Inlet;

#[derive(Debug, PartialEq)]
struct Outcome {
    passed: Vec<u8>,
    heads: Vec<Vec<u8>>,
    refusal: Option<(Refusal, Place)>,
}

fn feed<'a>(rules: &Rules, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut inlet = Inlet::default();
    let mut passed = Vec::new();
    let mut heads = Vec::new();
    for piece in pieces {
        let pass = inlet.offer(rules, piece, |head: &[u8], _| heads.push(head.to_vec()));
        passed.extend_from_slice(&piece[..pass]);
        loop {
            let clear = inlet.take(rules, |head: &[u8], _| heads.push(head.to_vec()));
            if clear.is_empty() {
                break;
            }
            let taken = clear.len();
            passed.extend_from_slice(clear);
            inlet.consume(taken);
        }
    }
    Outcome { passed, heads, refusal: inlet.refusal() }
}

fn check_head(head: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head).expect("the parser takes what passed");
    assert_eq!(parsed, httparse::Status::Complete(head.len()));
    let target = request.path.expect("a target");
    http::Uri::try_from(target).expect("a target");
    for field in request.headers {
        http::HeaderName::from_bytes(field.name.as_bytes()).expect("a name");
        http::HeaderValue::from_bytes(field.value).expect("a value");
    }
}

fuzz_target!(|data: &[u8]| {
    // The first byte says where to cut.
    let Some((&seed, input)) = data.split_first() else { return };
    let rules = Rules::new(200, 16, 100, 1000, ["x-forwarded-proto"]);
    let whole = feed(&rules, std::iter::once(input));
    assert!(input.starts_with(&whole.passed));
    assert_eq!(whole, feed(&rules, input.chunks(1)));
    assert_eq!(whole, feed(&rules, input.chunks(usize::from(seed).max(2))));
    for head in &whole.heads {
        check_head(head);
    }
});
