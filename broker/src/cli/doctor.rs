//! `localhub doctor`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use localhub::config::{Config, Loaded};
use localhub::logging::escaped;
use localhub::paths;
use localhub_client::admin::{self, HubView};
use localhub_client::endpoint::EndpointError;
use localhub_client::{Client, Endpoint, Error, Options};
use serde::Serialize;

use super::Globals;
use super::shared::exit::Exit;
use super::shared::output::Output;
use super::shared::units::{bytes, count, duration, full};
use super::shared::{block_on, link};

/// Check that a broker runs here, or could, and say what to do
///
/// Looks at the configuration, the endpoint and its folder, the lock, the broker, the limit of open
/// files and the log. Changes nothing. A warning is no failure; without a broker it is one warning.
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub doctor\n  localhub doctor --json | jq 'select(.result != \"ok\")'"
)]
pub(crate) struct Args {}

/// What was looked at, and how it is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Check {
    check: &'static str,
    result: Verdict,
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// From this share of the memory limit on a slow client may soon cost messages.
const MEMORY_WARNING_PERCENT: u64 = 80;

/// Below this many open files a few hundred clients are all.
#[cfg(unix)]
const OPEN_FILES_LOW: u64 = 1_024;

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            result: Verdict::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            check,
            result: Verdict::Warn,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            result: Verdict::Fail,
            ..Self::warn(check, found, advice)
        }
    }

    fn lines(&self) -> String {
        let verdict = match self.result {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        let mut lines = format!("{verdict:<4}  {:<9}  {}", self.check, escaped(&self.found));
        if let Some(advice) = &self.advice {
            lines += &format!("\n{:17}{}", "", escaped(advice));
        }
        lines
    }
}

pub(crate) fn run(_: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let checks = examine(globals).await;
        let mut out = Output::new(globals.json);
        for check in &checks {
            if out.is_json() {
                out.object(check)?;
            } else {
                out.line(check.lines())?;
            }
        }
        out.flush()?;
        let failed = checks.iter().any(|check| check.result == Verdict::Fail);
        Ok(if failed { Exit::Failed } else { Exit::Done })
    })
}

async fn examine(globals: &Globals) -> Vec<Check> {
    let mut checks = Vec::new();
    let config = match globals.load(None) {
        Ok(loaded) => {
            checks.push(configuration(&loaded));
            loaded.config
        }
        Err(error) => {
            checks.push(Check::fail(
                "config",
                format!("{error:#}"),
                "correct it, or choose another with --config",
            ));
            Config {
                endpoint: globals.endpoint.clone(),
                ..Config::default()
            }
        }
    };
    match config.resolve_endpoint() {
        Ok(endpoint) => {
            let why = match endpoint.is_default() {
                true => "the default",
                false => "as configured",
            };
            checks.push(Check::ok("endpoint", format!("{endpoint}, {why}")));
            let hub = ask(&endpoint).await;
            #[cfg(unix)]
            checks.extend([directory(&endpoint), lock(&endpoint, hub.is_ok())]);
            match hub {
                Ok(hub) => checks.extend(broker(&hub)),
                Err(error) => checks.push(no_broker(&error)),
            }
        }
        Err(error) => {
            let advice = "set another with --endpoint, $LOCALHUB_ENDPOINT or the configuration";
            checks.push(Check::fail("endpoint", error.to_string(), advice));
        }
    }
    #[cfg(unix)]
    checks.push(open_files(&config));
    checks.push(log(&config));
    checks
}

fn configuration(loaded: &Loaded) -> Check {
    match (&loaded.file, paths::config_file()) {
        (Some(file), _) => Check::ok("config", format!("{} is valid", file.display())),
        (None, Some(usual)) => Check::ok(
            "config",
            format!("all defaults, there is no {}", usual.display()),
        ),
        (None, None) => Check::ok("config", "all defaults, this user has no home"),
    }
}

async fn ask(endpoint: &Endpoint) -> Result<HubView, Error> {
    let options = Options::new()
        .reconnect(false)
        .resume(false)
        .session_ttl(Duration::ZERO);
    let client: Client = options.endpoint(endpoint.clone()).connect().await?;
    let hub = client.admin(admin::STATUS, &()).await;
    link::close(client).await;
    hub
}

#[cfg(unix)]
fn directory(endpoint: &Endpoint) -> Check {
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
            "see above; clients refuse to connect there",
        ),
    }
}

