//! What only root may do, for faults that need it. No test is left out for the want of it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{geteuid, getpid};

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// For what nobody else can do, with a user name space or without.
///
/// # Panics
/// If this is not root.
#[track_caller]
pub(crate) fn must_be_root(to: &str) {
    assert!(is_root(), "only root can {to}: run the tests as root");
}

/// `unshare` with these name spaces. Who is not root becomes it in a user name space of its own.
pub(crate) fn unshare<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let user: &[&str] = if is_root() { &[] } else { &["--map-root-user"] };
    [&["unshare"], user, options].concat()
}

/// A group of processes with a limit of memory (cgroups(7)); removed when it is dropped.
pub(crate) struct MemoryGroup {
    directory: PathBuf,
    /// The file that counts the kernel's kills, and the word before their number.
    kills: (&'static str, &'static str),
}

impl MemoryGroup {
    /// A new one, of version 2 or 1 of the kernel's interface.
    ///
    /// # Errors
    /// Why this machine lets us make none.
    pub(crate) fn new(bytes: u64) -> Result<Self, String> {
        Self::of_version_2(bytes).or_else(|two| {
            Self::of_version_1(bytes).map_err(|one| format!("cgroup2: {two}; cgroup: {one}"))
        })
    }

    fn of_version_2(bytes: u64) -> Result<Self, String> {
        let own = own_group("")?;
        let parent = PathBuf::from("/sys/fs/cgroup").join(own.trim_start_matches('/'));
        // Where it is on already, this changes nothing.
        let enabled = fs::write(parent.join("cgroup.subtree_control"), "+memory");
        let group = Self::made(&parent, ("memory.events", "oom_kill "))?;
        group
            .set("memory.max", bytes)
            .map_err(|error| match enabled {
                Ok(()) => error,
                Err(before) => format!("{error} (memory cannot be controlled: {before})"),
            })?;
        // Not there where the kernel has no swap.
        let _ = group.set("memory.swap.max", 0);
        Ok(group)
    }

    fn of_version_1(bytes: u64) -> Result<Self, String> {
        let own = own_group("memory")?;
        let parent = PathBuf::from("/sys/fs/cgroup/memory").join(own.trim_start_matches('/'));
        let group = Self::made(&parent, ("memory.oom_control", "oom_kill "))?;
        group.set("memory.limit_in_bytes", bytes)?;
        let _ = group.set("memory.memsw.limit_in_bytes", bytes);
        Ok(group)
    }

    fn made(parent: &Path, kills: (&'static str, &'static str)) -> Result<Self, String> {
        let directory = parent.join(format!("rgun-test-{}", getpid()));
        fs::create_dir(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Self { directory, kills })
    }

    fn set(&self, name: &str, value: u64) -> Result<(), String> {
        fs::write(self.directory.join(name), value.to_string())
            .map_err(|error| format!("{name}: {error}"))
    }

    /// Moves a process in: what it takes from now on counts.
    #[track_caller]
    pub(crate) fn take(&self, pid: i32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string())
            .unwrap_or_else(|error| panic!("cannot limit the memory of {pid}: {error}"));
    }

    /// How many of its processes the kernel has killed for want of memory.
    #[track_caller]
    pub(crate) fn kills(&self) -> u64 {
        let (file, word) = self.kills;
        let text = fs::read_to_string(self.directory.join(file)).expect("it is there");
        text.lines()
            .find_map(|line| line.strip_prefix(word)?.parse().ok())
            .unwrap_or_else(|| panic!("no {word:?} in {file}: {text}"))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Only when its processes are gone.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// The group of this process under this controller; the empty one is version 2's.
fn own_group(controller: &str) -> Result<String, String> {
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let mut lines = groups.lines().map(|line| line.splitn(3, ':'));
    lines
        .find_map(|mut parts| {
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            names
                .split(',')
                .any(|name| name == controller)
                .then(|| path.to_owned())
        })
        .ok_or_else(|| format!("this process is in no group of {controller:?}"))
}
