//! The pidfile: made beside its place and renamed into it, so that a reader never sees half a number; refused where a
//! live process owns it. Gunicorn: `gunicorn/pidfile.py`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// What clocks and time stamps may be apart.
const SLACK: Duration = Duration::from_secs(2);

/// Why there is no pidfile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidfileError {
    /// A live process is in it.
    #[error("Already running on PID {owner} (or pid file '{path}' is stale)", path = path.display())]
    Taken {
        /// The process.
        owner: i32,
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write the pidfile '{path}'", path = path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Our pidfile.
#[derive(Debug)]
pub(crate) struct Pidfile {
    path: PathBuf,
    /// Where it is to be once there is no old master: `path` without its `.2`.
    real: PathBuf,
    pid: u32,
}

impl Pidfile {
    /// Writes this process's id.
    ///
    /// # Errors
    /// A live owner, or a place that cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, PidfileError> {
        let pid = std::process::id();
        if let Some(owner) = live_owner(path)
            && u32::try_from(owner) != Ok(pid)
        {
            return Err(PidfileError::Taken {
                owner,
                path: path.to_path_buf(),
            });
        }
        write(path, pid).map_err(|source| PidfileError::Unwritable {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            real: path.to_path_buf(),
            pid,
        })
    }

    /// Writes this process's id beside `path`, which is the old master's while that lives.
    ///
    /// # Errors
    /// As with [`create`](Self::create).
    pub(crate) fn create_second(path: &Path) -> Result<Self, PidfileError> {
        Ok(Self {
            real: path.to_path_buf(),
            ..Self::create(&second(path))?
        })
    }

    /// Moves it to its real name, once the master that had it is gone.
    ///
    /// # Errors
    /// Those of rename(2).
    pub(crate) fn promote(&mut self) -> io::Result<()> {
        if self.path != self.real {
            fs::rename(&self.path, &self.real)?;
            self.path.clone_from(&self.real);
        }
        Ok(())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, if it is still ours.
    pub(crate) fn remove(&self) {
        if read(&self.path).and_then(|pid| u32::try_from(pid).ok()) == Some(self.pid) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `PATH.2`: where a new master keeps its pidfile while the old one lives.
fn second(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".2");
    PathBuf::from(name)
}

/// What the new master `pid` of the master with the pidfile `path` left behind; it is gone.
pub(crate) fn remove_second(path: &Path, pid: nix::unistd::Pid) {
    let second = second(path);
    let _ = fs::remove_file(temporary(&second, pid));
    if read(&second) == Some(pid.as_raw()) {
        let _ = fs::remove_file(&second);
    }
}

/// Where it is written before it is renamed.
fn temporary(path: &Path, pid: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{pid}"));
    PathBuf::from(name)
}

fn read(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn live_owner(path: &Path) -> Option<i32> {
    let pid = read(path).filter(|pid| *pid > 0)?;
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => {}
        Err(_) => return None,
    }
    if is_zombie(pid) {
        return None;
    }
    let written = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let born = born(pid);
    let reused = written
        .zip(born)
        .is_some_and(|(written, born)| born > written + SLACK);
    (!reused || is_master(pid)).then_some(pid)
}

/// When the process was made, by the wall clock: who was made after the file was written has another's number (proc(5),
/// `starttime`).
fn born(pid: i32) -> Option<SystemTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22; the rest begins with field 3.
    let ticks: u64 = stat
        .rsplit_once(") ")?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok().flatten()?).ok()?;
    let since_boot = Duration::from_millis(ticks.saturating_mul(1000).checked_div(second)?);
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    SystemTime::now().checked_sub(Duration::from(up).saturating_sub(since_boot))
}

/// Whether it is dead, and its parent has not asked yet.
fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
    })
}

/// Whether it names itself a master. So a clock that was set forward does not make a live one look like another process.
fn is_master(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.windows(8).any(|word| word == b": master"))
}

fn write(path: &Path, pid: u32) -> io::Result<()> {
    let temporary = temporary(path, pid);
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&temporary)?;
        writeln!(file, "{pid}")?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_owner_is_refused_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let error = Pidfile::create(&path).unwrap_err();
        assert!(
            error.to_string().starts_with("Already running on PID 1 "),
            "{error}"
        );
        fs::write(&path, "2147483646\n").unwrap();
        let pidfile = Pidfile::create(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        pidfile.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_number_that_another_process_has_by_now_is_no_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        fs::write(&path, format!("{}\n", other.id())).unwrap();
        assert!(Pidfile::create(&path).is_err(), "it may have written it");
        let written = SystemTime::now() - Duration::from_secs(3600);
        fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(written))
            .unwrap();
        let created = Pidfile::create(&path);
        assert!(created.is_ok());
        created.unwrap().remove();
        fs::write(&path, format!("{}\n", other.id())).unwrap();
        other.kill().unwrap();
        let created = std::iter::repeat_with(|| Pidfile::create(&path)).find(Result::is_ok);
        other.wait().unwrap();
        assert!(created.is_some(), "a zombie owns nothing");
    }

    #[test]
    fn a_pidfile_that_another_took_over_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let pidfile = Pidfile::create(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        pidfile.remove();
        assert!(path.exists());
    }

    #[test]
    fn the_second_master_moves_its_file_when_it_is_promoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut pidfile = Pidfile::create_second(&path).unwrap();
        assert!(!path.exists() && second(&path).exists());
        pidfile.promote().unwrap();
        assert!(path.exists() && !second(&path).exists());
        pidfile.remove();
        assert!(!path.exists());
    }

    #[test]
    fn only_what_is_the_gone_masters_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(second(&path), "12\n").unwrap();
        fs::write(temporary(&second(&path), 11), "").unwrap();
        remove_second(&path, nix::unistd::Pid::from_raw(11));
        assert!(second(&path).exists());
        assert!(!temporary(&second(&path), 11).exists());
        remove_second(&path, nix::unistd::Pid::from_raw(12));
        assert!(!second(&path).exists());
    }
}
