//! Faults around the server: no processes, no descriptors, full disks, clocks that jump, loops of crashes, other people's
//! children. The master lives, the log says it once, service goes on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::privilege::{MemoryGroup, must_be_root, unshare};
use crate::harness::{
    Client, Hammer, Rgun, Server, answer, patience, process, root, secs, until,
};

/// Every way to run an app that can be stuck in one.
const DRIVERS: [(&str, &[&str]); 5] = [
    ("faulty:app", &["-k", "sync"]),
    ("faulty:app", &["-k", "gevent"]),
    ("faulty:app", &["-k", "gthread", "--threads", "2"]),
    ("faulty:asgi", &["-k", "asgi", "--asgi-loop", "asyncio"]),
    ("faulty:asgi", &["-k", "asgi", "--asgi-loop", "uvloop"]),
];

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn ok(server: &Server) {
    assert_eq!(server.get("/").response().status(), 200);
}

/// The processor time that it uses in two seconds, in hundredths of a second.
fn effort(pid: i32) -> u64 {
    let before = process::ticks(pid);
    std::thread::sleep(Duration::from_secs(2));
    process::ticks(pid) - before
}

// ----- workers that die -----

#[test]
fn a_killed_worker_is_replaced_at_once() {
    let server = Rgun::app("builtin:hello").workers(2).start();
    let mut times = Vec::new();
    for round in 0..5 {
        let killed = server.wait_for_workers(2)[0];
        let began = Instant::now();
        process::signal(killed, Signal::SIGKILL);
        server.wait_ready(3 + round);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    // 0.3 s is what is promised; the machine may be busy, though not each time.
    assert!(times[0] < Duration::from_millis(300), "{times:?}");
    assert!(times[2] < secs(2), "{times:?}");
}

#[test]
fn a_worker_stopped_by_sigstop_is_replaced_a_second_after_its_timeout() {
    let server = Rgun::app("builtin:hello")
        .workers(2)
        .args(["--timeout", "2"])
        .start();
    let stopped = server.wait_for_workers(2)[0];
    let began = Instant::now();
    process::signal(stopped, Signal::SIGSTOP);
    server.wait_ready(3);
    let took = began.elapsed();
    assert!(took < secs(3), "{took:?}");
    assert!(!process::alive(stopped));
}

/// They become ready, and die: that is a loop, too.
#[test]
fn a_loop_of_crashes_slows_down_is_told_once_and_ends_when_the_app_is_mended() {
    let rgun = Rgun::app("faulty:app");
    let breaks = rgun.directory().join("broken");
    let server = rgun
        .args(["-k", "sync"])
        .env("FAULTY_BREAKS", &breaks)
        .start();
    let first = server.wait_for_workers(1)[0];
    fs::write(&breaks, "").expect("a file");
    process::signal(first, Signal::SIGKILL);
    server.wait_for_line("Workers keep dying as soon as they have started");
    // 0.1, 0.2, 0.4 and 0.8 s: ever more slowly.
    until("it tries again and again", patience(), || {
        server.booted().len() >= 7
    });
    let tries = server.booted().len();
    let effort = effort(server.pid());
    assert!(effort < 30, "{effort} hundredths of a second of 200");
    assert!(
        server.booted().len() - tries <= 3,
        "two seconds, and the pauses are longer"
    );
    fs::remove_file(&breaks).expect("it is there");
    server.wait_for_line("Workers live again");
    ok(&server);
    assert_eq!(server.count_lines("Workers keep dying"), 1);
    assert_eq!(server.count_lines("Workers live again"), 1);
    // The next death is an accident again.
    let (booted, worker) = (server.booted().len(), server.wait_for_workers(1)[0]);
    process::signal(worker, Signal::SIGKILL);
    until("it is replaced", patience(), || {
        server.booted().len() == booted + 1
    });
}

#[test]
fn the_end_of_an_apps_own_children_does_not_end_the_server() {
    for (app, driver) in DRIVERS {
        let server = Rgun::app(app).args(driver).start();
        let worker = server.wait_for_workers(1);
        for code in [1, 2, 3, 4] {
            let answer = server.get(&format!("/child?{code}")).response();
            assert_eq!(
                answer.text(),
                format!("ended with {code}"),
                "{app} {driver:?}"
            );
        }
        assert_eq!(server.worker_pids(), worker);
        assert!(server.is_running());
    }
}

/// As in a container: whoever has lost its parent is the master's to bury.
#[test]
fn a_master_that_is_pid_1_buries_strangers() {
    let server = Rgun::app("faulty:app")
        .args(["-k", "sync"])
        .wrapped(unshare(&[
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]))
        .start();
    for code in [0, 2, 3, 4] {
        let answer = server.get(&format!("/orphan?{code}")).response();
        assert_eq!(answer.text(), "left alone");
    }
    server.wait_for_lines("left to us by its parent", 4);
    ok(&server);
    assert!(server.is_running());
    assert_eq!(server.booted().len(), 1);
    let master = process::children(server.pid())[0];
    for child in process::children(master) {
        assert_ne!(process::state(child), Some('Z'));
    }
}

// ----- a master that dies -----

/// Nothing that an app is in holds its worker back, and nothing but the pidfile and the socket's path is left behind.
#[test]
fn workers_leave_within_half_a_second_of_their_masters_death() {
    for (app, driver) in DRIVERS {
        for (path, said) in [
            ("/", ""),
            ("/block?60", "blocking"),
            ("/calculate", "calculating"),
            ("/stay", "staying"),
        ] {
            let rgun = Rgun::app(app).args(driver).workers(2);
            let directory = rgun.directory().join("beats");
            fs::create_dir(&directory).expect("a directory");
            let server = rgun.arg("--worker-tmp-dir").arg(&directory).start();
            let workers = server.wait_for_workers(2);
            let mut idle = server.connect();
            assert_eq!(idle.get("/").status(), 200);
            let _inside = (!said.is_empty()).then(|| server.get(path).in_background());
            if !said.is_empty() {
                server.wait_for_line(said);
            }
            server.signal(Signal::SIGKILL);
            let killed = Instant::now();
            until("the workers are gone", patience(), || {
                !workers.iter().any(|&pid| process::alive(pid))
            });
            let took = killed.elapsed();
            // Half a second is what is promised.
            assert!(took < secs(1), "{app} {driver:?} {path}: {took:?}");
            assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 0);
        }
    }
}

