//! `player_host` and `player`.

#[expect(dead_code, reason = "the test asks, and does not answer")]
#[path = "../players/driver.rs"]
mod driver;
#[path = "../players/local.rs"]
mod local;

use std::fmt::Debug;

use driver::{
    Metadata, PlayerDriver, PlayerInfo, PlayerState, PlayerStatus, RemoteDriver, Timeline, VERSION,
};
use local::LocalDriver;
use localhub_client::{Client, Error};
use localhub_tests::process::{Process, until};

use crate::{Hub, read_until};

#[test]
fn a_driver_is_the_same_in_this_program_and_at_the_other_end_of_the_hub() {
    let hub = Hub::start();
    let client = hub.client("piano");
    let _host = hub.player_host();
    hub.runtime.block_on(async {
        use_driver(&LocalDriver::default()).await;

        client.join(driver::PLAYERS).await.unwrap();
        use_driver(&RemoteDriver::connect(&client, VERSION).await.unwrap()).await;
    });
}

/// Does everything there is to do with a driver, whichever it is.
async fn use_driver(driver: &impl PlayerDriver) {
    let (piano, speaker) = (|| "piano".to_owned(), || "speaker".to_owned());
    let info = || PlayerInfo {
        title: "plays the piano".to_owned(),
    };
    assert_eq!(driver.get_protocol_version().await.unwrap(), VERSION);
    assert_eq!(driver.get_preferred_player().await.unwrap(), None);
    assert_eq!(
        why(driver.set_preferred_player(piano()).await),
        "unknown_player"
    );

    driver.register_player(piano(), info()).await.unwrap();
    assert_eq!(
        why(driver.register_player(piano(), info()).await),
        "already_registered"
    );
    driver.set_preferred_player(piano()).await.unwrap();
    assert_eq!(driver.get_preferred_player().await.unwrap(), Some(piano()));

    assert_eq!(
        driver.get_player_assigned_device(piano()).await.unwrap(),
        None
    );
    driver
        .assign_player_to_device(piano(), speaker())
        .await
        .unwrap();
    assert_eq!(
        driver.get_player_assigned_device(piano()).await.unwrap(),
        Some(speaker())
    );
    driver
        .unassign_player_from_device(piano(), "another".to_owned())
        .await
        .unwrap();
    assert_eq!(
        driver.get_player_assigned_device(piano()).await.unwrap(),
        Some(speaker())
    );
    driver
        .unassign_player_from_device(piano(), speaker())
        .await
        .unwrap();
    assert_eq!(
        driver.get_player_assigned_device(piano()).await.unwrap(),
        None
    );

    for state in [
        PlayerState::Playing,
        PlayerState::Paused,
        PlayerState::Stopped,
    ] {
        driver.update_player_state(piano(), state).await.unwrap();
    }
    let reason = "a string is broken".to_owned();
    for status in [
        PlayerStatus::Ready,
        PlayerStatus::Buffering,
        PlayerStatus::Broken { reason },
    ] {
        driver.update_player_status(piano(), status).await.unwrap();
    }
    let timeline = Timeline {
        position_ms: 1_000,
        duration_ms: 273_000,
    };
    driver
        .update_player_timeline(piano(), timeline)
        .await
        .unwrap();
    let metadata = Metadata {
        title: "4'33\"".to_owned(),
        artist: None,
    };
    driver
        .update_player_metadata(piano(), metadata)
        .await
        .unwrap();

    driver.unregister_player(piano()).await.unwrap();
    assert_eq!(driver.get_preferred_player().await.unwrap(), None);
    assert_eq!(
        why(driver.get_player_assigned_device(piano()).await),
        "unknown_player"
    );
    assert_eq!(
        why(driver.unregister_player(piano()).await),
        "unknown_player"
    );
}

#[test]
fn a_player_that_is_killed_is_unregistered() {
    let hub = Hub::start();
    let host = hub.player_host();
    let mut radio = hub.runs("player", &["radio", "--device", "speaker-2"]);
    read_until(&radio, "radio plays on speaker-2");
    let client = hub.client("test");
    let driver = hub.driver(&client).unwrap();
    let assigned = || {
        let device = driver.get_player_assigned_device("radio".to_owned());
        hub.runtime.block_on(device)
    };
    assert_eq!(assigned().unwrap(), Some("speaker-2".to_owned()));
    read_until(&host, "timeline: Some");

    radio.kill();
    read_until(&host, "radio is unregistered");
    assert_eq!(why(assigned()), "unknown_player");

    // The name is free again.
    let radio = hub.runs("player", &["radio"]);
    read_until(&radio, "radio plays on speaker-1");
    assert_eq!(assigned().unwrap(), Some("speaker-1".to_owned()));
    // Nor does one stay that ends in an orderly way.
    radio.signal("INT");
    read_until(&host, "radio is unregistered");
}

#[test]
fn a_player_registers_again_with_the_next_host() {
    let hub = Hub::start();
    let mut host = hub.player_host();
    let radio = hub.runs("player", &["radio"]);
    read_until(&radio, "radio plays on speaker-1");

    let client = hub.client("test");
    let channel = hub.runtime.block_on(client.join(driver::PLAYERS)).unwrap();
    host.kill();
    until("the name of the host is free", || {
        let members = hub.runtime.block_on(channel.members()).unwrap();
        members
            .iter()
            .all(|member| member.name.as_str() != "player-host")
    });
    let host = hub.player_host();
    read_until(&host, "radio is registered");
    read_until(&radio, "radio plays on speaker-1");
}

#[test]
fn a_player_registers_again_with_the_next_broker() {
    let hub = Hub::start();
    let host = hub.player_host();
    let radio = hub.runs("player", &["radio"]);
    read_until(&radio, "radio plays on speaker-1");
    read_until(&host, "radio is registered");

    let _hub = hub.starts_anew();
    read_until(&host, "radio is unregistered");
    read_until(&host, "radio is registered");
    read_until(&radio, "radio plays on speaker-1");
}

#[test]
fn who_is_not_in_the_channel_cannot_register_a_player() {
    let hub = Hub::start();
    let _host = hub.player_host();
    let client = hub.client("outsider");
    let driver = hub.driver(&client).unwrap();
    hub.runtime.block_on(async {
        let info = PlayerInfo {
            title: String::new(),
        };
        let registered = driver.register_player("outsider".to_owned(), info).await;
        assert_eq!(why(registered), "not_present");
        let device = driver.get_player_assigned_device("outsider".to_owned());
        assert_eq!(why(device.await), "unknown_player");
    });
}

#[test]
fn a_player_of_another_major_version_ends_and_says_why() {
    let hub = Hub::start();
    let _host = hub.player_host();
    let mut alien = hub.runs("player", &["alien", "--protocol-version", "2.0"]);
    let (_, errors) = alien.rest();
    assert_eq!(alien.ends().code(), Some(1));
    let why = "version 2.0 does not go with version 1.0 of the host (version_mismatch)";
    assert_eq!(errors, [format!("player: {why}")]);

    let newer = hub.runs("player", &["newer", "--protocol-version", "1.7"]);
    read_until(&newer, "newer plays on speaker-1");
}

impl Hub {
    /// A host that is ready.
    fn player_host(&self) -> Process {
        let host = self.runs("player_host", &[]);
        read_until(&host, "serving");
        host
    }

    fn driver(&self, client: &Client) -> Result<RemoteDriver, Error> {
        self.runtime
            .block_on(RemoteDriver::connect(client, VERSION))
    }
}

/// The code of a failure.
fn why<T: Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Failed(failure)) => failure.code().to_owned(),
        other => panic!("{other:?}"),
    }
}
