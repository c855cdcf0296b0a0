//! The broker that is measured: a private one that nobody else uses, or the one that runs.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Parser as _;
use localhub_client::admin::{self, HubView};
use localhub_client::{Client, Endpoint, Options};
use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tempfile::TempDir;

use super::super::shared::exit::Exit;
use super::super::{Cli, Globals, Verb};
use super::worker::follow_stdin;

/// A broker to measure, and this process as an operator of it. A private one ends with it.
pub(super) struct Hub {
    operator: Client,
    view: HubView,
    private: Option<Private>,
}

impl Hub {
    /// The broker that runs.
    ///
    /// # Errors
    /// None does, or it cannot be reached.
    pub(super) async fn running(globals: &Globals) -> anyhow::Result<Self> {
        let operator = globals.connect().await?;
        Self::new(operator, None).await
    }

    /// A broker in a process of its own, which is `localhub serve` with the defaults, or with the
    /// configuration that was asked for.
    pub(super) async fn private(globals: &Globals) -> anyhow::Result<Self> {
        let private = Private::start(globals).context("cannot start a private broker")?;
        let operator = Options::new()
            .endpoint(private.endpoint.clone())
            .reconnect(false)
            .connect()
            .await?;
        Self::new(operator, Some(private)).await
    }

    async fn new(operator: Client, private: Option<Private>) -> anyhow::Result<Self> {
        let view = operator.admin(admin::STATUS, &()).await?;
        Ok(Self {
            operator,
            view,
            private,
        })
    }

    /// Where it listens.
    pub(super) fn endpoint(&self) -> String {
        self.operator.endpoint().path().display().to_string()
    }

    /// Which one it is.
    pub(super) fn about(&self) -> About {
        About {
            kind: match self.private {
                Some(_) => Kind::Private,
                None => Kind::Running,
            },
            version: self.view.version.clone(),
            pid: self.view.pid,
            endpoint: self.view.endpoint.clone(),
        }
    }

    /// How it is now.
    pub(super) async fn status(&self) -> anyhow::Result<HubView> {
        Ok(self.operator.admin(admin::STATUS, &()).await?)
    }

    /// This process as a client of the broker.
    pub(super) fn operator(&self) -> &Client {
        &self.operator
    }

    /// The memory that its process has in use.
    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let pid = Pid::from_u32(self.view.pid);
        let mut system = System::new();
        let memory = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, memory);
        let process = system.process(pid);
        process
            .map(sysinfo::Process::memory)
            .context("the system does not say how much memory the broker has")
    }

    /// Says goodbye; a private one ends.
    pub(super) async fn end(self) {
        super::super::shared::link::close(self.operator).await;
    }
}

/// Which broker was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct About {
    pub(super) kind: Kind,
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) endpoint: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Private,
    Running,
}

/// A broker of this process. Dropping it kills it, and then removes its directory.
struct Private {
    child: Child,
    endpoint: Endpoint,
    _directory: TempDir,
}

impl Private {
    fn start(globals: &Globals) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("localhub-bench-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let endpoint = if cfg!(windows) {
            let name = directory.path().file_name().unwrap_or_default();
            format!(r"\\.\pipe\{}", name.to_string_lossy())
        } else {
            directory.path().join("hub.sock").display().to_string()
        };
        let config = match &globals.config {
            Some(config) => config.clone(),
            None => {
                let defaults = directory.path().join("defaults.toml");
                std::fs::write(&defaults, "")?;
                defaults
            }
        };
        let mut child = Command::new(env::current_exe()?)
            .args(["bench", "hub", "--endpoint", &endpoint, "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let private = Self {
            child,
            endpoint: Endpoint::new(&endpoint)?,
            _directory: directory,
        };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.is_empty() {
            bail!("it has ended at once");
        }
        let announced: Announced = serde_json::from_str(&line)?;
        ensure!(
            announced.pid == private.child.id(),
            "another broker answers in its place"
        );
        Ok(private)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Nobody but the workers, which have ended, is to be told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line of `localhub serve --json`, as far as it matters here.
#[derive(Deserialize)]
struct Announced {
    pid: u32,
}

/// Is a private broker: `localhub serve`, until it is stopped or the bench has gone.
pub(super) fn serve(globals: &Globals) -> anyhow::Result<Exit> {
    let (Some(endpoint), Some(config)) = (&globals.endpoint, &globals.config) else {
        bail!("this is started by `localhub bench` (run that instead)");
    };
    follow_stdin(|_| {});
    let words = [
        "localhub",
        "serve",
        "--json",
        "--log",
        LOG,
        "--endpoint",
        endpoint,
        "--config",
    ];
    let words = words.iter().map(std::ffi::OsString::from);
    let serve = Cli::try_parse_from(words.chain([config.into()]))?;
    match serve.verb {
        Verb::Serve(args) => super::super::serve::run(args, &serve.globals),
        _ => unreachable!("the words say serve"),
    }
}

/// What a private broker logs.
const LOG: &str = "warn";
