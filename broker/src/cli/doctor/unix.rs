//! What only Unix has: directories with permissions, locks on files, a limit of open files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use localhub::config::Config;
use localhub_client::Endpoint;
use localhub_client::endpoint::EndpointError;
use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};

use super::{Check, to_be_made};
use crate::cli::shared::units::full;

/// Below this many open files a few hundred clients are all.
const OPEN_FILES_LOW: u64 = 1_024;

pub(super) fn directory(endpoint: &Endpoint) -> Check {
    let folder = endpoint.directory().display();
    match endpoint.check_directory() {
        Ok(()) => Check::ok("directory", format!("{folder}, nobody else can change it")),
        Err(EndpointError::Missing { .. }) if endpoint.is_default() => {
            Check::ok("directory", format!("{folder} will be made by the broker"))
        }
        Err(EndpointError::Missing { .. }) => Check::fail(
            "directory",
            format!("{folder} does not exist"),
            format!("make it with `mkdir -m 700 {folder}`, or choose another endpoint"),
        ),
        Err(error) => Check::fail(
            "directory",
            error.to_string(),
            "clients refuse to connect until then",
        ),
    }
}

/// Whether somebody holds the lock.
pub(super) fn lock(endpoint: &Endpoint, answers: bool) -> Check {
    let path = endpoint.lock_path();
    let Ok(file) = fs::File::open(&path) else {
        return match answers {
            true => Check::warn(
                "lock",
                format!("{} is missing under a running broker", path.display()),
                "restart the broker; until then a second one could start",
            ),
            false => Check::ok("lock", "not taken"),
        };
    };
    if answers {
        return Check::ok("lock", format!("{}, held by the broker", path.display()));
    }
    // Asked only if no broker answers, and given back at once: there is no other way to see it.
    match file.try_lock_shared() {
        Ok(()) => Check::ok("lock", format!("{}, free", path.display())),
        Err(_) => {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            let holder = match pid.trim().parse::<u32>() {
                Ok(pid) => format!("process {pid}"),
                Err(_) => "a process".into(),
            };
            Check::fail(
                "lock",
                format!(
                    "{} is held by {holder}, which does not answer",
                    path.display()
                ),
                "a broker that is starting or stopping is gone in a moment; else end that process",
            )
        }
    }
}

pub(super) fn open_files(config: &Config) -> Check {
    // The broker raises the soft limit by itself.
    let Some(limit) = getrlimit(Resource::Nofile).maximum else {
        return Check::ok("files", "no limit on open files");
    };
    let wanted = config.limits.connections;
    let found = format!("at most {} open files", full(limit));
    let advice = "raise the hard limit (`ulimit -Hn`, or LimitNOFILE= of the service)";
    if wanted > limit.saturating_sub(128) {
        let found = format!("{found}, but limits.connections is {}", full(wanted));
        return Check::warn(
            "files",
            found,
            format!("{advice}, or lower limits.connections"),
        );
    }
    match limit < OPEN_FILES_LOW {
        true => Check::warn("files", found, advice),
        false => Check::ok("files", found),
    }
}

/// Whether the broker may make the folder, and those above it that are missing.
pub(super) fn log_to_be_made(folder: &Path) -> Check {
    let above = folder.ancestors().skip(1).find(|above| above.exists());
    match above.map(|above| access(above, Access::WRITE_OK | Access::EXEC_OK)) {
        Some(Err(error)) => Check::fail(
            "log",
            format!(
                "cannot make the folder {}: {}",
                folder.display(),
                std::io::Error::from(error)
            ),
            "make it yourself, or set another log.directory",
        ),
        _ => to_be_made(folder),
    }
}

pub(super) fn log_access(folder: &Path) -> Check {
    let name = folder.display();
    if let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        let error = std::io::Error::from(error);
        return Check::fail(
            "log",
            format!("cannot write to {name}: {error}"),
            "change its permissions, or set another log.directory",
        );
    }
    let mode = fs::metadata(folder).map_or(0, |found| found.permissions().mode());
    match mode & 0o077 {
        0 => Check::ok("log", format!("{name}, private")),
        _ => Check::warn(
            "log",
            format!("{name} is open to other users (mode {:04o})", mode & 0o7777),
            format!("close it with `chmod 700 {name}`; the files in it are private"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    #[test]
    fn a_lock_that_is_held_by_a_silent_process_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::new(folder.path().join("hub.sock")).unwrap();
        assert_eq!(lock(&endpoint, false).result, Verdict::Ok);
        assert_eq!(lock(&endpoint, true).result, Verdict::Warn);

        fs::write(endpoint.lock_path(), "4711\n").unwrap();
        assert_eq!(lock(&endpoint, false).result, Verdict::Ok);
        assert_eq!(lock(&endpoint, true).result, Verdict::Ok);

        let held = fs::File::open(endpoint.lock_path()).unwrap();
        held.lock().unwrap();
        let check = lock(&endpoint, false);
        assert_eq!(check.result, Verdict::Fail);
        assert!(
            check
                .found
                .contains("held by process 4711, which does not answer"),
            "{check:?}"
        );
    }
}
