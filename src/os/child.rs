//! What the kernel tells of a child that lives (proc(5)). A child that is gone tells nothing.

use std::time::Duration;

use nix::unistd::{Pid, SysconfVar, sysconf};

/// The bytes that it holds in memory, shared ones too.
pub(crate) fn resident(pid: Pid) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    Some(pages.saturating_mul(u64::try_from(page).ok()?))
}

/// The processor time that it has had, for itself and for what it asked of the kernel.
pub(crate) fn processor_time(pid: Pid) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let second = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let second = u64::try_from(second).ok().filter(|ticks| *ticks > 0)?;
    Some(Duration::from_millis(
        ticks(&stat)?.saturating_mul(1000) / second,
    ))
}

/// Fields 14 and 15, `utime` and `stime`.
fn ticks(stat: &str) -> Option<u64> {
    let fields = stat.rsplit_once(") ")?.1;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
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
        let before = processor_time(own).unwrap();
        while processor_time(own).unwrap() == before {
            std::hint::black_box([0_u8; 4096]);
        }
        assert_eq!(resident(Pid::from_raw(i32::MAX)), None);
    }

    #[test]
    fn the_state_follows_a_name_with_anything_in_it() {
        assert_eq!(state("12 (a) T (b) R 1 12"), Some('R'));
        assert_eq!(state("12 (rgun) T 1 12"), Some('T'));
    }

    #[test]
    fn processor_time_is_the_users_and_the_systems() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194304 5 6 7 8 300 45 9 9 20 0 1 0";
        assert_eq!(ticks(stat), Some(345));
        assert_eq!(ticks("12 (a) S 1"), None);
    }
}
