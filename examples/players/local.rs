//! The driver itself: which players there are, and what they do. It knows nothing of the hub.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use localhub_client::{Error, Failure};
use localhub_examples::{Version, say};

use super::driver::{
    Metadata, PlayerDriver, PlayerInfo, PlayerState, PlayerStatus, Timeline, VERSION,
};

/// A driver in this program.
#[derive(Debug, Default)]
pub(crate) struct LocalDriver {
    players: Mutex<Players>,
}

#[derive(Debug, Default)]
struct Players {
    by_name: BTreeMap<String, Player>,
    preferred: Option<String>,
}

#[derive(Debug)]
struct Player {
    device: Option<String>,
    state: PlayerState,
    status: PlayerStatus,
    timeline: Option<Timeline>,
    metadata: Option<Metadata>,
}

impl LocalDriver {
    fn players(&self) -> MutexGuard<'_, Players> {
        self.players.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a player, and prints how it is then.
    fn update(&self, name: &str, change: impl FnOnce(&mut Player)) -> Result<(), Error> {
        let mut players = self.players();
        let player = players.by_name.get_mut(name).ok_or_else(|| unknown(name))?;
        change(player);
        say!("{name}: {player:?}");
        Ok(())
    }
}

impl PlayerDriver for LocalDriver {
    async fn get_protocol_version(&self) -> Result<Version, Error> {
        Ok(VERSION)
    }

    async fn register_player(&self, player: String, info: PlayerInfo) -> Result<(), Error> {
        let mut players = self.players();
        if players.by_name.contains_key(&player) {
            return Err(failed("already_registered", &player));
        }
        say!("{player} is registered: {info:?}");
        let new = Player {
            device: None,
            state: PlayerState::Stopped,
            status: PlayerStatus::Ready,
            timeline: None,
            metadata: None,
        };
        players.by_name.insert(player, new);
        Ok(())
    }

    async fn unregister_player(&self, player: String) -> Result<(), Error> {
        let mut players = self.players();
        players
            .by_name
            .remove(&player)
            .ok_or_else(|| unknown(&player))?;
        players.preferred.take_if(|preferred| *preferred == player);
        say!("{player} is unregistered");
        Ok(())
    }

    async fn assign_player_to_device(&self, player: String, device: String) -> Result<(), Error> {
        self.update(&player, |player| player.device = Some(device))
    }

    async fn unassign_player_from_device(
        &self,
        player: String,
        device: String,
    ) -> Result<(), Error> {
        self.update(&player, |player| {
            player.device.take_if(|assigned| *assigned == device);
        })
    }

    async fn update_player_state(&self, player: String, state: PlayerState) -> Result<(), Error> {
        self.update(&player, |player| player.state = state)
    }

    async fn update_player_status(
        &self,
        player: String,
        status: PlayerStatus,
    ) -> Result<(), Error> {
        self.update(&player, |player| player.status = status)
    }

    async fn update_player_timeline(
        &self,
        player: String,
        timeline: Timeline,
    ) -> Result<(), Error> {
        self.update(&player, |player| player.timeline = Some(timeline))
    }

    async fn update_player_metadata(
        &self,
        player: String,
        metadata: Metadata,
    ) -> Result<(), Error> {
        self.update(&player, |player| player.metadata = Some(metadata))
    }

    async fn set_preferred_player(&self, player: String) -> Result<(), Error> {
        let mut players = self.players();
        if !players.by_name.contains_key(&player) {
            return Err(unknown(&player));
        }
        players.preferred = Some(player);
        Ok(())
    }

    async fn get_preferred_player(&self) -> Result<Option<String>, Error> {
        Ok(self.players().preferred.clone())
    }

    async fn get_player_assigned_device(&self, player: String) -> Result<Option<String>, Error> {
        let players = self.players();
        let player = players
            .by_name
            .get(&player)
            .ok_or_else(|| unknown(&player))?;
        Ok(player.device.clone())
    }
}

fn unknown(player: &str) -> Error {
    failed("unknown_player", player)
}

fn failed(code: &str, player: &str) -> Error {
    Error::Failed(Failure::new(code, player))
}
