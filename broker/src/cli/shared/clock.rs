//! A clock that processes of one machine share.

/// The time in nanoseconds since some moment that is the same for all processes of this machine.
#[cfg(unix)]
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The time in nanoseconds since some moment that is the same for all processes of this machine.
///
/// The standard library has no monotonic clock that can be told to another process, so this is the
/// time of day: somebody who sets it meanwhile spoils what is measured.
#[cfg(not(unix))]
pub(crate) fn now_ns() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
