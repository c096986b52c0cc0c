//! How much freed memory the system's allocator keeps.
//!
//! glibc gives threads arenas of their own, eight for each processor, and each keeps what was freed in it. The threads that
//! work on files hand their memory on, so every arena grows to the size of the largest piece of work: a run of 100,000 files
//! on two processors took 175 MiB, and 120 MiB with two arenas, in the same time. (Allocators that keep a heap for each
//! thread did no better: jemalloc took 170 MiB, mimalloc 530 MiB.)
//!
//! What it takes from the kernel for one buffer, or trims from the end of an arena, comes back as pages that fault one by
//! one: of hashing a large file that was a third of the time. So buffers are taken from the arenas, and those are trimmed
//! late. Other systems' allocators are left as they are.

/// Arenas that all threads share.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;
/// Buffers of up to as many bytes are taken from the arenas; the most that glibc allows.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const IN_ARENAS_BYTES: i32 = 32 << 20;
/// What may be free at the end of an arena before it goes back to the kernel.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: i32 = 64 << 20;

/// Limits the arenas and what they keep. To be called before there is a second thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn limit() {
    let tunables = std::env::var_os("GLIBC_TUNABLES").unwrap_or_default();
    let tunables = tunables.to_string_lossy();
    for (parameter, value, variable, tunable) in [
        (libc::M_ARENA_MAX, ARENAS, "MALLOC_ARENA_MAX", "glibc.malloc.arena_max="),
        (libc::M_MMAP_THRESHOLD, IN_ARENAS_BYTES, "MALLOC_MMAP_THRESHOLD_", "glibc.malloc.mmap_threshold="),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES, "MALLOC_TRIM_THRESHOLD_", "glibc.malloc.trim_threshold="),
    ] {
        // One that the user has set holds.
        if std::env::var_os(variable).is_some() || tunables.contains(tunable) {
            continue;
        }
        #[expect(unsafe_code, reason = "there is no safe way to tell glibc, and it can only be told in the process")]
        // SAFETY: `mallopt` takes two numbers and no pointer, and no other thread runs yet. If it refuses, nothing changes.
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}

/// Nothing to limit.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn limit() {}
