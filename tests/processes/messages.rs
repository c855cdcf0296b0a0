//! What goes from one command to another, and how it is printed.

use super::*;

#[test]
fn what_is_published_is_printed_with_its_sender() {
    let daemon = daemon();
    let subscriber = subscriber(&daemon, "#");
    daemon.prints(["pub", "kiosk", "device/printer/state", r#"{"paper": 12}"#]);
    let seen: serde_json::Value = serde_json::from_str(&subscriber.line()).unwrap();
    assert_eq!(seen["topic"], "device/printer/state");
    assert_eq!(seen["content"], "json");
    assert_eq!(seen["payload"]["paper"], 12);
    assert!(seen["sender"]["name"].is_string());
    assert_eq!(seen["retained"], false);
}

#[test]
fn a_client_that_reads_nothing_is_soon_known_to_be_stalled() {
    let daemon = daemon();
    let stopped = daemon.spawns(["sub", "kiosk", "#", "--raw"]);
    let state = |daemon: &Daemon| {
        let clients = daemon.clients();
        let it = clients.iter().find(|it| it["pid"] == stopped.pid());
        it.filter(|it| it["subscriptions"] == 1)
            .map(|it| it["state"].clone())
    };
    until("it is subscribed", || state(&daemon).is_some());
    stopped.signal("STOP");
    // More than lies in a socket, and far less than its outbox holds.
    let file = daemon.directory().join("much");
    std::fs::write(&file, vec![b'x'; 4 << 20]).unwrap();
    daemon.prints(["pub", "kiosk", "much", "--file", file.to_str().unwrap()]);
    until("it is stalled", || state(&daemon).unwrap() == "stalled");
    stopped.signal("CONT");
    until("it goes on", || state(&daemon).unwrap() == "online");
}

#[test]
fn a_line_is_a_message() {
    let daemon = daemon();
    let subscriber = subscriber(&daemon, "lines");
    let mut publisher = daemon.spawns(["pub", "kiosk", "lines"]);
    for line in ["one", "two", "three"] {
        publisher.reads(line);
    }
    assert_eq!(publisher.ends().code(), Some(0));
    for line in ["one", "two", "three"] {
        let seen: serde_json::Value = serde_json::from_str(&subscriber.line()).unwrap();
        assert_eq!(seen["payload"], line);
    }
}

#[test]
fn large_text_and_binary_arrive_as_they_were() {
    let daemon = daemon();
    let limit = 8 * 1024 * 1024;
    let text = "ä€𝄞 ".repeat(1024 * 1024 / 10).into_bytes();
    let binary: Vec<u8> = (0..limit)
        .map(|n: usize| (n * 31 + n / 251) as u8)
        .collect();
    for (name, bytes, content) in [("text", &text, "text"), ("binary", &binary, "bytes")] {
        let file = daemon.directory().join(name);
        std::fs::write(&file, bytes).unwrap();
        let path = file.to_str().unwrap();
        daemon.prints([
            "pub",
            "kiosk",
            name,
            "--retain",
            "--content",
            content,
            "--file",
            path,
        ]);
        let output = daemon.run(["sub", "kiosk", name, "--raw", "--count", "1"]);
        assert!(output.status.success(), "{}", complaint(&output));
        assert!(
            output.stdout.starts_with(bytes),
            "{name} of {} bytes",
            bytes.len()
        );
        assert!(
            output.stdout.len() <= bytes.len() + 1,
            "at most a line's end more"
        );
    }
    let file = daemon.directory().join("larger");
    std::fs::write(&file, vec![0; limit + 1]).unwrap();
    let path = file.to_str().unwrap();
    let refused = daemon.run(["pub", "kiosk", "larger", "--file", path]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        complaint(&refused).contains("8388608"),
        "{}",
        complaint(&refused)
    );
}

#[test]
fn a_reader_that_has_enough_ends_the_command_without_a_word() {
    let daemon = daemon();
    let _ready = subscriber(&daemon, "#");
    let mut reader = daemon
        .command(["sub", "kiosk", "#"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    reader
        .stdout
        .take()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    // Its output is closed now; the next message makes it notice.
    let mut status = None;
    until("it ends", || {
        daemon.prints(["pub", "kiosk", "more", "text"]);
        status = reader.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
    let mut said = String::new();
    reader
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "");
}
