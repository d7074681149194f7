//! `--reload`: a change of the code on disk is a reload, as an editor makes it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::harness::{Rgun, Server, millis, patience, process, until, venv};

const ENGINES: [&str; 2] = ["inotify", "poll"];

/// An app that answers with `word`.
fn code(word: &str) -> String {
    format!(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{word}']\n"
    )
}

/// As many editors save: a new file takes the old one's name.
fn save(path: &Path, text: &str) {
    let fresh = path.with_extension("py.new");
    fs::write(&fresh, text).expect("it can be written");
    fs::rename(fresh, path).expect("it can be renamed");
}

/// A server with `--reload` whose app is `site_.py` in a directory of its own.
fn project(engine: &str, text: &str) -> (Rgun, PathBuf) {
    let rgun = Rgun::bare();
    let directory = rgun.directory().join("project");
    fs::create_dir(&directory).expect("a directory");
    let file = directory.join("site_.py");
    fs::write(&file, text).expect("it can be written");
    let rgun = rgun.chdir(&directory).env("VIRTUAL_ENV", venv()).args([
        "-k",
        "sync",
        "--reload",
        "--reload-engine",
        engine,
        "site_:app",
    ]);
    (rgun, file)
}

/// The answer changes to `text`, without a failure before.
fn becomes(server: &Server, text: &str) {
    until(&format!("it answers {text:?}"), patience(), || {
        let answer = server.get("/").response();
        assert_eq!(answer.status(), 200);
        answer.text() == text
    });
}

#[test]
fn edits_of_every_kind_reload_the_app() {
    for engine in ENGINES {
        let (rgun, file) = project(engine, &code("one"));
        let server = rgun.start();
        becomes(&server, "one");
        save(&file, &code("two"));
        becomes(&server, "two");
        let line = server.wait_for_line("Reloading: ");
        assert!(
            line.ends_with(&format!("Reloading: {} changed", file.display())),
            "{line}"
        );
        let mut open = fs::File::options()
            .append(true)
            .open(&file)
            .expect("it is there");
        open.write_all(b"\n\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'three']\n")
            .expect("it can be written");
        becomes(&server, "three");
        // It is gone, and another one comes: a checkout of another branch.
        fs::remove_file(&file).expect("it is there");
        fs::write(&file, code("four")).expect("it can be written");
        becomes(&server, "four");
        assert_eq!(server.count_lines("Hang up"), 0);
    }
}

#[test]
fn a_syntax_error_keeps_the_old_workers_until_it_is_mended() {
    for engine in ENGINES {
        let (rgun, file) = project(engine, &code("good"));
        let server = rgun.start();
        let worker = server.wait_for_workers(1)[0];
        save(&file, "def app(:\n");
        server.wait_for_line("SyntaxError");
        server.wait_for_line("Reload abandoned");
        assert_eq!(server.get("/").response().text(), "good");
        assert!(process::alive(worker), "the old worker goes on");
        save(&file, &code("mended"));
        becomes(&server, "mended");
    }
}

#[test]
fn a_server_that_could_not_start_waits_for_the_mistake_to_be_mended() {
    for engine in ENGINES {
        let (rgun, file) = project(engine, "import absent_module\n");
        let server = rgun.workers(2).spawn();
        server.wait_for_line("ModuleNotFoundError");
        server.wait_for_line("waiting for a change of the code");
        assert!(server.is_running());
        save(&file, "def app(:\n");
        server.wait_for_line("SyntaxError");
        server.wait_for_lines("waiting for a change of the code", 2);
        save(&file, &code("works"));
        server.wait_ready(2);
        becomes(&server, "works");
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(patience());
    }
}

#[test]
fn a_server_that_waits_ends_by_its_signals() {
    let (rgun, _) = project("auto", "import absent_module\n");
    let server = rgun.spawn();
    server.wait_for_line("waiting for a change of the code");
    server.signal(Signal::SIGINT);
    server.assert_exits(0).within(patience());
}

#[test]
fn modules_of_the_app_are_watched_wherever_they_are() {
    for engine in ENGINES {
        let (rgun, file) = project(
            engine,
            "from helper import word\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [word]\n",
        );
        let library = rgun.directory().join("library");
        fs::create_dir(&library).expect("a directory");
        let helper = library.join("helper.py");
        fs::write(&helper, "word = b'far'\n").expect("it can be written");
        // Not by --pythonpath, which is watched from the start.
        let text = fs::read_to_string(&file).expect("it is there");
        let path = format!("import sys; sys.path.insert(0, {library:?})\n{text}");
        fs::write(&file, path).expect("it can be written");
        let server = rgun.start();
        becomes(&server, "far");
        server.wait_for_line("more files");
        save(&helper, "word = b'near'\n");
        becomes(&server, "near");
        server.wait_for_line(&format!("Reloading: {} changed", helper.display()));
    }
}