#[test]
fn what_a_killed_master_has_left_is_taken_over() {
    let rgun = Rgun::app("builtin:hello");
    let (socket, pidfile) = (
        rgun.directory().join("server.sock"),
        rgun.directory().join("server.pid"),
    );
    let bind = format!("unix:{}", socket.display());
    let first = rgun.bind(&bind).arg("-p").arg(&pidfile).start();
    first.signal(Signal::SIGKILL);
    until("its workers are gone", patience(), || {
        first.worker_pids().is_empty()
    });
    assert!(socket.exists() && pidfile.exists());
    let second = Rgun::app("builtin:hello")
        .bind(&bind)
        .arg("-p")
        .arg(&pidfile)
        .start();
    ok(&second);
    let pid = fs::read_to_string(&pidfile).expect("the pidfile");
    assert_eq!(pid.trim(), second.pid().to_string());
}

#[test]
fn a_pidfile_whose_number_another_program_has_by_now_is_taken_over() {
    let mut other = Command::new("sleep").arg("600").spawn().expect("a process");
    let rgun = Rgun::app("builtin:hello");
    let pidfile = rgun.write("server.pid", &format!("{}\n", other.id()));
    let yesterday = std::time::SystemTime::now() - Duration::from_hours(24);
    fs::File::options()
        .append(true)
        .open(&pidfile)
        .and_then(|file| file.set_modified(yesterday))
        .expect("its time can be set");
    let server = rgun.arg("-p").arg(&pidfile).start();
    ok(&server);
    let pid = fs::read_to_string(&pidfile).expect("the pidfile");
    assert_eq!(pid.trim(), server.pid().to_string());
    other.kill().expect("it is ours");
    other.wait().expect("it is ours");
}

// ----- what runs out -----

