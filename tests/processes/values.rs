//! The values of a channel, set and deleted by commands.

use super::*;

#[test]
fn a_value_is_set_only_if_it_is_what_one_thinks() {
    let daemon = daemon();
    let _member = subscriber(&daemon, "#");
    daemon.prints([
        "pub",
        "kiosk",
        "mode",
        "day",
        "--retain",
        "--if-version",
        "0",
    ]);
    let state = daemon.json(["state", "kiosk", "mode"]);
    assert_eq!(state[0]["payload"], "day");
    let version = state[0]["version"].to_string();
    let refused = daemon.run(["pub", "kiosk", "mode", "noon", "--if-version", "0"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint(&refused).contains("read it again"));
    daemon.prints(["pub", "kiosk", "mode", "night", "--if-version", &version]);
    let shown = daemon.prints(["state", "kiosk"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("TOPIC"), "{shown}");
    assert!(lines[1].ends_with("night"), "{shown}");
    let stale = daemon.run(["pub", "kiosk", "mode", "--clear", "--if-version", &version]);
    assert_eq!(stale.status.code(), Some(1));
    let version = daemon.json(["state", "kiosk", "mode"])[0]["version"].to_string();
    daemon.prints(["pub", "kiosk", "mode", "--clear", "--if-version", &version]);
    assert_eq!(daemon.json(["state", "kiosk", "mode"]).len(), 0);
}

#[test]
fn a_value_that_has_its_time_goes_by_itself() {
    let daemon = daemon();
    let subscriber = subscriber(&daemon, "#");
    daemon.prints(["pub", "kiosk", "beat", "1", "--ttl", "50ms"]);
    assert!(subscriber.line().contains("beat"));
    let gone: serde_json::Value = serde_json::from_str(&subscriber.line()).unwrap();
    assert_eq!(gone["cleared"], true);
    assert_eq!(gone["sender"]["name"], "hub");
}
