//! Clients that ask for much and give nothing, over HTTP/2: each is told to go, in bounded memory, while others are served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::http2::*;
use crate::harness::{Server, patience, process, until};

/// What a connection may cost, and what the allocator keeps of it: in KB.
const MEMORY: u64 = 24 * 1024;

fn start(args: &[&str]) -> Server {
    let server = cleartext("builtin:echo").args(args).start();
    // What the first requests cost is not the flood's.
    for _ in 0..3 {
        assert_served(&server);
    }
    server
}

#[track_caller]
fn assert_served(server: &Server) {
    let mut client = Http2::connect(server);
    client.get(1);
    assert_eq!(client.answer(1).0, 200);
}

/// Sends `flood` again and again, reading nothing, until the server hangs up or `most` were sent; others are served
/// meanwhile, and the worker's memory stays what it was. Then how the connection ended.
#[track_caller]
fn flood(
    server: &Server,
    client: &mut Http2,
    most: usize,
    flood: impl Fn(usize) -> Vec<u8> + Sync,
) -> u32 {
    let worker = server.worker_pids()[0];
    let before = process::status(worker, "VmRSS");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let mut rounds = 0;
            let mut highest = 0;
            while rounds == 0 || !over.load(Ordering::Relaxed) {
                assert_served(server);
                rounds += 1;
                highest = highest.max(process::status(worker, "VmRSS"));
            }
            highest
        });
        for number in 0..most {
            if client.try_raw(&flood(number)).is_err() {
                break;
            }
        }
        let code = client.goodbye();
        over.store(true, Ordering::Relaxed);
        let highest = neighbour.join().expect("the neighbour is served");
        assert!(
            highest < before + MEMORY,
            "the worker has grown from {before} to {highest} KB"
        );
        code
    })
}

#[track_caller]
fn assert_calmed(server: &Server, what: &str, repeated: &[u8]) {
    let mut client = Http2::connect(server);
    let hundred = repeated.repeat(100);
    let code = flood(server, &mut client, 5000, |_| hundred.clone());
    assert_eq!(code, ENHANCE_YOUR_CALM, "{what}");
}

#[test]
fn frames_that_carry_nothing_are_limited() {
    let server = start(&[]);
    for (what, repeated) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PING's answer", frame(PING, ACK, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        (
            "full SETTINGS",
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1].repeat(50)),
        ),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("frames that nobody knows", frame(99, 0, 0, &[])),
    ] {
        assert_calmed(&server, what, &repeated);
    }
    server.wait_for_lines("ended: too many frames carry nothing", 7);
}

#[test]
fn empty_pieces_of_a_body_are_limited() {
    let server = start(&[]);
    let mut client = Http2::connect(&server);
    client.send(HEADERS, END_HEADERS, 1, &post());
    let hundred = frame(DATA, 0, 1, &[]).repeat(100);
    let code = flood(&server, &mut client, 5000, |_| hundred.clone());
    assert_eq!(code, ENHANCE_YOUR_CALM);
}

#[test]
fn streams_that_are_reset_at_once_are_limited() {
    let server = start(&[]);
    let mut client = Http2::connect(&server);
    let code = flood(&server, &mut client, 5000, |number| {
        (0..10)
            .flat_map(|step| {
                let stream = u32::try_from(20 * number + 2 * step + 1).expect("a stream");
                [
                    frame(HEADERS, END_HEADERS, stream, &post()),
                    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()),
                ]
                .concat()
            })
            .collect()
    });
    assert_eq!(code, ENHANCE_YOUR_CALM);
}

