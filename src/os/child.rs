//! What the kernel tells of a child that lives (proc(5)). A child that is gone tells nothing.

use nix::unistd::{Pid, SysconfVar, sysconf};

/// The bytes that it holds in memory, shared ones too.
pub(crate) fn resident(pid: Pid) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    Some(pages.saturating_mul(u64::try_from(page).ok()?))
}

/// Whether it has been stopped, by SIGSTOP or a debugger: such a process handles no signal but KILL.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| matches!(state(&stat), Some('T' | 't')))
}

/// The third field: the second, a name, may hold spaces and brackets.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_memory_and_runs() {
        let own = nix::unistd::getpid();
        assert!(resident(own).is_some_and(|bytes| bytes > 1 << 16));
        assert!(!is_stopped(own));
        assert_eq!(resident(Pid::from_raw(i32::MAX)), None);
    }

    #[test]
    fn the_state_follows_a_name_with_anything_in_it() {
        assert_eq!(state("12 (a) T (b) R 1 12"), Some('R'));
        assert_eq!(state("12 (rgun) T 1 12"), Some('T'));
    }
}
