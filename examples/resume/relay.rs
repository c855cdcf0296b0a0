//! A socket in front of the broker's, whose connections can be cut.

use std::path::{Path, PathBuf};

use localhub_client::endpoint::{Endpoint, EndpointError};
use tokio::sync::watch;

pub(crate) struct Relay {
    path: PathBuf,
    open: watch::Sender<bool>,
}

impl Relay {
    /// Listens at `path`, and carries what comes there to the broker at `hub`.
    pub(crate) fn start(path: &Path, hub: &Path) -> anyhow::Result<Self> {
        let open = watch::Sender::new(true);
        listen(path, hub.to_owned(), open.subscribe())?;
        Ok(Self {
            path: path.to_owned(),
            open,
        })
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        Endpoint::new(&self.path)
    }

    /// Ends all connections, and those that come until it is open again.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

#[cfg(unix)]
fn listen(path: &Path, hub: PathBuf, mut open: watch::Receiver<bool>) -> anyhow::Result<()> {
    use tokio::net::{UnixListener, UnixStream};

    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        // Ends with the relay, which has the sender.
        while open.wait_for(|open| *open).await.is_ok() {
            let Ok((mut client, _)) = listener.accept().await else {
                continue;
            };
            let (hub, mut open) = (hub.clone(), open.clone());
            tokio::spawn(async move {
                // Whichever way it ends, the client sees the end of its connection.
                let Ok(mut broker) = UnixStream::connect(hub).await else {
                    return;
                };
                tokio::select! {
                    _ = open.wait_for(|open| !*open) => {}
                    _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => {}
                }
            });
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn listen(_: &Path, _: PathBuf, _: watch::Receiver<bool>) -> anyhow::Result<()> {
    anyhow::bail!("this example cuts a Unix socket, which there is none of on this system")
}
