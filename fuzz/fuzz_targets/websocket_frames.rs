//! A WebSocket session against arbitrary bytes: it does not panic, where the input is cut changes nothing, text is UTF-8,
//! no message is larger than allowed, what is sent back comes back, and after the end nothing is taken or said. Offers of
//! extensions are read too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgun_async::websocket::deflate::Unpacker;
use rgun_async::websocket::extension::Agreement;
use rgun_async::websocket::receive::Kind;
use rgun_async::websocket::session::{Event, Session};

const LIMIT: u64 = 4096;

#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    output: Vec<u8>,
}

/// The client's side of what was sent: an unpacker for what the server packs.
fn client(agreement: &Agreement) -> Unpacker {
    let mut mirrored = *agreement;
    mirrored.client_bits = agreement.server_bits;
    mirrored.client_no_context_takeover = agreement.server_no_context_takeover;
    Unpacker::new(&mirrored)
}

/// The payload of a frame that is alone in the output, as the client gets it.
fn payload(output: &[u8], unpacker: Option<&mut Unpacker>) -> Vec<u8> {
    let (head, rest) = output.split_at(2);
    assert_eq!(head[0] & 0x80, 0x80, "whole");
    assert_eq!(head[1] & 0x80, 0, "not masked");
    let (length, payload) = match head[1] {
        127 => {
            let (length, rest) = rest.split_first_chunk().expect("eight bytes");
            (u64::from_be_bytes(*length), rest)
        }
        126 => {
            let (length, rest) = rest.split_first_chunk().expect("two bytes");
            (u16::from_be_bytes(*length).into(), rest)
        }
        length => (length.into(), rest),
    };
    assert_eq!(length, payload.len() as u64);
    if head[0] & 0x40 == 0 {
        return payload.to_vec();
    }
    let unpacker = unpacker.expect("packed only where that was agreed");
    unpacker.unpack(payload, LIMIT).expect("it unpacks")
}

fn feed<'a>(agreement: Option<&Agreement>, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut session = Session::new(LIMIT, agreement);
    let mut unpacker = agreement.map(client);
    let mut events = Vec::new();
    let mut output = Vec::new();
    for mut piece in pieces {
        while let Some(event) = session.receive(&mut piece) {
            if let Event::Message(kind, data) = &event {
                assert!(data.len() as u64 <= LIMIT);
                assert!(*kind == Kind::Binary || std::str::from_utf8(data).is_ok());
                // Pongs of before.
                output.extend_from_slice(session.output());
                session.wrote(session.output().len());
                session.send(*kind, data);
                assert_eq!(payload(session.output(), unpacker.as_mut()), *data);
                // How it was packed may differ: the tables are those of other sessions, too.
                session.wrote(session.output().len());
            } else {
                assert!(!session.is_open());
                events.push(event);
                let before = session.output().to_vec();
                session.send(Kind::Text, b"late");
                assert_eq!(session.output(), before);
                output.extend_from_slice(&before);
                return Outcome { events, output };
            }
            events.push(event);
        }
    }
    output.extend_from_slice(session.output());
    Outcome { events, output }
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
