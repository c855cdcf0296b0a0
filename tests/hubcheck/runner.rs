//! A run: a broker, its clients, what befalls them, and how it all ends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use localhub_client::admin::{self, HubView};
use localhub_client::{Endpoint, Options};
use localhub_tests::Rng;
use rustix::process::Signal;

use crate::plan::{CLIENTS, configuration, is_proxied, sender, session_ttl};
use crate::processes::{Process, size_of};
use crate::proxy::Proxy;
use crate::record::{Event, Recorder};

/// How long anybody may take for what he has to do once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes of a run, and the folder with their socket and records.
pub(crate) struct Run {
    folder: PathBuf,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) rng: Rng,
    broker: Process,
    clients: Vec<Member>,
    /// Connections of the clients behind a proxy.
    open: Arc<AtomicU64>,
    descriptors_before: u64,
}

/// One client, over all lives of its process.
struct Member {
    client: u64,
    life: u64,
    process: Process,
    proxy: Option<Proxy>,
}

impl Run {
    /// Starts a broker and all clients, and waits until they are ready.
    pub(crate) async fn start(folder: &Path, seed: u64) -> io::Result<Self> {
        std::fs::write(folder.join("config.toml"), configuration())?;
        std::fs::create_dir(folder.join("records"))?;
        let recorder = Arc::new(Recorder::create(&folder.join("records/runner"))?);
        let broker = start_broker(folder, &recorder).await?;
        let mut run = Self {
            folder: folder.to_owned(),
            recorder,
            rng: Rng::new(seed),
            broker,
            clients: Vec::new(),
            open: Arc::default(),
            descriptors_before: 0,
        };
        run.descriptors_before = run.idle().await.map_or(0, |(_, descriptors)| descriptors);
        for client in 0..CLIENTS {
            let proxy = match is_proxied(client) {
                true => Some(Proxy::start(
                    client,
                    &run.socket(client),
                    &folder.join("hub.sock"),
                    &run.recorder,
                    &run.open,
                    run.rng.draw(),
                )?),
                false => None,
            };
            let process = run.start_client(client, 0)?;
            run.clients.push(Member {
                client,
                life: 0,
                process,
                proxy,
            });
        }
        run.all("", "ready", 0).await;
        Ok(run)
    }

    fn socket(&self, client: u64) -> PathBuf {
        match is_proxied(client) {
            true => self.folder.join(format!("c{client}.sock")),
            false => self.folder.join("hub.sock"),
        }
    }

    fn start_client(&mut self, client: u64, life: u64) -> io::Result<Process> {
        let sender = sender(client, life);
        self.recorder.note(Event::Started {
            sender,
            ttl_ms: session_ttl(client).as_millis() as u64,
            proxied: u64::from(is_proxied(client)),
        });
        let records = self.folder.join(format!("records/{sender}"));
        let arguments = [
            sender.to_string(),
            self.socket(client).display().to_string(),
            records.display().to_string(),
            self.rng.draw().to_string(),
        ];
        let complaints = self.folder.join("clients.err");
        Process::start(
            "client",
            &arguments.each_ref().map(String::as_str),
            &complaints,
        )
    }

    /// Kills clients, all of them before one is started again.
    pub(crate) fn restart(&mut self, clients: &[u64]) -> io::Result<()> {
        for client in clients {
            let member = &mut self.clients[*client as usize];
            self.recorder.note(Event::Killed {
                sender: sender(*client, member.life),
            });
            member.process.kill();
        }
        for client in clients {
            let life = self.clients[*client as usize].life + 1;
            let process = self.start_client(*client, life)?;
            let member = &mut self.clients[*client as usize];
            (member.life, member.process) = (life, process);
        }
        Ok(())
    }

    /// Stops a client, or makes it go on.
    pub(crate) fn stop(&self, client: u64, stopped: bool) {
        let member = &self.clients[client as usize];
        let sender = sender(client, member.life);
        let (signal, event) = match stopped {
            true => (Signal::STOP, Event::Stopped { sender }),
            false => (Signal::CONT, Event::Continued { sender }),
        };
        member.process.signal(signal);
        self.recorder.note(event);
    }

