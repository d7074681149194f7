//! Sessions byte by byte, and sockets over a stream in memory.

use std::future::pending;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, oneshot};

use super::close::{self, Close};
use super::deflate::Packer;
use super::extension::Agreement;
use super::receive::Kind;
use super::session::{Event, Session};
use super::socket::{Heartbeat, Listener, Socket};

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const LIMIT: u64 = 1 << 20;

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).expect("short")),
        middle @ 126..65536 => {
            bytes.push(0xFE);
            bytes.extend_from_slice(&u16::try_from(middle).expect("middle").to_be_bytes());
        }
        long => {
            bytes.push(0xFF);
            bytes.extend_from_slice(&u64::try_from(long).expect("long").to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

fn deflating() -> Agreement {
    let offers = ["permessage-deflate; client_max_window_bits"];
    Agreement::to_offers(offers.into_iter()).expect("an agreement")
}

/// All events of `bytes`, given in pieces of `size`.
fn events(session: &mut Session, bytes: &[u8], size: usize) -> Vec<Event> {
    let mut found = Vec::new();
    for mut piece in bytes.chunks(size) {
        while let Some(event) = session.receive(&mut piece) {
            found.push(event);
        }
    }
    found
}

fn output(session: &mut Session) -> Vec<u8> {
    let output = session.output().to_vec();
    session.wrote(output.len());
    output
}

/// The code of the close frame that ends the output.
fn last_code(session: &mut Session) -> Option<u16> {
    let output = output(session);
    let at = output.iter().rposition(|&byte| byte == 0x88)?;
    let code = output.get(at + 2..at + 4)?;
    Some(u16::from_be_bytes(code.try_into().ok()?))
}

#[test]
fn messages_are_the_same_wherever_the_input_is_cut() {
    let mut bytes = text("Hello");
    // In three frames, between them a ping, a pong and an empty frame.
    bytes.extend(frame(0x01, "grü".as_bytes()));
    bytes.extend(frame(0x89, b"are you there"));
    bytes.extend(frame(0x00, b""));
    // A character that is cut in two.
    bytes.extend(frame(0x00, &"ße".as_bytes()[..1]));
    bytes.extend(frame(0x8A, b"unasked"));
    bytes.extend(frame(0x80, &"ße".as_bytes()[1..]));
    bytes.extend(frame(0x82, &vec![7; 70_000]));
    bytes.extend(frame(0x82, b""));
    bytes.extend(frame(0x88, &[&1000_u16.to_be_bytes()[..], b"bye"].concat()));
    for size in [1, 2, 3, 7, 64, 1000, bytes.len()] {
        let mut session = Session::new(LIMIT, None);
        let close = Close {
            code: 1000,
            reason: "bye".to_owned(),
        };
        assert_eq!(
            events(&mut session, &bytes, size),
            [
                Event::Message(Kind::Text, b"Hello".to_vec()),
                Event::Message(Kind::Text, "grüße".as_bytes().to_vec()),
                Event::Message(Kind::Binary, vec![7; 70_000]),
                Event::Message(Kind::Binary, Vec::new()),
                Event::Closed(close),
            ],
            "in pieces of {size}"
        );
        let pong = b"\x8A\x0Dare you there";
        let answer = [&pong[..], &[0x88, 2, 3, 232]].concat();
        assert_eq!(output(&mut session), answer);
    }
}

#[test]
fn every_violation_has_its_code() {
    let half = &"ß".as_bytes()[..1];
    for (bytes, code) in [
        (vec![0x81, 0x00], 1002),
        (frame(0xF1, b""), 1002),
        (frame(0xC1, b""), 1002),
        (frame(0x83, b""), 1002),
        (frame(0x80, b"nothing has begun"), 1002),
        ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
        (frame(0x09, b"in parts"), 1002),
        (frame(0x89, &[0; 126]), 1002),
        (frame(0x88, b"x"), 1002),
        (frame(0x88, &1005_u16.to_be_bytes()), 1002),
        (frame(0x88, &999_u16.to_be_bytes()), 1002),
        (
            frame(0x88, &[&1000_u16.to_be_bytes()[..], half].concat()),
            1007,
        ),
        (frame(0x81, half), 1007),
        // Told long before the frame is whole.
        (
            frame(0x01, &[b"\xFF", &[b'a'; 100][..]].concat())[..7].to_vec(),
            1007,
        ),
        ([frame(0x01, half), frame(0x80, half)].concat(), 1007),
        (
            vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0],
            1009,
        ),
        (
            [frame(0x02, &vec![0; 1 << 20]), frame(0x80, b"x")].concat(),
            1009,
        ),
    ] {
        for size in [1, bytes.len()] {
            let mut session = Session::new(LIMIT, None);
            let found = events(&mut session, &bytes, size);
            let [Event::Broken(close)] = &found[..] else {
                panic!("{:x?}: {found:?}", &bytes[..bytes.len().min(20)]);
            };
            assert_eq!(close.code, code, "{close:?}");
            assert_eq!(last_code(&mut session), Some(code));
            assert!(session.receive(&mut &text("more")[..]).is_none());
            session.send(Kind::Text, b"more");
            assert!(session.output().is_empty());
        }
    }
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    let mut session = Session::new(LIMIT, None);
    let found = events(&mut session, &frame(0x88, b""), 100);
    assert_eq!(found, [Event::Closed(Close::bare(1005))]);
    assert_eq!(output(&mut session), [0x88, 0]);
}

#[test]
fn after_our_close_only_the_answer_counts() {
    let mut session = Session::new(LIMIT, None);
    session.close(&Close {
        code: 4000,
        reason: "x".repeat(200),
    });
    session.close(&Close::bare(1000));
    let said = output(&mut session);
    assert_eq!(said.len(), 127);
    assert_eq!(&said[..4], &[0x88, 125, 15, 160]);
    let bytes = [text("late"), frame(0x89, b"late"), frame(0x88, &[15, 160])].concat();
    let found = events(&mut session, &bytes, 1);
    assert_eq!(found, [Event::Closed(Close::bare(4000))]);
    assert!(session.output().is_empty());
}

#[test]
fn packed_messages_go_both_ways() {
    let agreement = deflating();
    let mut session = Session::new(LIMIT, Some(&agreement));
    let message = "the same again and again, ".repeat(50);
    // A client packs like us.
    let mut client = Packer::new(&agreement);
    let packed = client.pack(message.as_bytes()).expect("it packs");
    let (head, tail) = packed.split_at(packed.len() / 2);
    let again = client.pack(message.as_bytes()).expect("it packs");
    assert!(again.len() < packed.len() / 2);
    let bytes = [
        frame(0x41, head),
        frame(0x89, b""),
        frame(0x80, tail),
        text("plain"),
        frame(0xC1, &again),
    ]
    .concat();
    let expected = [message.as_str(), "plain", message.as_str()]
        .map(|text| Event::Message(Kind::Text, text.as_bytes().to_vec()));
    assert_eq!(events(&mut session, &bytes, 5), expected);
    output(&mut session);
    session.send(Kind::Text, message.as_bytes());
    let sent = output(&mut session);
    assert_eq!(sent[0], 0xC1);
    assert!(sent.len() < 100, "{}", sent.len());
    session.send(Kind::Text, b"short");
    assert_eq!(output(&mut session)[0], 0x81);
    // A bomb, and noise.
    for (payload, code) in [
        (client.pack(&vec![0; (1 << 20) + 1]).expect("zeros"), 1009),
        (vec![0xFF; 10], 1007),
    ] {
        let mut session = Session::new(LIMIT, Some(&agreement));
        let found = events(&mut session, &frame(0xC2, &payload), 1000);
        assert!(
            matches!(&found[..], [Event::Broken(close)] if close.code == code),
            "{found:?}"
        );
    }
}

/// Bytes that are like frames more often than not.
fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(747_796_405) | 1;
    let mut next = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut bytes = Vec::new();
    for _ in 0..next(12) {
        let first = [
            0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0xC1, 0x41, 0x88, 0x33,
        ];
        let first = first[usize::try_from(next(12)).expect("small")];
        let length = [0, 1, 5, 125, 126, 300][usize::try_from(next(6)).expect("small")];
        let alphabet = [256, 128, 4][usize::try_from(next(3)).expect("small")];
        let payload: Vec<u8> = (0..length)
            .map(|_| u8::try_from(next(alphabet)).expect("a byte"))
            .collect();
        bytes.extend(frame(first, &payload));
    }
    bytes
}

