//! The command line of the subcommand `upgrade`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgGroup, ArgMatches, Command, value_parser};

use super::{Outcome, Program, Sources, outcome};

/// The subcommand's name; a module of this name has to be served as `upgrade:application`.
const NAME: &str = "upgrade";

/// An upgrade that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Upgrade {
    /// Which master.
    pub(crate) target: Target,
    /// How long the new master has until it is ready.
    pub(crate) timeout: Duration,
    /// How long a new master that is not wanted has to end before it is killed.
    pub(crate) kill_after: Duration,
}

/// Which master is to be upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// By its process id.
    Pid(i32),
    /// By the file with its process id.
    Pidfile(PathBuf),
}

/// What the command line asks for, if it is this subcommand.
pub(crate) fn asked(program: &Program, sources: &Sources) -> Option<Result<Upgrade, Outcome>> {
    let mut words = sources.argv.iter().skip(1);
    words
        .next()
        .is_some_and(|word| word == NAME)
        .then(|| parse(program, words.cloned()))
}

fn parse(program: &Program, words: impl Iterator<Item = String>) -> Result<Upgrade, Outcome> {
    let matches = command(program)
        .try_get_matches_from(words)
        .map_err(|error| outcome(&error, ""))?;
    let pid = matches.get_one("pid").copied().map(Target::Pid);
    let pidfile = || matches.get_one("pidfile").cloned().map(Target::Pidfile);
    let target = pid
        .or_else(pidfile)
        .ok_or_else(|| Outcome::Usage(String::from("error: --pid or --pidfile is needed\n")))?;
    Ok(Upgrade {
        target,
        timeout: seconds(&matches, "timeout"),
        kill_after: seconds(&matches, "kill-after"),
    })
}

fn seconds(matches: &ArgMatches, name: &str) -> Duration {
    matches.get_one(name).copied().unwrap_or_default()
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| String::from("not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn command(program: &Program) -> Command {
    let name = program.name;
    Command::new(format!("{name} {NAME}"))
        .about("Replaces a running server by a new start of the same command line, without losing a request")
        .no_binary_name(true)
        .disable_version_flag(true)
        .max_term_width(110)
        .arg(
            Arg::new("pid")
                .long("pid")
                .value_name("PID")
                .value_parser(value_parser!(i32).range(1..))
                .help("The master's process id"),
        )
        .arg(
            Arg::new("pidfile")
                .short('p')
                .long("pidfile")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The file with the master's process id (the server's --pid)"),
        )
        .group(
            ArgGroup::new("master")
                .args(["pid", "pidfile"])
                .required(true),
        )
        .arg(
            Arg::new("timeout")
                .short('t')
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(duration)
                .default_value("60")
                .help("How long the new master may take until all its workers are ready"),
        )
        .arg(
            Arg::new("kill-after")
                .long("kill-after")
                .value_name("SECONDS")
                .value_parser(duration)
                .default_value("35")
                .help("How long a new master that is given up has to end before it is killed"),
        )
        .after_help(
            "Sends USR2 to the master, waits until the new master's workers are all ready, sends TERM to the old one and \
             waits for its end. If the new master ends, or is not ready in time, it is ended and the old one goes on as \
             before.\n\n\
             Exit codes: 0 the new master serves and the old one has ended, 1 nothing has changed: the old one serves, 2 \
             command line, 5 neither: the message says what there is.",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::AppArgument;

    const PROGRAM: Program = Program {
        name: "server",
        about: "",
        app: AppArgument::None,
        services: None,
    };

    fn ask(words: &[&str]) -> Option<Result<Upgrade, Outcome>> {
        let argv = std::iter::once("server").chain(words.iter().copied());
        let sources = Sources {
            argv: argv.map(str::to_owned).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            python: None,
        };
        asked(&PROGRAM, &sources)
    }

    #[test]
    fn the_first_word_decides() {
        assert!(ask(&[]).is_none());
        assert!(ask(&["upgrade:application"]).is_none());
        assert!(ask(&["-w", "2", "upgrade"]).is_none());
        let upgrade = ask(&["upgrade", "--pid", "7", "--timeout", "1.5"]);
        assert_eq!(
            upgrade,
            Some(Ok(Upgrade {
                target: Target::Pid(7),
                timeout: Duration::from_millis(1500),
                kill_after: Duration::from_secs(35),
            }))
        );
        let upgrade = ask(&["upgrade", "-p", "/run/app.pid"]);
        let target = Target::Pidfile(PathBuf::from("/run/app.pid"));
        assert_eq!(
            upgrade.map(|found| found.map(|u| u.target)),
            Some(Ok(target))
        );
    }

    #[test]
    fn a_command_line_that_cannot_be_read_is_usage() {
        for words in [
            &["upgrade"][..],
            &["upgrade", "--pid", "0"],
            &["upgrade", "--pid", "x"],
            &["upgrade", "--pid", "1", "--pidfile", "f"],
            &["upgrade", "--pid", "1", "--timeout", "-1"],
            &["upgrade", "--pid", "1", "--timeout", "inf"],
            &["upgrade", "--pid", "1", "app:app"],
        ] {
            let found = ask(words);
            assert!(
                matches!(found, Some(Err(Outcome::Usage(_)))),
                "{words:?}: {found:?}"
            );
        }
        assert!(matches!(
            ask(&["upgrade", "--help"]),
            Some(Err(Outcome::Help(_)))
        ));
    }
}
