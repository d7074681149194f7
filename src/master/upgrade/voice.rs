//! What a new master tells the old one: a line through a pipe, whose number stands in `RGUN_READY`. Its end without a word
//! means nothing; the process's own end is told by SIGCHLD.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::Pid;

use super::PARENT;
use crate::os::fds::{adopt, keep_on_exec};
use crate::os::pidfd::Process;

/// The variable with the number of the pipe's end.
pub(crate) const READY: &str = "RGUN_READY";
/// The variable with the number of the file that holds the keys of TLS sessions.
pub(crate) const TICKETS: &str = "RGUN_TICKETS";
/// More than anything that is said.
const LONGEST: usize = 4096;

/// What a new master says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// All its workers are ready.
    Ready,
    /// It did not come to be. Why, for people.
    Failed(String),
}

impl Word {
    fn line(&self) -> String {
        match self {
            Self::Ready => String::from("ready\n"),
            Self::Failed(why) => format!("failed {}\n", why.replace('\n', " ")),
        }
    }

    fn of_line(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            None if line == "ready" => Some(Self::Ready),
            Some(("failed", why)) => Some(Self::Failed(why.to_owned())),
            None | Some(_) => None,
        }
    }

    /// Says it; an old master that is gone does not hear it, and need not.
    pub(super) fn say(&self, voice: &mut impl Write) {
        let _ = voice.write_all(self.line().as_bytes());
    }
}

/// The old master's end of the pipe.
#[derive(Debug)]
pub(super) struct Ear {
    pipe: PipeReader,
    heard: Vec<u8>,
}

impl Ear {
    /// Both ends; they close on exec.
    ///
    /// # Errors
    /// Those of pipe(2).
    pub(super) fn pair() -> io::Result<(Self, PipeWriter)> {
        let (pipe, voice) = io::pipe()?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let ear = Self {
            pipe,
            heard: Vec::new(),
        };
        Ok((ear, voice))
    }

    /// What has been said since the last time, and whether more may come.
    pub(super) fn listen(&mut self) -> (Vec<Word>, bool) {
        let mut bytes = [0; LONGEST];
        let open = loop {
            match self.pipe.read(&mut bytes) {
                Ok(0) => break false,
                Ok(length) => self.heard.extend(bytes.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
            // Whoever says that much is no master.
            if self.heard.len() > LONGEST {
                break false;
            }
        };
        let mut words = Vec::new();
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            words.extend(Word::of_line(String::from_utf8_lossy(&line).trim_end()));
        }
        (words, open)
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The old master, as a new one knows it.
#[derive(Debug)]
pub(crate) struct OldMaster {
    pid: Pid,
    /// Tells its end; not on an old kernel.
    process: Option<Process>,
    voice: Option<File>,
    tickets: Option<File>,
}

impl OldMaster {
    /// The process that started this one, if it said that it is an old master.
    pub(crate) fn of_environment() -> Option<Self> {
        let number = |name: &str| std::env::var(name).ok()?.parse().ok();
        let pid = number(PARENT).map(Pid::from_raw);
        let inherited = |name: &str| -> Option<File> {
            let fd = adopt(number(name).filter(|number| *number > 2)?).ok()?;
            keep_on_exec(&fd, false).ok()?;
            Some(fd.into())
        };
        let is_parent = |pid: &Pid| *pid == nix::unistd::getppid();
        let pid = pid.filter(is_parent)?;
        // Looked at again: the descriptor may be another process's, if the parent went meanwhile.
        let process = Process::open(pid).ok().filter(|_| is_parent(&pid));
        Some(Self {
            pid,
            process,
            voice: inherited(READY),
            tickets: inherited(TICKETS),
        })
    }

    /// Its process id.
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Its copy of the keys of TLS sessions.
    pub(crate) fn take_tickets(&mut self) -> Option<File> {
        self.tickets.take()
    }

    /// Tells it that all workers are ready.
    pub(super) fn tell_ready(&mut self) {
        if let Some(mut voice) = self.voice.take() {
            Word::Ready.say(&mut voice);
        }
    }

    /// Readable once it has ended.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(AsFd::as_fd)
    }

    /// Leaves what it has given open for another start of this program in the same process.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub(crate) fn keep_on_exec(&self) -> io::Result<()> {
        let mut given = [&self.voice, &self.tickets].into_iter().flatten();
        given.try_for_each(|file| keep_on_exec(file, true))
    }
}

/// What a new master is to inherit, with a number of at least `floor`.
///
/// # Errors
/// EMFILE.
pub(super) fn inheritable(given: impl AsFd, floor: RawFd) -> io::Result<OwnedFd> {
    let given = crate::os::fds::duplicate_above(given, floor)?;
    keep_on_exec(&given, true)?;
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_heard_whole_and_in_order() {
        let (mut ear, mut voice) = Ear::pair().unwrap();
        assert_eq!(ear.listen(), (vec![], true));
        voice.write_all(b"rea").unwrap();
        assert_eq!(ear.listen(), (vec![], true));
        voice.write_all(b"dy\nnonsense\n").unwrap();
        assert_eq!(ear.listen(), (vec![Word::Ready], true));
        let failed = Word::Failed(String::from("cannot\nbind"));
        failed.say(&mut voice);
        drop(voice);
        let heard = Word::Failed(String::from("cannot bind"));
        assert_eq!(ear.listen(), (vec![heard], false));
        assert_eq!(ear.listen(), (vec![], false));
    }

    #[test]
    fn who_never_ends_a_line_is_not_listened_to_for_ever() {
        let (mut ear, mut voice) = Ear::pair().unwrap();
        voice.write_all(&[b'x'; 2 * LONGEST]).unwrap();
        assert_eq!(ear.listen(), (vec![], false));
    }
}