/// The kernel's way to get memory back. Where no group of processes can be limited, the test says why, and sends the same
/// signal itself. (There are machines whose groups take a limit and do not keep it.)
#[test]
fn a_worker_that_the_kernel_kills_for_its_memory_is_replaced_and_the_reason_guessed() {
    let server = Rgun::app("faulty:app").args(["-k", "sync"]).start();
    let worker = server.wait_for_workers(1)[0];
    let limited = MemoryGroup::new(64 << 20).and_then(|group| {
        group.take(worker);
        match server.get("/eat?512").try_response() {
            Err(_) => Ok(group),
            Ok(answer) => Err(format!("it is not kept: {}", answer.text())),
        }
    });
    match limited {
        Ok(group) => assert_eq!(group.kills(), 1),
        Err(why) => {
            eprintln!("no memory limit on this machine ({why}): KILL in place of the kernel's");
            process::signal(worker, Signal::SIGKILL);
        }
    }
    server.wait_for_line(&format!(
        "Worker (pid:{worker}) was sent SIGKILL! Perhaps out of memory?"
    ));
    server.wait_ready(2);
    ok(&server);
    assert!(server.is_running());
}

/// A user who may have three processes, of which the master and two workers are all.
#[test]
fn no_process_to_be_had_is_told_once_and_tried_again() {
    must_be_root("be a user who has no other processes");
    let nobody = "54321";
    let server = Rgun::app("builtin:hello")
        .workers(3)
        .wrapped([
            "prlimit",
            "--nproc=3:100",
            "setpriv",
            &format!("--reuid={nobody}"),
            "--clear-groups",
            "--",
        ])
        .spawn();
    server.wait_ready(2);
    server.wait_for_line("cannot start a worker");
    ok(&server);
    let used = effort(server.pid());
    assert!(used < 30, "{used} hundredths of a second of 200");
    ok(&server);
    // A worker that dies leaves room for its successor.
    process::signal(server.wait_for_workers(2)[0], Signal::SIGKILL);
    server.wait_ready(3);
    assert_eq!(server.count_lines("cannot start a worker"), 1);
    run(Command::new("setpriv").args([
        &format!("--reuid={nobody}"),
        "--clear-groups",
        "--",
        "prlimit",
        "--nproc=100:",
        "--pid",
        &server.pid().to_string(),
    ]));
    server.wait_for_workers(3);
    server.wait_for_line("Workers live again");
    ok(&server);
}

/// The worker has its descriptors; the master has none for another one.
#[test]
fn a_master_without_file_descriptors_waits_for_some() {
    let server = Rgun::app("builtin:hello").workers(2).start();
    let [killed, other] = server.wait_for_workers(2)[..] else {
        panic!("two workers")
    };
    let master = server.pid().to_string();
    let few = format!("--nofile={}:", process::open_files(server.pid()).len() / 2);
    run(Command::new("prlimit").args([&few, "--pid", &master]));
    process::signal(killed, Signal::SIGKILL);
    server.wait_for_line("cannot start a worker");
    let used = effort(server.pid());
    assert!(used < 30, "{used} hundredths of a second of 200");
    ok(&server);
    // It still hears of everything.
    server.signal(Signal::SIGUSR1);
    server.wait_for_line("Handling signal: usr1");
    assert_eq!(server.count_lines("cannot start a worker"), 1);
    assert!(process::alive(other));
    run(Command::new("prlimit").args(["--nofile=1024:", "--pid", &master]));
    server.wait_ready(3);
    server.wait_for_workers(2);
}

/// On the edge of its descriptors a worker finds some and none, over and over.
#[test]
fn a_worker_on_the_edge_of_its_descriptors_does_not_flood_the_log() {
    let server = Rgun::app("builtin:hello")
        .args(["--keep-alive", "1"])
        .wrapped(["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .start();
    let worker = server.wait_for_workers(1)[0];
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let mut clients: Vec<Client> = (0..70).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send_get("/");
        }
        for client in &mut clients {
            assert_eq!(client.response().status(), 200, "all are served in the end");
        }
    }
    let told = server.count_lines("cannot accept");
    let limit = 1 + began.elapsed().as_secs() / 10;
    assert!(
        (1..=limit).contains(&u64::try_from(told).expect("few")),
        "{told} lines"
    );
    assert_eq!(server.worker_pids(), [worker]);
}

