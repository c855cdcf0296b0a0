//! localhub through its SDK, as an application would use it.
//!
//! Each client has a runtime of its own with one thread, which is the caller's.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use localhub_client::{Channel, Client, Endpoint, Messages, Options};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{Link, Protocol, Publisher, Received, Subscriber};
use crate::stream::SILENCE_MAX;

/// A localhub, through the SDK.
pub struct Sdk {
    pub socket: PathBuf,
}

const CHANNEL: &str = "bench";

/// A subscriber looks at the clock after so many messages.
const MESSAGES_PER_LOOK: u64 = 4_096;

impl Protocol for Sdk {
    fn subscriber(&self, topic: &str, _size: usize) -> Result<Box<dyn Subscriber>> {
        let runtime = runtime()?;
        let (client, channel) = runtime.block_on(self.join())?;
        let messages = runtime.block_on(channel.subscribe_live(topic))?;
        Ok(Box::new(SdkSubscriber {
            messages,
            client: Some(client),
            runtime,
        }))
    }

    fn publisher(&self, topic: &str, size: usize) -> Result<Box<dyn Publisher>> {
        let runtime = runtime()?;
        let (client, channel) = runtime.block_on(self.join())?;
        Ok(Box::new(SdkPublisher {
            channel,
            topic: topic.into(),
            payload: vec![b'x'; size],
            client: Some(client),
            runtime,
        }))
    }

    fn link(&self, hears: &str, says: &str, size: usize) -> Result<Box<dyn Link>> {
        let runtime = runtime()?;
        let (client, channel) = runtime.block_on(self.join())?;
        let messages = runtime.block_on(channel.subscribe_live(hears))?;
        Ok(Box::new(SdkLink {
            ends: Some(Ends {
                messages,
                channel,
                topic: says.into(),
                payload: vec![b'x'; size],
            }),
            client: Some(client),
            runtime,
        }))
    }
}

impl Sdk {
    async fn join(&self) -> Result<(Client, Channel)> {
        let endpoint = Endpoint::new(&self.socket)?;
        let client = Options::new().endpoint(endpoint).connect().await?;
        let channel = client.join(CHANNEL).await?;
        Ok((client, channel))
    }
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

struct SdkSubscriber {
    messages: Messages,
    client: Option<Client>,
    runtime: Runtime,
}

impl Subscriber for SdkSubscriber {
    fn receive(&mut self, count: u64) -> Result<Received> {
        let messages = &mut self.messages;
        self.runtime.block_on(async {
            let (mut received, mut lost) = (0, 0);
            let mut last = Instant::now();
            while received + lost < count {
                let look_at = (received + lost + MESSAGES_PER_LOOK).min(count);
                let some = timeout(SILENCE_MAX, async {
                    while received + lost < look_at {
                        match messages.next().await {
                            Some(Ok(_)) => received += 1,
                            Some(Err(gap)) => lost += gap.lost.context("the session is lost")?,
                            None => bail!("the client has ended"),
                        }
                    }
                    Ok(())
                });
                match some.await {
                    Ok(outcome) => outcome?,
                    Err(_silence) => break,
                }
                last = Instant::now();
            }
            Ok(Received {
                messages: received,
                last,
            })
        })
    }
}

impl Drop for SdkSubscriber {
    fn drop(&mut self) {
        close(&self.runtime, self.client.take());
    }
}

struct SdkPublisher {
    channel: Channel,
    topic: String,
    payload: Vec<u8>,
    client: Option<Client>,
    runtime: Runtime,
}

impl Publisher for SdkPublisher {
    fn publish(&mut self, count: u64) -> Result<()> {
        self.runtime.block_on(async {
            for _ in 0..count {
                self.channel.publish(&self.topic, &self.payload[..]).await?;
            }
            Ok(self
                .client
                .as_ref()
                .context("it is closed")?
                .flush()
                .await?)
        })
    }
}

impl Drop for SdkPublisher {
    fn drop(&mut self) {
        close(&self.runtime, self.client.take());
    }
}

/// The round trips are made in a task, as applications do: the runtime asks the system for news before it goes on
/// with the future of its `block_on`.
struct SdkLink {
    ends: Option<Ends>,
    client: Option<Client>,
    runtime: Runtime,
}

/// What a task takes with it.
struct Ends {
    messages: Messages,
    channel: Channel,
    topic: String,
    payload: Vec<u8>,
}

impl Ends {
    async fn send(&self) -> Result<()> {
        Ok(self
            .channel
            .publish(&self.topic, &self.payload[..])
            .await?)
    }

    async fn receive(&mut self) -> Result<()> {
        match self.messages.next().await {
            Some(Ok(_)) => Ok(()),
            _ => bail!("a message did not come back"),
        }
    }
}

impl Link for SdkLink {
    fn ping(&mut self, count: usize) -> Result<Vec<Duration>> {
        let mut ends = self.ends.take().context("used once")?;
        let work = self.runtime.spawn(async move {
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let start = Instant::now();
                ends.send().await?;
                ends.receive().await?;
                times.push(start.elapsed());
            }
            Ok(times)
        });
        self.runtime.block_on(work)?
    }

    fn echo(&mut self, count: usize) -> Result<()> {
        let mut ends = self.ends.take().context("used once")?;
        let client = self.client.clone().context("used once")?;
        let work = self.runtime.spawn(async move {
            for _ in 0..count {
                ends.receive().await?;
                ends.send().await?;
            }
            // The last message is on its way when this ends.
            client.flush().await?;
            Ok(())
        });
        self.runtime.block_on(work)?
    }
}

impl Drop for SdkLink {
    fn drop(&mut self) {
        close(&self.runtime, self.client.take());
    }
}

fn close(runtime: &Runtime, client: Option<Client>) {
    if let Some(client) = client {
        // The broker may be gone; then there is nobody to say goodbye to.
        let _ = runtime.block_on(client.close());
    }
}