#[test]
fn a_new_module_in_a_new_directory_is_seen() {
    for engine in ENGINES {
        let (rgun, file) = project(
            engine,
            "try:\n    from package.inner import word\nexcept ImportError:\n    word = b'none'\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [word]\n",
        );
        let server = rgun.start();
        becomes(&server, "none");
        let package = file.with_file_name("package");
        fs::create_dir(&package).expect("a directory");
        fs::write(package.join("inner.py"), "word = b'found'\n").expect("it can be written");
        becomes(&server, "found");
        save(&package.join("inner.py"), "word = b'again'\n");
        becomes(&server, "again");
    }
}

#[test]
fn extra_files_and_patterns_count_as_code() {
    for engine in ENGINES {
        let (rgun, file) = project(
            engine,
            "from pathlib import Path\nHERE = Path(__file__).parent\nword = ''.join(path.read_text() for path in sorted(HERE.glob('*.t*t')))\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [word.encode()]\n",
        );
        let (one, two) = (file.with_file_name("a.txt"), file.with_file_name("b.tmplt"));
        fs::write(&one, "one").expect("it can be written");
        let server = rgun
            .args([
                "--reload-extra-file",
                "a.txt",
                "--reload-extra-file",
                "*.tmplt",
            ])
            .start();
        becomes(&server, "one");
        fs::write(&one, "two").expect("it can be written");
        becomes(&server, "two");
        // One that the pattern has not met yet.
        fs::write(&two, "+").expect("it can be written");
        becomes(&server, "two+");
        fs::write(file.with_file_name("c.other"), "").expect("it can be written");
        fs::remove_file(&two).expect("it is there");
        becomes(&server, "two");
        assert_eq!(server.count_lines("c.other"), 0);
    }
}

#[test]
fn ten_writes_in_a_row_are_one_reload() {
    for engine in ENGINES {
        let (rgun, file) = project(engine, &code("before"));
        let other = file.with_file_name("other.py");
        fs::write(&other, "").expect("it can be written");
        let server = rgun.start();
        let mut pauses = 0;
        for number in 0..9 {
            let begin = std::time::Instant::now();
            fs::write(&file, code(&number.to_string())).expect("it can be written");
            fs::write(&other, number.to_string()).expect("it can be written");
            // What is tested is that writes close to each other are taken together.
            std::thread::sleep(std::time::Duration::from_millis(20));
            // On a busy machine some are not.
            pauses += usize::from(begin.elapsed() > std::time::Duration::from_millis(60));
        }
        fs::write(&file, code("after")).expect("it can be written");
        becomes(&server, "after");
        std::thread::sleep(millis(2500));
        let reloads = server.count_lines("Reloading: ");
        assert!(
            (1..=1 + pauses).contains(&reloads),
            "{engine}: {reloads} reloads, {pauses} pauses"
        );
    }
}

#[test]
fn a_worker_that_is_stuck_in_its_app_is_no_hindrance() {
    let (rgun, file) = project(
        "auto",
        "import sys\ndef app(environ, start_response):\n    print('stuck', file=sys.stderr, flush=True)\n    while True: pass\n",
    );
    let server = rgun.args(["--graceful-timeout", "1"]).start();
    let _stuck = server.get("/").in_background();
    server.wait_for_line("stuck");
    save(&file, &code("free"));
    server.wait_ready(2);
    becomes(&server, "free");
}

#[test]
fn preload_gives_way() {
    let (rgun, file) = project("auto", &code("one"));
    let server = rgun.arg("--preload").start();
    server.wait_for_line("--preload is ignored");
    save(&file, &code("two"));
    becomes(&server, "two");
}

#[test]
fn files_that_are_no_code_change_nothing() {
    let (rgun, file) = project("auto", &code("one"));
    let server = rgun.start();
    fs::write(file.with_file_name("notes.txt"), "x").expect("it can be written");
    fs::create_dir(file.with_file_name("__pycache__")).expect("a directory");
    fs::write(file.with_file_name("__pycache__").join("x.py"), "x").expect("it can be written");
    // A file is opened for writing and closed as it was.
    drop(
        fs::File::options()
            .append(true)
            .open(&file)
            .expect("it is there"),
    );
    std::thread::sleep(millis(1500));
    assert_eq!(server.count_lines("Reloading: "), 0);
}