#[test]
fn streams_that_the_server_has_to_reset_are_limited() {
    let server = start(&[]);
    let mut client = Http2::connect(&server);
    // CVE-2025-8671: a window that is opened too far is the stream's error, for which the server resets it.
    let code = flood(&server, &mut client, 5000, |number| {
        let stream = u32::try_from(2 * number + 1).expect("a stream");
        [
            frame(HEADERS, END_HEADERS, stream, &post()),
            frame(WINDOW_UPDATE, 0, stream, &[0x7F, 0xFF, 0xFF, 0xFF]),
        ]
        .concat()
    });
    assert_eq!(code, ENHANCE_YOUR_CALM);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_limited() {
    let server = start(&["--http2-max-concurrent-streams", "5"]);
    let mut client = Http2::connect(&server);
    for stream in 0..6 {
        client.send(HEADERS, END_HEADERS, 2 * stream + 1, &post());
    }
    let refused = client
        .find(|frame| frame.kind == RST_STREAM)
        .expect("the sixth is refused");
    assert_eq!((refused.stream, refused.code()), (11, REFUSED_STREAM));
    for stream in 0..5 {
        client.send(DATA, END_STREAM, 2 * stream + 1, b"x");
        assert_eq!(client.answer(2 * stream + 1).0, 200);
    }
    let mut client = Http2::connect(&server);
    let code = flood(&server, &mut client, 50_000, |number| {
        let stream = u32::try_from(2 * number + 1).expect("a stream");
        frame(HEADERS, END_HEADERS, stream, &post())
    });
    assert_eq!(code, ENHANCE_YOUR_CALM);
}

#[test]
fn header_blocks_that_go_on_and_on_are_limited() {
    let server = start(&[]);
    for piece in [Vec::new(), field("a", "b"), field("a", &"b".repeat(16_000))] {
        let mut client = Http2::connect(&server);
        client.send(HEADERS, END_STREAM, 1, &get());
        let next = frame(CONTINUATION, 0, 1, &piece);
        let code = flood(&server, &mut client, 100_000, |_| next.clone());
        assert!(
            matches!(code, ENHANCE_YOUR_CALM | COMPRESSION_ERROR),
            "{} bytes: {code}",
            piece.len()
        );
    }
}

#[test]
fn a_small_header_block_that_becomes_a_large_one_is_refused() {
    let server = start(&[]);
    let mut client = Http2::connect(&server);
    // A field of 4,000 bytes that has a place in the table, and is used from there: 64 MB a frame.
    let large = field("bomb", &"b".repeat(4000));
    let mut block = get();
    block.push(0x40);
    block.extend_from_slice(&large[1..]);
    block.extend([0xBE; 12_000]);
    let code = flood(&server, &mut client, 1000, |number| {
        let stream = u32::try_from(2 * number + 1).expect("a stream");
        frame(HEADERS, WHOLE, stream, &block)
    });
    assert_eq!(code, ENHANCE_YOUR_CALM);
    // What is only a little too large is answered.
    let mut client = Http2::connect(&server);
    let mut block = get();
    for number in 0..9 {
        block.extend(field(&format!("x-{number}"), &"c".repeat(8000)));
    }
    client.send(HEADERS, END_STREAM, 1, &block[..16_000]);
    let pieces: Vec<&[u8]> = block[16_000..].chunks(16_000).collect();
    for (number, piece) in pieces.iter().enumerate() {
        let flags = if number + 1 == pieces.len() {
            END_HEADERS
        } else {
            0
        };
        client.send(CONTINUATION, flags, 1, piece);
    }
    let head = client
        .find(|frame| frame.stream == 1 && frame.kind == HEADERS)
        .expect("an answer");
    assert_eq!(head.status(), 431);
    client.get(3);
    assert_eq!(client.answer(3).0, 200);
}

#[test]
fn small_pieces_of_bodies_that_nobody_reads_are_limited() {
    let server = cleartext("asgi:app")
        .args(["-k", "asgi", "--http2-initial-window-size", "1000000"])
        .start();
    let mut client = Http2::connect(&server);
    client.send(HEADERS, END_HEADERS, 1, &request("POST", "/deaf"));
    server.wait_for_line("deaf");
    let worker = server.worker_pids()[0];
    let before = process::status(worker, "VmRSS");
    let hundred = frame(DATA, 0, 1, b"x").repeat(100);
    for _ in 0..9_000 {
        if client.try_raw(&hundred).is_err() {
            break;
        }
    }
    assert_eq!(client.goodbye(), ENHANCE_YOUR_CALM);
    assert!(process::status(worker, "VmRSS") < before + MEMORY);
}

#[test]
fn a_client_that_never_opens_its_window_is_sent_away() {
    let server = start(&["--write-timeout", "1"]);
    let worker = server.worker_pids()[0];
    let before = process::status(worker, "VmRSS");
    let mut client = Http2::with(&server, &[(4, 0)]);
    for stream in 0..100 {
        client.get(2 * stream + 1);
    }
    let reset = client
        .find(|frame| frame.kind == RST_STREAM)
        .expect("a stream is given up");
    assert_eq!(reset.code(), CANCEL);
    assert_eq!(client.goodbye(), ENHANCE_YOUR_CALM);
    assert!(process::status(worker, "VmRSS") < before + MEMORY);
    // One of several streams that stalls is given up alone.
    let mut client = Http2::with(&server, &[(4, 0)]);
    client.get(1);
    client.send(HEADERS, END_HEADERS, 3, &post());
    let reset = client
        .find(|frame| frame.kind == RST_STREAM)
        .expect("the stream is given up");
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xFF, 0xFF]);
    client.send(DATA, END_STREAM, 3, b"x");
    assert_eq!(client.answer(3).0, 200);
}