/// Whether somebody holds the lock. Looked at only: taking it could get in a broker's way.
#[cfg(unix)]
fn lock(endpoint: &Endpoint, answers: bool) -> Check {
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
    // Shared, and only for the moment: a broker that starts just now may have to be started again.
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

fn broker(hub: &HubView) -> Vec<Check> {
    let ours = env!("CARGO_PKG_VERSION");
    let running = format!(
        "version {}, pid {}, running for {}",
        hub.version,
        hub.pid,
        duration(hub.uptime_ms)
    );
    let held = hub.queued_bytes + hub.retained_bytes;
    let memory = format!(
        "{} of {} in use",
        bytes(held),
        bytes(hub.memory_limit_bytes)
    );
    let lost = count(hub.messages_lost, "message");
    vec![
        match hub.version == ours {
            true => Check::ok("broker", running),
            false => Check::warn(
                "broker",
                format!("{running}; this command is {ours}"),
                "restart the broker to have both the same",
            ),
        },
        match held.saturating_mul(100) / hub.memory_limit_bytes.max(1) >= MEMORY_WARNING_PERCENT {
            true => Check::warn(
                "memory",
                memory,
                "see who does not read with `localhub clients`, or raise limits.memory_bytes",
            ),
            false => Check::ok("memory", memory),
        },
        match hub.messages_lost {
            0 => Check::ok("delivery", "nothing was lost"),
            _ => Check::warn(
                "delivery",
                format!("{lost} lost by clients that read too slowly"),
                "see which with `localhub clients`",
            ),
        },
    ]
}

fn no_broker(error: &Error) -> Check {
    match error {
        Error::NotRunning { .. } => {
            Check::warn("broker", "not running", "start one with `localhub serve`")
        }
        error => Check::fail(
            "broker",
            format!("{error}"),
            "clients cannot connect either; see the log of the broker",
        ),
    }
}

#[cfg(unix)]
fn open_files(config: &Config) -> Check {
    use rustix::process::{Resource, getrlimit};

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

fn log(config: &Config) -> Check {
    let Some(folder) = config.log.directory.clone().or_else(paths::state_dir) else {
        return Check::warn(
            "log",
            "no folder, this user has no home",
            "set log.directory",
        );
    };
    match fs::metadata(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Check::ok(
            "log",
            format!("{} will be made by the broker", folder.display()),
        ),
        Err(error) => Check::fail(
            "log",
            format!("{}: {error}", folder.display()),
            "set another log.directory",
        ),
        Ok(found) if !found.is_dir() => Check::fail(
            "log",
            format!("{} is not a folder", folder.display()),
            "remove it, or set another log.directory",
        ),
        Ok(_) => log_access(&folder),
    }
}

#[cfg(unix)]
fn log_access(folder: &Path) -> Check {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{Access, access};

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

#[cfg(not(unix))]
fn log_access(folder: &Path) -> Check {
    Check::ok("log", folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> HubView {
        HubView {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: 4711,
            uptime_ms: 7_500_000,
            memory_limit_bytes: 1_000,
            ..HubView::default()
        }
    }

    fn results(checks: &[Check]) -> Vec<(&'static str, Verdict)> {
        checks
            .iter()
            .map(|check| (check.check, check.result))
            .collect()
    }

    #[test]
    fn a_healthy_broker_is_all_ok() {
        let checks = broker(&hub());
        assert!(
            checks.iter().all(|check| check.result == Verdict::Ok),
            "{checks:?}"
        );
    }

    #[test]
    fn every_trouble_of_a_broker_is_a_warning_of_its_own() {
        let mut sick = hub();
        sick.version = "9.9.9".into();
        sick.queued_bytes = 500;
        sick.retained_bytes = 300;
        sick.messages_lost = 1;
        let expected = [
            ("broker", Verdict::Warn),
            ("memory", Verdict::Warn),
            ("delivery", Verdict::Warn),
        ];
        assert_eq!(results(&broker(&sick)), expected);
        sick.retained_bytes = 299;
        assert_eq!(broker(&sick)[1].result, Verdict::Ok);
    }

    #[test]
    fn advice_is_below_what_was_found() {
        let check = Check::warn("broker", "not running", "start one with `localhub serve`");
        assert_eq!(
            check.lines(),
            "warn  broker     not running\n                 start one with `localhub serve`"
        );
        let check = Check::ok("directory", "/run/a\n\u{1b}[m");
        assert_eq!(check.lines(), r"ok    directory  /run/a\n\u{1b}[m");
    }

    #[test]
    fn programs_get_one_object_for_each_check() {
        let check = Check::warn("broker", "not running", "start one");
        assert_eq!(
            serde_json::to_string(&check).unwrap(),
            r#"{"check":"broker","result":"warn","found":"not running","advice":"start one"}"#
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_log_folder_that_others_can_look_into_is_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.log.directory = Some(folder.path().into());
        for (mode, expected) in [(0o700, Verdict::Ok), (0o750, Verdict::Warn)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(log(&config).result, expected);
        }
        config.log.directory = Some(folder.path().join("missing"));
        assert_eq!(log(&config).result, Verdict::Ok);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        config.log.directory = Some(file);
        assert_eq!(log(&config).result, Verdict::Fail);
    }

    #[cfg(unix)]
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
