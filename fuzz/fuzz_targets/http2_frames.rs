//! The reader of HTTP/2's frames against arbitrary bytes, as they come and behind a preface: it does not panic, and where the
//! input is cut changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgun_async::proto::http2::{Frames, PREFACE, Seed};

fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (bool, u32, bool) {
    let mut frames = Frames::new();
    let mut right = true;
    for piece in pieces {
        right = right && frames.look(piece, 0).is_ok();
    }
    // What is left unread behind a mistake depends on where it was cut.
    if right { (true, frames.ended(), frames.is_amid()) } else { (false, 0, false) }
}

fn graft<'a>(seed: &http::request::Parts, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut graft = Some(Seed::of(seed).expect("it asks as it should").into_graft());
    let mut out = None;
    for piece in pieces {
        match (&mut graft, &mut out) {
            (Some(taking), _) => {
                out = taking.take(piece);
                if out.is_some() {
                    graft = None;
                }
            }
            (None, Some(out)) => out.extend_from_slice(piece),
            (None, None) => unreachable!("the graft is done when there is something"),
        }
    }
    out
}

fuzz_target!(|data: &[u8]| {
    // The first byte says where to cut, and whether a preface comes first.
    let Some((&seed, input)) = data.split_first() else { return };
    let input = if seed & 1 == 0 { [PREFACE, input].concat() } else { input.to_vec() };
    let step = usize::from(seed / 2).max(2);
    let whole = feed(std::iter::once(&*input));
    assert_eq!(whole, feed(input.chunks(1)));
    assert_eq!(whole, feed(input.chunks(step)));
    let (parts, ()) = http::Request::get("/a?b")
        .header("host", "x")
        .header("upgrade", "h2c")
        .header("connection", "upgrade, http2-settings")
        .header("http2-settings", "AAMAAABk")
        .body(())
        .expect("a request")
        .into_parts();
    let whole = graft(&parts, std::iter::once(&*input));
    assert_eq!(whole, graft(&parts, input.chunks(1)));
    assert_eq!(whole, graft(&parts, input.chunks(step)));
});
