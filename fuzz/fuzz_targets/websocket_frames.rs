//! A WebSocket session against arbitrary bytes: it does not panic, where the input is cut changes nothing, text is UTF-8,
//! no message is larger than allowed, and after the end nothing is taken or said. Offers of extensions are read too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgun_async::websocket::extension::Agreement;
use rgun_async::websocket::receive::Kind;
use rgun_async::websocket::session::{Event, Session};

const LIMIT: u64 = 4096;

#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    output: Vec<u8>,
}

fn feed<'a>(agreement: Option<&Agreement>, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut session = Session::new(LIMIT, agreement);
    let mut events = Vec::new();
    for mut piece in pieces {
        while let Some(event) = session.receive(&mut piece) {
            if let Event::Message(kind, data) = &event {
                assert!(data.len() as u64 <= LIMIT);
                assert!(*kind == Kind::Binary || std::str::from_utf8(data).is_ok());
            } else {
                assert!(!session.is_open());
                events.push(event);
                let output = session.output().to_vec();
                session.send(Kind::Text, b"late");
                assert_eq!(session.output(), output);
                return Outcome { events, output };
            }
            events.push(event);
        }
    }
    Outcome { events, output: session.output().to_vec() }
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (how, bytes) = input;
    let offers = [String::from_utf8_lossy(&bytes)];
    if let Some(agreement) = Agreement::to_offers(offers.iter().map(|offer| &**offer)) {
        assert!((9..=12).contains(&agreement.server_bits));
        assert!((8..=15).contains(&agreement.client_bits));
    }
    let offer = ["permessage-deflate; client_max_window_bits"];
    let agreement = (how & 1 == 1).then(|| Agreement::to_offers(offer.into_iter())).flatten();
    let whole = feed(agreement.as_ref(), std::iter::once(&bytes[..]));
    let size = usize::from(how >> 1) + 1;
    assert_eq!(whole, feed(agreement.as_ref(), bytes.chunks(size)));
});
