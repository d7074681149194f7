//! Which room of `src/` may know which: the table of `src/lib.rs`, kept by reading the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::root;

/// What both sides of the process model share.
const GROUND: &[&str] = &[
    "channel",
    "code_files",
    "connections",
    "drain",
    "files",
    "heartbeat",
    "hooks",
    "last_words",
    "listener",
    "log",
    "news",
    "resident",
    "scoreboard",
    "tls",
    "websocket",
];

/// A room and what it may import beside itself; `GROUND` stands for all of the ground.
const ROOMS: &[(&str, &[&str])] = &[
    ("os", &["error"]),
    ("error", &[]),
    ("config", &["error"]),
    ("app", &["GROUND", "config", "error"]),
    ("proto", &["GROUND", "app", "config", "error"]),
    (
        "worker",
        &["GROUND", "app", "config", "error", "os", "proto"],
    ),
    // Neither Tokio nor HTTP nor the worker: it is given the worker as a function.
    ("master", &["GROUND", "config", "error", "os"]),
    ("cli", &["config", "error"]),
    // The subcommand: it knows no master but by what that tells.
    ("upgrade", &["GROUND", "cli", "config", "error", "os"]),
    // The other one: it knows no server at all.
    ("uwsgi_client", &["cli", "config", "error"]),
    // It reads the command line again at a reload.
    (
        "server",
        &[
            "GROUND", "app", "cli", "config", "error", "master", "os", "worker",
        ],
    ),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory)
        .expect("a source directory")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The first name behind each `crate::` of the code, comments and doc links left out.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
    {
        for part in line.split("crate::").skip(1) {
            let name: String = part
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            found.insert(name);
        }
    }
    found.remove("");
    found
}

#[test]
fn each_room_imports_only_rooms_below_it() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&src).expect("it was found there");
        let room = inside
            .iter()
            .next()
            .and_then(|part| Path::new(part).file_stem());
        let room = room
            .and_then(|stem| stem.to_str())
            .expect("a name in UTF-8");
        let allowed: BTreeSet<&str> = if GROUND.contains(&room) {
            GROUND
                .iter()
                .chain(&["config", "error", "os"])
                .copied()
                .collect()
        } else if let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) {
            may.iter()
                .flat_map(|name| {
                    if *name == "GROUND" {
                        GROUND
                    } else {
                        std::slice::from_ref(name)
                    }
                })
                .copied()
                .collect()
        } else {
            // The entry points: they may know everything.
            continue;
        };
        let text = fs::read_to_string(&file).expect("a source file");
        for import in imports(&text) {
            if import != room && !allowed.contains(import.as_str()) {
                wrong.push(format!("{}: crate::{import}", inside.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports against the layers:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn unsafe_code_lives_in_two_rooms_only() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let inside = file.strip_prefix(&src).expect("it was found there");
        if inside.starts_with("os") || inside.starts_with("app/python") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file");
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            assert!(
                !line.contains("unsafe {") && !line.contains("(unsafe_code"),
                "{}: {line}",
                inside.display()
            );
        }
    }
}

#[test]
fn no_source_file_hides_a_second_noun() {
    let mut files = Vec::new();
    for directory in ["src", "tests/it"] {
        sources(&root().join(directory), &mut files);
    }
    for file in files {
        // Tests of one noun, kept beside it, may be more than the noun.
        if file.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let lines = fs::read_to_string(&file)
            .expect("a source file")
            .lines()
            .count();
        assert!(lines <= 700, "{}: {lines} lines", file.display());
    }
}