    /// Has a client send a lot at once.
    pub(crate) fn flood(&mut self, client: u64) {
        self.clients[client as usize].process.tell("flood");
        self.recorder.note(Event::Flooded { client });
    }

    /// The way of a client to the broker, if it can be tampered with.
    pub(crate) fn proxy(&self, client: u64) -> Option<&Proxy> {
        self.clients[client as usize].proxy.as_ref()
    }

    /// Kills the broker and starts another.
    pub(crate) async fn restart_broker(&mut self) -> io::Result<()> {
        let pid = u64::from(self.broker.pid());
        self.recorder.note(Event::BrokerKilled { pid });
        self.broker.kill();
        self.broker = start_broker(&self.folder, &self.recorder).await?;
        Ok(())
    }

    /// Writes down how large the broker is.
    pub(crate) fn sample(&self) {
        if let Some((rss, descriptors)) = size_of(self.broker.pid()) {
            let direct = (0..CLIENTS).filter(|client| !is_proxied(*client)).count() as u64;
            self.recorder.note(Event::Sample {
                rss,
                descriptors,
                connections: direct + self.open.load(Ordering::Relaxed),
            });
        }
    }

    /// Lets everybody finish, and looks at what is left.
    pub(crate) async fn finish(mut self) {
        self.recorder.note(Event::Calm {});
        self.all("quiet", "quiet", 1).await;
        self.all("drain", "drained", 2).await;
        for member in &mut self.clients {
            member.process.tell("end");
        }
        for member in &mut self.clients {
            if member.process.ends(PATIENCE).await != Some(0) {
                let client = member.client;
                self.recorder.note(Event::Overdue { client, step: 3 });
            }
        }
        if let Some((hub, descriptors)) = self.idle().await {
            self.recorder.note(Event::Idle {
                connected: hub.connected,
                parked: hub.parked,
                queued_bytes: hub.queued_bytes,
                requests: hub.requests,
                descriptors,
                descriptors_before: self.descriptors_before,
            });
        }
        self.broker.signal(Signal::TERM);
        let code = self.broker.ends(PATIENCE).await;
        let socket_left = u64::from(self.folder.join("hub.sock").exists());
        self.recorder.note(Event::Ended {
            code: code.map_or(u64::MAX, |code| code as u64),
            socket_left,
        });
    }

    /// Tells all clients something, and waits until all have said what follows.
    async fn all(&mut self, order: &str, answer: &str, step: u64) {
        for member in self.clients.iter_mut().filter(|_| !order.is_empty()) {
            member.process.tell(order);
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        for member in &mut self.clients {
            let patience = until.saturating_duration_since(tokio::time::Instant::now());
            if !member.process.says(answer, patience).await {
                let client = member.client;
                self.recorder.note(Event::Overdue { client, step });
            }
        }
    }

    /// The broker when only the one that asks is there, and its descriptors then.
    async fn idle(&self) -> Option<(HubView, u64)> {
        let endpoint = Endpoint::new(self.folder.join("hub.sock")).ok()?;
        let client = Options::new().endpoint(endpoint).connect().await.ok()?;
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let hub: HubView = client.admin(admin::STATUS, &()).await.ok()?;
            let descriptors = size_of(self.broker.pid()).map_or(0, |(_, descriptors)| descriptors);
            let idle = (hub.connected, hub.parked, hub.queued_bytes, hub.requests) == (1, 0, 0, 0)
                && (self.descriptors_before == 0 || descriptors <= self.descriptors_before);
            if idle || tokio::time::Instant::now() > until {
                // What it says is here already.
                let _ = client.close().await;
                return Some((hub, descriptors));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn start_broker(folder: &Path, recorder: &Recorder) -> io::Result<Process> {
    let argument = folder.display().to_string();
    let mut broker = Process::start("broker", &[&argument], &folder.join("broker.err"))?;
    if !broker.says("listening at", PATIENCE).await {
        let said = std::fs::read_to_string(folder.join("broker.err")).unwrap_or_default();
        return Err(io::Error::other(format!(
            "the broker does not start: {said}"
        )));
    }
    let pid = u64::from(broker.pid());
    recorder.note(Event::BrokerUp { pid });
    Ok(broker)
}
