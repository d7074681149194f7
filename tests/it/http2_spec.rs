//! What RFC 9113 and RFC 7541 ask of a server, case by case, in raw frames: the cases that h2spec has,
//! by its groups, and some more. h2spec itself can be had from no package.

mod frames;
mod hpack;
mod messages;
mod streams;

use crate::harness::Server;
use crate::harness::http2::*;

/// What the server has to do.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// Answer stream 1, and go on.
    Answer(u16),
    /// Go on as if nothing had come.
    GoOn,
    /// Reset the stream, or end the connection, for this.
    Reset(&'static [u32]),
    /// End the connection, for this.
    End(&'static [u32]),
}

use Must::{Answer, End, GoOn, Reset};

/// One case: its section, what the client does on a connection that is settled, and what follows.
struct Case {
    section: &'static str,
    does: &'static str,
    act: fn(&mut Http2),
    must: Must,
}

const fn case(
    section: &'static str,
    does: &'static str,
    act: fn(&mut Http2),
    must: Must,
) -> Case {
    Case {
        section,
        does,
        act,
        must,
    }
}

/// Tries all of `cases`, each on a connection of its own; afterwards another connection is served as before.
fn try_all(cases: &[Case]) {
    let server = server();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| attempt(&server, case))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let mut neighbour = Http2::connect(&server);
    neighbour.get(1);
    assert_eq!(neighbour.answer(1).0, 200);
}

fn server() -> Server {
    cleartext("builtin:echo")
        .args(["--keep-alive", "30"])
        .start()
}

fn attempt(server: &Server, case: &Case) -> Option<String> {
    let mut client = Http2::connect(server);
    (case.act)(&mut client);
    let did = match case.must {
        Answer(status) => {
            let (answer, _) = client.answer(1);
            client.assert_alive();
            (answer != status).then(|| format!("answered {answer}"))
        }
        GoOn => {
            client.assert_alive();
            None
        }
        Reset(codes) => ended_by(&mut client, codes, true),
        End(codes) => ended_by(&mut client, codes, false),
    };
    did.map(|did| format!("{} {}: {did}, not {:?}", case.section, case.does, case.must))
}

/// What else the server did than to end the stream or connection with one of `codes`.
fn ended_by(client: &mut Http2, codes: &[u32], stream: bool) -> Option<String> {
    let end = client.find(|frame| frame.kind == GOAWAY || (stream && frame.kind == RST_STREAM));
    match end {
        Some(end) if codes.contains(&end.code()) => {
            if end.kind == GOAWAY {
                while client.next().is_some() {}
            } else {
                client.assert_alive();
            }
            None
        }
        Some(end) => Some(format!("ended with {}", end.code())),
        None => Some("ended without a word".to_owned()),
    }
}
