//! What a channel keeps of what was said, and where a subscriber goes on.

use super::*;

fn publish_three(daemon: &Daemon) {
    for number in ["one", "two", "three"] {
        daemon.prints(["pub", "kiosk", "number", number]);
    }
}

#[test]
fn what_a_channel_keeps_is_there_for_those_who_come_later() {
    let daemon = daemon();
    let _member = subscriber(&daemon, "#");
    let said = daemon.prints(["keep", "kiosk", "--messages", "100", "--age", "10m"]);
    assert!(
        said.contains("100 messages") && said.contains("10 min"),
        "{said}"
    );
    publish_three(&daemon);
    let last = daemon.prints(["sub", "kiosk", "number", "--last", "2", "--count", "2"]);
    assert_eq!(last, "number  two\nnumber  three\n");

    let channel = &daemon.json(["channel", "kiosk"])[0];
    assert_eq!(channel["settings"]["history_messages"], 100);
    assert_eq!(channel["history"], 3);
    assert!(daemon.prints(["channels"]).contains("HISTORY"));
    let said = daemon.prints(["keep", "kiosk", "--messages", "0"]);
    assert!(said.contains("no history"), "{said}");
    assert_eq!(daemon.json(["channels"])[0]["history"], 0);
}

#[test]
fn a_subscriber_goes_on_behind_the_message_it_saw_last() {
    let daemon = daemon();
    let _member = subscriber(&daemon, "#");
    daemon.prints(["keep", "kiosk", "--messages", "100"]);
    publish_three(&daemon);
    let seen = daemon.json(["sub", "kiosk", "number", "--last", "3", "--count", "1"]);
    assert_eq!(seen[0]["payload"], "one");
    let cursor = seen[0]["cursor"].as_str().unwrap();
    let rest = daemon.prints(["sub", "kiosk", "number", "--after", cursor, "--count", "2"]);
    assert_eq!(rest, "number  two\nnumber  three\n");

    daemon.prints(["keep", "kiosk", "--messages", "1"]);
    let rest = daemon.json(["sub", "kiosk", "number", "--after", cursor, "--count", "1"]);
    assert_eq!(rest[0]["event"], "gap", "two is not kept any more");
    assert_eq!(rest[1]["payload"], "three");
}

#[test]
fn who_sets_what_nobody_would_keep_is_told() {
    let daemon = daemon();
    let refused = daemon.run(["keep", "nowhere", "--messages", "5"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint(&refused).contains("nobody is in channel nowhere"));
    let _member = subscriber(&daemon, "#");
    let refused = daemon.run(["keep", "kiosk", "--messages", "999999999"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        complaint(&refused).contains("limit"),
        "{}",
        complaint(&refused)
    );
    for usage in [
        &["keep", "kiosk"][..],
        &["keep", "kiosk", "--messages", "1", "--bytes", "many"],
        &["sub", "kiosk", "--last", "2", "--no-retained"],
        &["sub", "kiosk", "--policy", "drop_some"],
        &["sub", "kiosk", "--after", "yesterday"],
    ] {
        let mut command = daemon.command([]);
        let output = command.args(usage).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{usage:?}");
    }
}

#[test]
fn a_reader_of_the_latest_has_enough_of_a_flood_without_a_word() {
    let daemon = daemon();
    let mut reader = daemon
        .command(["sub", "kiosk", "load", "--policy", "latest"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it is subscribed", || {
        let channel = daemon.run(["channel", "kiosk", "--json"]);
        String::from_utf8_lossy(&channel.stdout).contains("latest")
    });
    let mut publisher = daemon.spawns(["pub", "kiosk", "load"]);
    for n in 0..10_000 {
        publisher.reads(&n.to_string());
    }
    let lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let numbers: Vec<u32> = lines
        .take(5)
        .map(|line| {
            line.unwrap()
                .strip_prefix("load  ")
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    // Its output is closed now; with the next messages it notices.
    let mut status = None;
    until("it ends", || {
        publisher.reads("more");
        status = reader.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
    let mut said = String::new();
    let mut errors = reader.stderr.take().unwrap();
    errors.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    assert_eq!(publisher.ends().code(), Some(0));
}