#[test]
fn a_client_that_does_not_read_its_socket_is_cut() {
    let server = cleartext("asgi:app")
        .args(["-k", "asgi", "--write-timeout", "1"])
        .start();
    let worker = server.worker_pids()[0];
    let before = process::status(worker, "VmRSS");
    let window = 1 << 30;
    let mut client = Http2::with(&server, &[(4, window)]);
    client.send(WINDOW_UPDATE, 0, 0, &window.to_be_bytes());
    for stream in 0..50 {
        client.send(HEADERS, WHOLE, 2 * stream + 1, &request("GET", "/flood"));
    }
    server.wait_for_line("does not read its response");
    assert!(process::status(worker, "VmRSS") < before + 2 * MEMORY);
    until("the connection is gone", patience(), || {
        client.try_raw(&frame(PING, 0, 0, &[0; 8])).is_err()
    });
}

#[test]
fn a_client_that_is_slow_with_a_frame_is_sent_away() {
    let server = start(&["--header-timeout", "1", "--keep-alive", "60"]);
    for begun in [
        frame(HEADERS, END_STREAM, 1, &get()),
        frame(HEADERS, WHOLE, 1, &get())[..20].to_vec(),
        frame(SETTINGS, 0, 0, &[0; 6])[..3].to_vec(),
    ] {
        let mut client = Http2::connect(&server);
        client.raw(&begun);
        assert_eq!(client.goodbye(), ENHANCE_YOUR_CALM);
    }
    for begun in [&PREFACE[..5], &PREFACE[..23]] {
        // It might still have become HTTP/1.
        let mut client = server.connect();
        client.send(begun);
        let status = client.one_response("GET").expect("an answer").status();
        assert!(matches!(status, 408 | 505), "{status}");
    }
    assert_served(&server);
}

#[test]
fn a_client_that_is_slow_with_a_body_loses_that_stream() {
    let server = start(&["--body-timeout", "1"]);
    let mut client = Http2::connect(&server);
    client.send(HEADERS, END_HEADERS, 1, &post());
    client.send(DATA, 0, 1, b"a beginning");
    let head = client
        .find(|frame| frame.stream == 1 && frame.kind == HEADERS)
        .expect("an answer");
    assert_eq!(head.status(), 408);
    let reset = client
        .find(|frame| frame.kind == RST_STREAM)
        .expect("the rest is not wanted");
    assert_eq!((reset.stream, reset.code()), (1, NO_ERROR));
    client.get(3);
    assert_eq!(client.answer(3).0, 200);
}

#[test]
fn a_busy_client_is_not_taken_for_a_flood() {
    let server = start(&["--limit-request-body", "0"]);
    let mut client = Http2::connect(&server);
    // Small pieces, each answered by windows that are opened by small steps; 3,000 requests.
    for round in 0..300 {
        for step in 0..10 {
            let stream = 20 * round + 2 * step + 1;
            client.send(HEADERS, END_HEADERS, stream, &post());
            client.send(DATA, 0, stream, b"some");
            client.send(DATA, END_STREAM, stream, b"thing");
        }
        for step in 0..10 {
            let stream = 20 * round + 2 * step + 1;
            let (status, body) = client.answer(stream);
            assert_eq!(status, 200);
            let opened = u32::try_from(body.len()).expect("a length").to_be_bytes();
            client.send(WINDOW_UPDATE, 0, 0, &opened);
        }
    }
    client.assert_alive();
}

#[test]
fn an_idle_connection_is_told_to_go() {
    let server = start(&["--keep-alive", "1"]);
    let mut client = Http2::connect(&server);
    client.get(1);
    assert_eq!(client.answer(1).0, 200);
    let begun = std::time::Instant::now();
    assert_eq!(client.goodbye(), NO_ERROR);
    assert!(
        begun.elapsed() > Duration::from_millis(500),
        "it had no time to idle"
    );
    let server = start(&["--keep-alive", "0"]);
    let mut client = Http2::connect(&server);
    client.get(1);
    assert_eq!(client.answer(1).0, 200);
    assert_eq!(client.goodbye(), NO_ERROR);
}
