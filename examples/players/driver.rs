//! What a player driver does, whether it is in this program or at the other end of the hub.

use localhub_client::{Client, Error, Failure, Incoming, Payload};
use localhub_examples::Version;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of this contract.
pub(crate) const VERSION: Version = Version { major: 1, minor: 0 };

/// The service of the host, and the channel that the players are in: whoever leaves it is
/// unregistered.
pub(crate) const PLAYERS: &str = "players";

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlayerInfo {
    pub(crate) title: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PlayerState {
    Stopped,
    Playing,
    Paused,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub(crate) enum PlayerStatus {
    Ready,
    Buffering,
    Broken { reason: String },
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Timeline {
    pub(crate) position_ms: u64,
    pub(crate) duration_ms: u64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) title: String,
    pub(crate) artist: Option<String>,
}

/// Makes of one list of methods the trait, the client that implements it by requests, and the
/// answers of a host that has another implementation of it.
macro_rules! driver {
    ($($(#[$doc:meta])* $method:ident($($name:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// A driver of players. An error that the driver means is [`Error::Failed`]; the others
        /// come from the way to it.
        pub(crate) trait PlayerDriver: Send + Sync {
            $(
                $(#[$doc])*
                fn $method(&self, $($name: $type),*)
                -> impl Future<Output = Result<$answer, Error>> + Send;
            )*
        }

        impl PlayerDriver for RemoteDriver {
            $(
                async fn $method(&self, $($name: $type),*) -> Result<$answer, Error> {
                    self.ask(stringify!($method), &($($name,)*)).await
                }
            )*
        }

        /// Has a driver answer a request.
        pub(crate) async fn answer(
            driver: &impl PlayerDriver,
            request: &Incoming,
        ) -> Result<Payload, Failure> {
            match request.method() {
                $(stringify!($method) => {
                    let ($($name,)*) = request.decode()?;
                    Ok(Payload::cbor(&driver.$method($($name),*).await?)?)
                })*
                other => Err(Failure::new("unknown_method", other)),
            }
        }
    };
}

driver! {
    /// Which version of the contract it has.
    get_protocol_version() -> Version;
    register_player(player: String, info: PlayerInfo) -> ();
    unregister_player(player: String) -> ();
    assign_player_to_device(player: String, device: String) -> ();
    unassign_player_from_device(player: String, device: String) -> ();
    update_player_state(player: String, state: PlayerState) -> ();
    update_player_status(player: String, status: PlayerStatus) -> ();
    update_player_timeline(player: String, timeline: Timeline) -> ();
    update_player_metadata(player: String, metadata: Metadata) -> ();
    set_preferred_player(player: String) -> ();
    get_preferred_player() -> Option<String>;
    get_player_assigned_device(player: String) -> Option<String>;
}

/// The driver of the host, at the other end of the hub.
#[derive(Clone, Debug)]
pub(crate) struct RemoteDriver {
    client: Client,
}

impl RemoteDriver {
    /// The driver of a host that understands this version of the contract.
    pub(crate) async fn connect(client: &Client, version: Version) -> Result<Self, Error> {
        let client = client.clone();
        let driver = Self { client };
        let host = driver.get_protocol_version().await?;
        if !host.speaks_with(version) {
            let text = format!("version {version} does not go with version {host} of the host");
            return Err(Error::Failed(Failure::new("version_mismatch", text)));
        }
        Ok(driver)
    }

    async fn ask<A: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &A,
    ) -> Result<R, Error> {
        let request = self.client.request(PLAYERS, method);
        request
            .payload(Payload::cbor(arguments)?)
            .send()
            .await?
            .decode()
    }
}
