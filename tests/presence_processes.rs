//! Who is there, who is away and why, and what the dead leave behind, with real processes.
//!
//! The clients that are killed and stopped are this test program, run again.

#![cfg(unix)]

use std::env;
use std::ffi::OsString;
use std::io;
use std::process::Command;

use localhub_client::{Endpoint, Options, Will};
use localhub_tests::process::{Daemon, Process, until};
use serde_json::Value;

const LOCALHUB: &str = env!("CARGO_BIN_EXE_localhub");

/// Set in the process that plays a client: where the broker listens.
const BROKER: &str = "LOCALHUB_TEST_BROKER";

/// Starts a client `frail` in a process of its own, which is a member of `kiosk` and has left a will.
/// `test` is the test that calls this, which in that process only calls [`play_the_client`].
fn client(daemon: &Daemon, test: &str) -> Process {
    let mut client = Command::new(env::current_exe().unwrap());
    client.args(["--exact", test, "--nocapture"]);
    client.env(BROKER, daemon.endpoint());
    let client = Process::start(client);
    while !client.line().contains("the will is left") {}
    client
}

/// What the process of [`client`] does until it is killed.
fn play_the_client(broker: OsString) {
    let play = async {
        let endpoint = Endpoint::new(broker).unwrap();
        let options = Options::new().name("frail").endpoint(endpoint);
        let client = options.connect().await.unwrap();
        let kiosk = client.join("kiosk").await.unwrap();
        let gone = Will::retain("gone");
        kiosk.set_will("device/frail/state", gone).await.unwrap();
        println!("the will is left");
        // The end of the test is the end of its pipe.
        tokio::task::spawn_blocking(|| io::stdin().read_line(&mut String::new()))
            .await
            .unwrap()
            .unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(play);
}

/// Somebody who watches the channel from here on.
fn watcher<const N: usize>(daemon: &Daemon, arguments: [&str; N]) -> Process {
    let watcher = daemon.spawns(arguments);
    until("it watches", || {
        let channel = daemon.run(["channel", "kiosk", "--json"]);
        String::from_utf8_lossy(&channel.stdout).contains('#')
    });
    watcher
}

fn next(watcher: &Process) -> Value {
    serde_json::from_str(&watcher.line()).unwrap()
}

/// The next change of presence of the client, passing over messages.
fn change(watcher: &Process) -> Value {
    loop {
        let seen = next(watcher);
        if seen["member"]["name"] == "frail" {
            return seen;
        }
    }
}

#[test]
fn a_killed_process_leaves_its_will_and_its_cause_of_death() {
    const NAME: &str = "a_killed_process_leaves_its_will_and_its_cause_of_death";
    if let Some(broker) = env::var_os(BROKER) {
        return play_the_client(broker);
    }
    let daemon = Daemon::start(LOCALHUB, "");
    let watcher = watcher(&daemon, ["watch", "kiosk", "--json"]);
    let subscriber = daemon.spawns(["sub", "kiosk", "device/+/state", "--json"]);
    until("it is subscribed", || {
        daemon
            .prints(["channel", "kiosk", "--json"])
            .contains("device/+/state")
    });
    let mut client = client(&daemon, NAME);
    let joined = change(&watcher);
    assert_eq!(joined["event"], "joined");
    assert_eq!(joined["cause"], Value::Null);

    client.kill();
    let will = next(&subscriber);
    assert_eq!(will["topic"], "device/frail/state");
    assert_eq!(will["payload"], "gone");
    assert_eq!(will["sender"]["name"], "frail");
    assert_eq!(next(&watcher)["payload"], "gone", "before it has left");
    let seen = change(&watcher);
    assert_eq!(seen["event"], "left", "{seen}");
    assert_eq!(seen["cause"], "process_died", "{seen}");
}

/// The next change of that kind. On a busy machine a client may have been late with an answer before, and have
/// come back.
fn until_it_is(watcher: &Process, wanted: &str) -> Value {
    loop {
        let seen = change(watcher);
        if seen["event"] == wanted {
            return seen;
        }
    }
}

#[test]
fn a_stopped_process_is_told_to_be_stalled_then_away_and_comes_back() {
    const NAME: &str = "a_stopped_process_is_told_to_be_stalled_then_away_and_comes_back";
    if let Some(broker) = env::var_os(BROKER) {
        return play_the_client(broker);
    }
    let daemon = Daemon::start(LOCALHUB, "[timing]\nping_interval_ms = 300\n");
    let watcher = watcher(&daemon, ["watch", "kiosk", "--json"]);
    let client = client(&daemon, NAME);
    assert_eq!(change(&watcher)["event"], "joined");

    client.signal("STOP");
    let stalled = until_it_is(&watcher, "stalled");
    assert_eq!(stalled["member"]["status"], "stalled");
    let away = until_it_is(&watcher, "away");
    assert_eq!(away["cause"], "ping_timeout");
    let sessions = daemon.json(["sessions"]);
    assert_eq!(sessions[0]["client"]["name"], "frail");
    assert_eq!(sessions[0]["cause"], "ping_timeout");
    assert!(daemon.prints(["sessions"]).contains("ping_timeout"));

    client.signal("CONT");
    let back = until_it_is(&watcher, "back");
    assert_eq!(back["member"]["status"], "online");
}

#[test]
fn people_are_told_in_words_why_somebody_left() {
    const NAME: &str = "people_are_told_in_words_why_somebody_left";
    if let Some(broker) = env::var_os(BROKER) {
        return play_the_client(broker);
    }
    let daemon = Daemon::start(LOCALHUB, "");
    let watcher = watcher(&daemon, ["watch", "kiosk"]);
    let _client = client(&daemon, NAME);
    daemon.prints(["kick", "frail"]);
    let mut line = watcher.line();
    while !line.contains("(left") {
        line = watcher.line();
    }
    assert!(
        line.contains("frail") && line.contains("(left: kicked)"),
        "{line}"
    );
}

// Rule 14.3: a session ends at once if the system says that the client's process is dead.
#[test]
fn a_process_that_dies_while_it_is_away_is_gone() {
    const NAME: &str = "a_process_that_dies_while_it_is_away_is_gone";
    if let Some(broker) = env::var_os(BROKER) {
        return play_the_client(broker);
    }
    let daemon = Daemon::start(LOCALHUB, "[timing]\nping_interval_ms = 300\n");
    let watcher = watcher(&daemon, ["watch", "kiosk", "--json"]);
    let client = client(&daemon, NAME);
    assert_eq!(change(&watcher)["event"], "joined");
    client.signal("STOP");
    until("its session waits", || {
        !daemon.json(["sessions"]).is_empty()
    });
    client.signal("KILL");
    // It would wait for two minutes, and end as expired.
    let left = until_it_is(&watcher, "left");
    assert_eq!(left["cause"], "process_died", "{left}");
    assert_eq!(daemon.json(["sessions"]).len(), 0);
}
