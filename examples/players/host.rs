//! A host for players: a driver, which is a trait, served over the hub.
//!
//! ```console
//! $ localhub serve
//! $ cargo run --example player_host
//! $ cargo run --example player -- radio      # in another terminal
//! ```
//!
//! Whoever has a `RemoteDriver` (`driver.rs`) uses the driver as if it were its own: it implements
//! the same trait. A player that ends without a word, by `kill -9` for instance, is unregistered
//! as soon as the hub sees it leave.

#[expect(dead_code, reason = "a host answers, and does not ask")]
mod driver;
mod local;

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clap::Parser;
use driver::{PLAYERS, PlayerDriver, PlayerInfo, VERSION};
use local::LocalDriver;
use localhub_client::{
    Change, Channel, Client, ClientId, ConnectionState, ConnectionStates, Failure, Incoming,
    Payload, Presence,
};
use localhub_examples::say;
use tokio::signal;

/// Serves a driver to players and to whoever directs them.
#[derive(Parser)]
struct Args {}

#[tokio::main]
async fn main() -> ExitCode {
    let Args {} = Args::parse();
    localhub_examples::exit_code("player_host", run().await)
}

async fn run() -> anyhow::Result<()> {
    let client = Client::connect("player-host").await?;
    let channel = client.join(PLAYERS).await?;
    let presence = channel.presence().await?;
    let host = Arc::new(Host {
        channel,
        driver: LocalDriver::default(),
        clients: Mutex::default(),
    });
    let mut service = client.serve(PLAYERS).await?;
    say!("serving {PLAYERS}, version {VERSION} (ctrl-c ends it)");
    let answering = host.clone();
    tokio::select! {
        () = service.run(16, move |request| answer(answering.clone(), request)) => {}
        () = host.watch(presence) => {}
        () = host.begin_anew(client.connection()) => {}
        _ = signal::ctrl_c() => {}
    }
    Ok(client.close().await?)
}

async fn answer(host: Arc<Host>, request: Incoming) -> Result<Payload, Failure> {
    let answer = driver::answer(&host.driver, &request).await?;
    if request.method() == "register_player" {
        let (player, _): (String, PlayerInfo) = request.decode()?;
        host.keep_while_present(player, request.caller().id).await?;
    }
    Ok(answer)
}

struct Host {
    channel: Channel,
    driver: LocalDriver,
    /// Which client has registered a player.
    clients: Mutex<HashMap<String, ClientId>>,
}

impl Host {
    /// Ties a player to its client. One that is gone already, or was never in the channel, would
    /// not be seen to leave.
    async fn keep_while_present(&self, player: String, client: ClientId) -> Result<(), Failure> {
        self.clients().insert(player, client);
        let members = self.channel.members().await?;
        if members.iter().any(|member| member.id == client) {
            return Ok(());
        }
        self.forget(|of| of == client).await;
        Err(Failure::new(
            "not_present",
            "a player joins the channel first",
        ))
    }

    /// Unregisters players that leave, until the client is closed.
    async fn watch(&self, mut presence: Presence) {
        while let Some(event) = presence.next().await {
            if event.change == Change::Left {
                self.forget(|of| of == event.member.id).await;
            }
        }
    }

    /// Forgets all players when a broker was started anew: it gives the ids of clients again, and
    /// to others. The players register again.
    async fn begin_anew(&self, mut connection: ConnectionStates) {
        let mut known = 1;
        while let Some(state) = connection.next().await {
            if let ConnectionState::Connected { session, .. } = state
                && session > known
            {
                known = session;
                self.forget(|_| true).await;
            }
        }
    }

    /// Unregisters the players of some clients.
    async fn forget(&self, gone: impl Fn(ClientId) -> bool) {
        let players: Vec<String> = {
            let mut clients = self.clients();
            clients
                .extract_if(|_, client| gone(*client))
                .map(|(player, _)| player)
                .collect()
        };
        for player in players {
            // It may have been unregistered in an orderly way.
            let _ = self.driver.unregister_player(player).await;
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<String, ClientId>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
