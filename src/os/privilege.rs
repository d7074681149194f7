//! User, group, and the limit of open files.

use std::ffi::CString;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User};

/// Whose ids a worker takes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    user: Option<(Uid, Option<String>)>,
    group: Option<Gid>,
    initgroups: bool,
}

impl Identity {
    /// Looks up `--user` and `--group`, each a name or a number.
    ///
    /// # Errors
    /// A name that is not in the databases.
    pub(crate) fn look_up(
        user: Option<&str>,
        group: Option<&str>,
        initgroups: bool,
    ) -> io::Result<Self> {
        let user = user.map(find_user).transpose()?;
        let group = group.map(find_group).transpose()?;
        Ok(Self {
            user,
            group,
            initgroups,
        })
    }

    /// The user and group ids to give files to, where they differ from ours.
    pub(crate) fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (self.user.as_ref().map(|(uid, _)| *uid), self.group)
    }

    /// Takes it on, for good: supplementary groups, group, user, in the order that keeps the right to do the next.
    ///
    /// # Errors
    /// EPERM, for who is not root and asks for another identity.
    pub(crate) fn assume(&self) -> io::Result<()> {
        let current = nix::unistd::geteuid();
        if let Some(gid) = self.group.filter(|gid| *gid != nix::unistd::getegid()) {
            if current.is_root() && !self.initgroups {
                nix::unistd::setgroups(&[gid])?;
            }
            nix::unistd::setgid(gid)?;
        }
        if let Some((uid, name)) = &self.user {
            if self.initgroups
                && let Some(name) = name
                && let Ok(name) = CString::new(name.as_str())
            {
                nix::unistd::initgroups(
                    &name,
                    self.group.unwrap_or_else(nix::unistd::getegid),
                )?;
            }
            if *uid != current {
                nix::unistd::setuid(*uid)?;
            }
        }
        Ok(())
    }
}

fn find_user(name: &str) -> io::Result<(Uid, Option<String>)> {
    if let Ok(number) = name.parse() {
        let uid = Uid::from_raw(number);
        let found = User::from_uid(uid).ok().flatten().map(|user| user.name);
        return Ok((uid, found));
    }
    match User::from_name(name)? {
        Some(user) => Ok((user.uid, Some(user.name))),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no user named {name:?}"),
        )),
    }
}

fn find_group(name: &str) -> io::Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(name)? {
        Some(group) => Ok(group.gid),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no group named {name:?}"),
        )),
    }
}

/// Raises the soft limit of open files to the hard one; the new soft limit. A process that may open more serves more,
/// and nothing of ours is sized by it.
///
/// # Errors
/// Those of getrlimit(2), setrlimit(2).
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