/// A file system of its own, as large as the options say, at `place`, for the server alone.
fn on_a_tmpfs(options: &str, place: &Path) -> Vec<String> {
    let script = format!(
        "mount -t tmpfs -o {options} none '{}' && exec \"$@\"",
        place.display()
    );
    let words = unshare(&["--mount", "sh", "-c", &script, "sh"]);
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_full_log_disk_stops_nothing_and_is_told_when_it_is_not_full_any_more() {
    let rgun = Rgun::app("builtin:hello").workers(2);
    let place = rgun.directory().join("disk");
    fs::create_dir(&place).expect("a directory");
    let server = rgun
        .wrapped(on_a_tmpfs("size=64k", &place))
        .arg("--error-logfile")
        .arg(place.join("error.log"))
        .arg("--access-logfile")
        .arg(place.join("access.log"))
        .bind("127.0.0.1:0")
        .spawn();
    // As the server sees it.
    let inside = |name: &str| {
        let path = place.join(name);
        let path = path.strip_prefix("/").expect("it is absolute");
        Path::new("/proc")
            .join(server.pid().to_string())
            .join("root")
            .join(path)
    };
    let read = |name: &str| fs::read_to_string(inside(name)).unwrap_or_default();
    let url = answer("the address", patience(), || {
        let log = read("error.log");
        let url = log.split("Listening at: ").nth(1)?.split(' ').next()?;
        log.contains(" ready").then(|| url.to_owned())
    });
    let address = crate::harness::Address::of_url(&url);
    let get = || Client::connect(&address).get("/").status();
    assert_eq!(get(), 200);
    // Full.
    let filler = inside("filler");
    let written = fs::write(&filler, vec![0; 1 << 20]);
    assert!(written.is_err(), "64 KiB are not full");
    // Until what was left of the last pages is full, too.
    for _ in 0..200 {
        assert_eq!(get(), 200);
        assert_eq!(Client::connect(&address).ask("BAD\r\n\r\n").status(), 400);
    }
    server.signal(Signal::SIGUSR1);
    let workers = process::children(server.pid());
    assert_eq!(workers.len(), 2);
    process::signal(workers[0], Signal::SIGKILL);
    until("it is replaced", patience(), || {
        let now = process::children(server.pid());
        now.len() == 2 && now != workers && get() == 200
    });
    // Told where there is somebody to tell.
    server.wait_for_line("lines are lost");
    let said = server.log().len();
    assert!(said < 20, "{said} lines on standard error");
    fs::remove_file(&filler).expect("it is there");
    until("it tells what was lost", patience(), || {
        get();
        let log = read("error.log");
        log.contains("lines were lost") && log.contains("lines were dropped")
    });
    until("requests are logged again", patience(), || {
        let before = read("access.log").len();
        get();
        read("access.log").len() > before
    });
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
}

#[test]
fn a_full_tmpfs_for_the_heartbeats_stops_no_worker() {
    let rgun = Rgun::app("builtin:hello").workers(2);
    let place = rgun.directory().join("beats");
    fs::create_dir(&place).expect("a directory");
    // The root directory is the one file that it has room for.
    let server = rgun
        .wrapped(on_a_tmpfs("size=4k,nr_inodes=1", &place))
        .arg("--worker-tmp-dir")
        .arg(&place)
        .args(["--timeout", "2"])
        .start();
    let workers = server.wait_for_workers(2);
    ok(&server);
    process::signal(workers[0], Signal::SIGSTOP);
    server.wait_for_line("WORKER TIMEOUT");
    server.wait_ready(3);
    assert!(process::alive(workers[1]), "it beats all the same");
    ok(&server);
}

// ----- time -----

/// A wall clock that can be set for one server alone.
fn clock(directory: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (library, switch) = (directory.join("clock.so"), directory.join("jump"));
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(root().join("tests/clock.c")));
    (library, switch)
}