#[test]
fn noise_comes_to_the_same_wherever_it_is_cut() {
    let agreement = deflating();
    let mut messages = 0;
    for seed in 0..3000 {
        let bytes = noise(seed);
        let agreement = (seed % 2 == 0).then_some(&agreement);
        let mut outcomes = [1, 2, 13, 10_000].map(|size| {
            let mut session = Session::new(400, agreement);
            let found = events(&mut session, &bytes, size);
            (found, output(&mut session))
        });
        let whole = outcomes[3].clone();
        messages += whole.0.len();
        for outcome in &mut outcomes {
            assert_eq!(*outcome, whole, "seed {seed}: {bytes:x?}");
        }
        for event in whole.0 {
            if let Event::Message(kind, data) = event {
                assert!(data.len() <= 400);
                assert!(kind == Kind::Binary || std::str::from_utf8(&data).is_ok());
            }
        }
    }
    assert!(messages > 3000, "{messages}");
}

#[test]
fn a_session_at_rest_is_small() {
    let mut session = Session::new(LIMIT, Some(&deflating()));
    let mut large = &frame(0x82, &vec![0; 200_000])[..];
    while session.receive(&mut large).is_some() {}
    session.send(Kind::Binary, &vec![1; 200_000]);
    output(&mut session);
    assert!(
        std::mem::size_of::<Socket>() <= 512,
        "{}",
        std::mem::size_of::<Socket>()
    );
    let state = format!("{session:?}");
    assert!(
        state.contains("out: []") && state.contains("message: None"),
        "{state}"
    );
}

