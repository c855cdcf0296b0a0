//! `localhub doctor`.

#[cfg(unix)]
mod unix;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use localhub::config::{Config, Loaded};
use localhub::logging::escaped;
use localhub::paths;
use localhub_client::admin::{self, HubView};
use localhub_client::{Client, Endpoint, Error, Options};
use serde::Serialize;

use super::Globals;
use super::shared::exit::Exit;
use super::shared::output::Output;
use super::shared::units::{bytes, count, duration};
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
            checks.extend([
                unix::directory(&endpoint),
                unix::lock(&endpoint, hub.is_ok()),
            ]);
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
    checks.push(unix::open_files(&config));
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

fn log(config: &Config) -> Check {
    let Some(folder) = config.log.directory.clone().or_else(paths::state_dir) else {
        return Check::warn(
            "log",
            "no folder, this user has no home",
            "set log.directory",
        );
    };
    match fs::metadata(&folder) {
        #[cfg(unix)]
        Err(error) if error.kind() == ErrorKind::NotFound => unix::log_to_be_made(&folder),
        #[cfg(not(unix))]
        Err(error) if error.kind() == ErrorKind::NotFound => to_be_made(&folder),
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
        #[cfg(unix)]
        Ok(_) => unix::log_access(&folder),
        #[cfg(not(unix))]
        Ok(_) => Check::ok("log", folder.display().to_string()),
    }
}

fn to_be_made(folder: &Path) -> Check {
    let found = format!("{} will be made by the broker", folder.display());
    Check::ok("log", found)
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
}
