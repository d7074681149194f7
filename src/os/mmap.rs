//! Memory that outlives a fork in common.
#![expect(unsafe_code, reason = "a mapping seen as atomics")]

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// `words` zeroed counters that this process and all its future children share. Never unmapped; pages that nobody
/// touches cost nothing.
///
/// # Errors
/// ENOMEM.
pub(crate) fn shared(words: usize) -> io::Result<&'static [AtomicU64]> {
    let bytes = words
        .checked_mul(size_of::<AtomicU64>())
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: an anonymous mapping at an address of the kernel's choice aliases nothing.
    let start = unsafe {
        mmap_anonymous(
            None,
            bytes,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE,
        )
    }?;
    let start = start.as_ptr().cast::<AtomicU64>();
    // SAFETY: page-aligned, `words` long, zero is a valid AtomicU64, and the mapping is never removed.
    Ok(unsafe { std::slice::from_raw_parts(start, words) })
}