#[test]
fn a_wall_clock_that_jumps_years_changes_nothing_but_the_date() {
    for years in ["10", "-10"] {
        let rgun = Rgun::app("builtin:hello").workers(2);
        let (library, switch) = clock(&rgun.directory());
        let server = rgun
            .args(["--timeout", "2", "--keep-alive", "60"])
            .env("LD_PRELOAD", &library)
            .env("CLOCK_JUMP", &switch)
            .start();
        let workers = server.wait_for_workers(2);
        let mut kept = server.connect();
        let year = |answer: &crate::harness::Response| -> i32 {
            let date = answer.header("date").expect("a date");
            date.split(' ')
                .nth(3)
                .and_then(|year| year.parse().ok())
                .expect("a year")
        };
        let before = year(&kept.get("/"));
        fs::write(&switch, years).expect("a file");
        let jump: i32 = years.parse().expect("a number");
        until("the date has jumped", patience(), || {
            (year(&server.get("/").response()) - before - jump).abs() <= 1
        });
        let hammer = Hammer::start(&server, "/", 2);
        let began = Instant::now();
        until("twice the timeout has passed", patience(), || {
            began.elapsed() > Duration::from_secs(5)
        });
        let tally = hammer.stop();
        assert!(tally.failures.is_empty(), "{:?}", tally.failures);
        assert_eq!(server.worker_pids(), workers, "nobody was taken for silent");
        assert_eq!(kept.get("/").status(), 200, "nor for idle");
        server.signal(Signal::SIGHUP);
        server.wait_ready(4);
        server.signal(Signal::SIGTERM);
        server.assert_exits(0).within(patience());
    }
}

// ----- privileges -----

/// Logs, the socket and the pidfile stay usable for workers of another user through a reload and an upgrade.
#[test]
fn workers_of_another_user_go_through_reload_and_upgrade() {
    must_be_root("serve as another user");
    let rgun = Rgun::app("builtin:hello").workers(2);
    let directory = rgun.directory();
    run(Command::new("chmod").arg("777").arg(&directory));
    let file = |name: &str| directory.join(name);
    let socket = file("server.sock");
    let server = rgun
        .bind(format!("unix:{}", socket.display()))
        .args(["--user", "nobody", "--timeout", "2", "--umask", "0o077"])
        .arg("--access-logfile")
        .arg(file("access.log"))
        .arg("-p")
        .arg(file("server.pid"))
        .start();
    ok(&server);
    server.signal(Signal::SIGHUP);
    server.wait_ready(4);
    server.wait_for_workers(2);
    ok(&server);
    server.signal(Signal::SIGUSR2);
    server.wait_ready(6);
    let pid = |name: &str| -> Option<i32> {
        fs::read_to_string(file(name)).ok()?.trim().parse().ok()
    };
    let second = answer("the new master's pidfile", patience(), || {
        pid("server.pid.2")
    });
    ok(&server);
    server.signal(Signal::SIGTERM);
    server.assert_exits(0).within(patience());
    until("the new master has the pidfile", patience(), || {
        pid("server.pid") == Some(second)
    });
    let user = nix::unistd::User::from_name("nobody")
        .expect("a database")
        .expect("nobody");
    let before = fs::metadata(&socket).expect("the socket");
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&before),
        user.uid.as_raw()
    );
    let mut client = Client::connect(&crate::harness::Address::Unix(socket.clone()));
    assert_eq!(client.get("/last").status(), 200);
    until("the request is logged", patience(), || {
        fs::read_to_string(file("access.log")).is_ok_and(|log| log.contains("/last"))
    });
    // A reload, and its workers open the log again.
    fs::rename(file("access.log"), file("access.log.1")).expect("it is there");
    process::signal(second, Signal::SIGHUP);
    server.wait_ready(8);
    until("the new workers log", patience(), || {
        let status = Client::connect(&crate::harness::Address::Unix(socket.clone()))
            .get("/new")
            .status();
        status == 200
            && fs::read_to_string(file("access.log")).is_ok_and(|log| log.contains("/new"))
    });
    assert_eq!(server.count_lines("[ERROR]"), 0);
    process::signal(second, Signal::SIGTERM);
    until("all is gone", patience(), || {
        !socket.exists() && pid("server.pid").is_none()
    });
}
