//! The uwsgi parser against arbitrary bytes: it does not panic, gives one verdict however much of a packet is there, reads
//! no byte past the packet, and makes a head with the lines that the variables stand for and no other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgun_async::proto::guard::{Framing, Rules};
use rgun_async::proto::inlet::Inlet;
use rgun_async::proto::uwsgi::packet::{HEADER, MOST_VARIABLES, Packet};
use rgun_async::proto::uwsgi::request::Request;

/// Variables that make lines of a head, one each.
fn lines(packet: &Packet<'_>) -> usize {
    packet
        .variables()
        .filter(|variable| {
            variable.name.starts_with(b"HTTP_")
                || matches!(variable.name, b"CONTENT_TYPE" | b"CONTENT_LENGTH")
        })
        .count()
}

fn check_head(head: &[u8], packet: &Packet<'_>) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head's end");
    let rows: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    // The request line, and a Host that may not have been sent.
    assert!(rows.len() <= lines(packet) + 2, "{} lines", rows.len());
    for row in rows.iter().take(rows.len() - 1) {
        let row = row.strip_suffix(b"\r").expect("a line's end");
        assert!(!row.is_empty() && !row.contains(&b'\r'));
    }
    let rules = Rules::new(4094, 100, 8190, 1000, ["x-forwarded-proto"]);
    let mut inlet = Inlet::default();
    let mut heads = 0;
    let pass = inlet.offer(&rules, head, |_, _| heads += 1);
    if inlet.refusal().is_some() {
        return;
    }
    assert_eq!((pass, heads), (head.len(), 1), "a head, whole and alone");
    assert!(inlet.facts().framing != Framing::Chunked && !inlet.facts().expects);
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head).expect("the parser takes what passed");
    assert_eq!(parsed, httparse::Status::Complete(head.len()));
    http::Uri::try_from(request.path.expect("a target")).expect("a target");
}

fuzz_target!(|data: &[u8]| {
    let read = Packet::read(data);
    match read {
        Ok(Some((packet, length))) => {
            assert_eq!(length, HEADER + packet.block().len());
            assert!(packet.variables().count() <= MOST_VARIABLES);
            let mut end = 0;
            for variable in packet.variables() {
                assert_eq!(variable.name_at, end + 2);
                end = variable.value_at + variable.value.len();
            }
            assert_eq!(end, packet.block().len());
            // What follows is another's.
            assert_eq!(Packet::read(&data[..length]), read);
            for part in [0, 1, HEADER, length / 2, length - 1] {
                assert_eq!(Packet::read(&data[..part]), Ok(None));
            }
            if let Ok(request) = Request::read(data) {
                let (request, same) = request.expect("a whole packet");
                assert_eq!(same, length);
                check_head(&request.head, &packet);
            }
        }
        Ok(None) => assert!(Request::read(data).is_ok_and(|request| request.is_none())),
        Err(refusal) => {
            assert!(matches!(refusal.status.as_u16(), 400 | 501));
            assert_eq!(Request::read(data).err(), Some(refusal));
        }
    }
});