/// Runs `test` on a worker's kind of runtime.
fn run<F: Future<Output = ()> + 'static>(test: F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test hangs");
    });
}

const SILENT: Heartbeat = Heartbeat {
    interval: Duration::ZERO,
    timeout: Duration::ZERO,
};

/// An app at the end of a socket.
struct App {
    socket: Socket,
    heard: Notify,
    relieved: Notify,
}

impl Listener for App {
    fn heard(&self) {
        self.heard.notify_one();
    }

    fn relieved(&self) {
        self.relieved.notify_one();
    }
}

impl App {
    /// What it did is carried out.
    fn done(&self) {
        if let Some(task) = self.socket.task() {
            task.wake();
        }
    }

    fn send(&self, kind: Kind, data: &[u8]) {
        self.socket.send(kind, data);
        self.done();
    }

    async fn message(&self) -> Result<(Kind, Vec<u8>), Close> {
        loop {
            if let Some(message) = self.socket.take_message() {
                if let Some(task) = self.socket.paused_task() {
                    task.wake();
                }
                return Ok(message);
            }
            if let Some(close) = self.socket.end() {
                return Err(close);
            }
            self.heard.notified().await;
        }
    }
}

/// A socket being served, the client's end of it, and what starts its drain.
fn open(heartbeat: Heartbeat) -> (Rc<App>, DuplexStream, oneshot::Sender<()>) {
    let (client, stream) = tokio::io::duplex(1 << 16);
    let app = Rc::new_cyclic(|app: &Weak<App>| App {
        socket: Socket::new(Session::new(LIMIT, None), app.clone()),
        heard: Notify::new(),
        relieved: Notify::new(),
    });
    let (leave, left) = oneshot::channel();
    let serving = Rc::clone(&app);
    tokio::task::spawn_local(async move {
        let drain = async {
            if left.await.is_err() {
                pending::<()>().await;
            }
            Close::bare(close::SERVICE_RESTART)
        };
        serving.socket.serve(stream, heartbeat, drain).await;
    });
    (app, client, leave)
}

async fn bytes<const N: usize>(client: &mut DuplexStream) -> [u8; N] {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await.expect("bytes");
    bytes
}

#[test]
fn messages_come_and_go_and_the_end_is_told() {
    run(async {
        let (app, mut client, _leave) = open(SILENT);
        let sent = [text("one"), text("two"), frame(0x88, &[3, 233])].concat();
        client.write_all(&sent).await.expect("sent");
        assert_eq!(app.message().await, Ok((Kind::Text, b"one".to_vec())));
        app.send(Kind::Binary, b"back");
        assert_eq!(app.message().await, Ok((Kind::Text, b"two".to_vec())));
        assert_eq!(app.message().await, Err(Close::bare(1001)));
        assert_eq!(app.message().await, Err(Close::bare(1001)));
        // The close was answered before the app spoke, or after: both are in order.
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.expect("the end");
        assert!(said.ends_with(&[0x88, 2, 3, 233]), "{said:x?}");
    });
}

