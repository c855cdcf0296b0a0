//! A client in a process of its own that hands its connection down to a child, and what it does then.

use super::*;

/// Set in the process that plays the client; that is this test program, run again.
#[cfg(target_os = "linux")]
const ROLE: &str = "LOCALHUB_TEST_HEIR";

#[cfg(target_os = "linux")]
fn play_the_client(endpoint: &std::ffi::OsStr) {
    let mut stream = UnixStream::connect(endpoint).unwrap();
    let mut wire = Vec::new();
    ClientFrame::Hello(hello(Some("parent"), None)).encode(&mut wire);
    ClientFrame::Join {
        name: "kiosk",
        hidden: false,
        state: b"",
    }
    .encode(&mut wire);
    stream.write_all(&wire).unwrap();
    let heirloom = std::os::fd::OwnedFd::from(stream.try_clone().unwrap());
    let child = std::process::Command::new("sleep")
        .arg("3600")
        .stdin(heirloom)
        .spawn();
    println!("child {}", child.unwrap().id());
    std::thread::park();
}

#[test]
#[cfg(target_os = "linux")]
fn a_dead_parent_is_seen_though_its_child_keeps_the_connection() {
    const NAME: &str = "heir::a_dead_parent_is_seen_though_its_child_keeps_the_connection";
    if let Some(endpoint) = std::env::var_os(ROLE) {
        return play_the_client(&endpoint);
    }
    let daemon = daemon();
    let watcher = daemon.spawns(["watch", "kiosk", "--json"]);
    let mut client = std::process::Command::new(std::env::current_exe().unwrap());
    client.args(["--exact", NAME, "--nocapture"]);
    client.env(ROLE, daemon.endpoint());
    let mut client = Process::start(client);
    let child = loop {
        if let Some((_, child)) = client.line().split_once("child ") {
            break child.trim().to_owned();
        }
    };
    until("it is there", || {
        daemon
            .clients()
            .iter()
            .any(|client| client["name"] == "parent")
    });
    client.kill();
    until("it is gone", || {
        !daemon
            .clients()
            .iter()
            .any(|client| client["name"] == "parent")
    });
    let alive = std::path::Path::new("/proc").join(&child).exists();
    let killed = std::process::Command::new("kill").arg(&child).status();
    assert!(
        alive && killed.is_ok_and(|status| status.success()),
        "the child had lived on"
    );
    let mut seen = String::new();
    while !seen.contains("left") {
        seen = watcher.line();
    }
    assert!(seen.contains("parent"), "{seen}");
}

#[test]
fn the_last_words_of_a_client_that_ends_are_heard() {
    let daemon = daemon();
    let subscriber = subscriber(&daemon, "words");
    let mut stream = UnixStream::connect(daemon.endpoint()).unwrap();
    let mut wire = Vec::new();
    ClientFrame::Hello(hello(None, None)).encode(&mut wire);
    ClientFrame::Join {
        name: "kiosk",
        hidden: false,
        state: b"",
    }
    .encode(&mut wire);
    for n in 0..100 {
        let payload = format!("\"{n}\"");
        ClientFrame::Message(localhub_protocol::Message::Publish {
            channel: localhub_protocol::ChannelId(1),
            retain: localhub_protocol::Retain::No,
            content: localhub_protocol::ContentType::JSON,
            topic: "words",
            payload: payload.as_bytes(),
        })
        .encode(&mut wire);
    }
    stream.write_all(&wire).unwrap();
    drop(stream);
    for n in 0..100 {
        let seen: serde_json::Value = serde_json::from_str(&subscriber.line()).unwrap();
        assert_eq!(seen["payload"], n.to_string());
    }
}