#[test]
fn an_end_without_a_word_is_1006() {
    run(async {
        let (app, client, _leave) = open(SILENT);
        drop(client);
        assert_eq!(app.message().await, Err(Close::bare(1006)));
        assert!(app.socket.is_ready());
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_app_back() {
    run(async {
        let (app, mut client, _leave) = open(SILENT);
        let piece = vec![0; 1 << 15];
        let mut sent = 0;
        for _ in 0..100 {
            tokio::task::yield_now().await;
            if app.socket.is_ready() {
                app.send(Kind::Binary, &piece);
                sent += 1;
            }
        }
        // The stream's buffer, and the backlog.
        assert!((4..8).contains(&sent), "{sent}");
        let room = {
            let app = Rc::clone(&app);
            tokio::task::spawn_local(async move { app.relieved.notified().await })
        };
        let mut back = vec![0; sent * (piece.len() + 4)];
        client.read_exact(&mut back).await.expect("all of it");
        room.await.expect("there is room again");
    });
}

#[test]
fn what_was_too_much_to_send_at_once_does_not_stop_the_reading() {
    run(async {
        let (app, mut client, _leave) = open(SILENT);
        for round in 0..3 {
            client.write_all(&text("more")).await.expect("sent");
            assert!(app.message().await.is_ok(), "{round}");
            app.send(Kind::Binary, &vec![0; 200_000]);
            let mut back = vec![0; 200_010];
            client.read_exact(&mut back).await.expect("all of it");
        }
    });
}

#[test]
fn an_app_that_does_not_read_holds_the_client_back() {
    run(async {
        let (app, mut client, _leave) = open(SILENT);
        let one = frame(0x82, &vec![7; 1 << 15]);
        let mut written = 0;
        while let Ok(result) =
            tokio::time::timeout(Duration::from_millis(200), client.write_all(&one)).await
        {
            result.expect("sent");
            written += 1;
            assert!(written < 50, "nothing holds it back");
        }
        // Cut short by the timeout, so the stream may not be written to again; all that was taken can be read.
        for _ in 0..written {
            let read = app.message().await.expect("a message");
            assert_eq!(read.1.len(), 1 << 15);
        }
    });
}

#[test]
fn a_drain_is_told_to_both() {
    run(async {
        let (app, mut client, leave) = open(SILENT);
        leave.send(()).expect("it listens");
        assert_eq!(app.message().await, Err(Close::bare(1012)));
        assert_eq!(bytes(&mut client).await, [0x88, 2, 3, 244]);
        app.send(Kind::Text, b"too late");
        client
            .write_all(&frame(0x88, &[3, 244]))
            .await
            .expect("sent");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("the end");
        assert!(rest.is_empty(), "{rest:x?}");
    });
}

#[test]
fn a_client_that_gives_no_sign_of_life_is_dead() {
    run(async {
        let beat = Duration::from_millis(50);
        let (app, mut client, _leave) = open(Heartbeat {
            interval: beat,
            timeout: beat,
        });
        for _ in 0..3 {
            assert_eq!(bytes(&mut client).await, [0x89, 0]);
            client.write_all(&frame(0x8A, b"")).await.expect("sent");
        }
        assert_eq!(bytes(&mut client).await, [0x89, 0]);
        let end = app.message().await.expect_err("the end");
        assert_eq!(
            (end.code, end.reason.as_str()),
            (1006, "keepalive ping timeout")
        );
        assert_eq!(bytes(&mut client).await, [0x88, 2, 3, 243]);
        assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
    });
}

#[test]
fn pings_without_a_timeout_kill_nobody() {
    run(async {
        let (app, mut client, _leave) = open(Heartbeat {
            interval: Duration::from_millis(20),
            timeout: Duration::ZERO,
        });
        for _ in 0..5 {
            assert_eq!(bytes(&mut client).await, [0x89, 0]);
        }
        assert_eq!(app.socket.end(), None);
    });
}
