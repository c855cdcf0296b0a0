//! What operators ask: who is there, what waits, who is to go.

use super::*;

#[test]
fn every_answer_is_there_for_programs_too() {
    let daemon = daemon();
    let subscriber = subscriber(&daemon, "#");
    let clients = daemon.clients();
    let name = clients[0]["name"].as_str().unwrap();
    assert_eq!(clients[0]["pid"], subscriber.pid());
    assert!(
        clients[0]["executable"]
            .as_str()
            .unwrap()
            .contains("localhub")
    );
    assert_eq!(daemon.json(["client", name])[0]["name"], name);
    assert_eq!(
        daemon.json(["status"])[0]["connected"],
        2,
        "and the one that asks"
    );
    assert!(daemon.json(["channels"])[0].to_string().contains("kiosk"));
    let channel = daemon.json(["channel", "kiosk"])[0].to_string();
    assert!(
        channel.contains("\"ready\"") && channel.contains(name),
        "{channel}"
    );
    assert!(!daemon.json(["config"]).is_empty());
    assert!(!daemon.json(["doctor"]).is_empty());
    assert!(!daemon.json(["kick", name]).is_empty());
    assert!(!daemon.json(["stop"]).is_empty());
}

#[test]
fn who_went_and_who_is_awaited_can_be_looked_up() {
    let daemon = daemon();
    assert!(daemon.json(["closed"]).is_empty());
    let mut killed = subscriber(&daemon, "#");
    killed.kill();
    // This process lives on, so the session of its connection waits.
    let mut stream = UnixStream::connect(daemon.endpoint()).unwrap();
    let mut wire = Vec::new();
    ClientFrame::Hello(hello(Some("absent"), None)).encode(&mut wire);
    stream.write_all(&wire).unwrap();
    until("it is there", || {
        daemon
            .clients()
            .iter()
            .any(|client| client["name"] == "absent")
    });
    let mut second = UnixStream::connect(daemon.endpoint()).unwrap();
    second.write_all(&wire).unwrap();
    let mut answer = Vec::new();
    second.read_to_end(&mut answer).unwrap();
    drop(stream);
    until("it is awaited", || !daemon.json(["sessions"]).is_empty());
    let sessions = daemon.json(["sessions"]);
    assert_eq!(sessions[0]["client"]["name"], "absent");
    assert!(sessions[0]["expires_ms"].as_u64() <= Some(120_000));
    let closed = daemon.json(["closed"]);
    let end = |reason: &str| {
        let found = closed.iter().find(|end| end["reason"] == reason);
        found.unwrap_or_else(|| panic!("somebody's end was {reason}: {closed:?}"))
    };
    assert_eq!(
        (&end("lost")["name"], &end("lost")["parked"]),
        (&"absent".into(), &true.into())
    );
    assert_eq!(end("name_taken")["name"], serde_json::Value::Null);
    assert_eq!(end("name_taken")["pid"], std::process::id());
    let died = if cfg!(target_os = "linux") {
        end("died")
    } else {
        end("lost")
    };
    assert_eq!(died["pid"], killed.pid());
    assert!(daemon.prints(["closed", "--last", "1"]).contains("REASON"));
    assert!(daemon.prints(["sessions"]).contains("absent"));
}

#[test]
fn a_kicked_client_is_told_and_does_not_come_back() {
    let daemon = daemon();
    let mut subscriber = subscriber(&daemon, "#");
    let name = daemon.clients()[0]["name"].as_str().unwrap().to_owned();
    daemon.prints(["kick", &name]);
    let (_, errors) = subscriber.rest();
    assert_eq!(subscriber.ends().code(), Some(1));
    assert!(errors.join(" ").contains("operator"), "{errors:?}");
    assert_eq!(
        daemon.run(["kick", &name]).status.code(),
        Some(1),
        "there is none any more"
    );
}

#[test]
fn exit_codes_are_what_the_help_says() {
    let daemon = daemon();
    let ends = |output: Output, code: i32| {
        assert_eq!(output.status.code(), Some(code), "{}", complaint(&output));
        assert!(
            complaint(&output).lines().count() <= 6,
            "{}",
            complaint(&output)
        );
    };
    ends(daemon.run(["status"]), 0);
    ends(daemon.run(["channel", "nowhere"]), 1);
    ends(daemon.run(["send", "nobody", "hello"]), 1);
    ends(daemon.run(["pub", "Kiosk", "a", "b"]), 2);
    ends(daemon.run(["pub", "kiosk", "a/+", "b"]), 2);
    ends(daemon.run(["sub", "kiosk", "#/a"]), 2);
    ends(daemon.run(["dance"]), 2);
    ends(daemon.run(["sub"]), 2);
    let folder = private_directory();
    for arguments in [
        &["status"][..],
        &["clients"],
        &["pub", "a", "b", "c"],
        &["sub", "a"],
    ] {
        let mut command = command(LOCALHUB.as_ref(), folder.path());
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let said = complaint(&output);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("localhub serve"), "{said}");
    }
}

#[test]
fn a_client_that_is_asked_for_speaks_directly() {
    let daemon = daemon();
    let watcher = daemon.spawns(["watch", "kiosk", "--json"]);
    until("it watches", || daemon.clients().len() == 1);
    until("it is a member", || {
        daemon.run(["channel", "kiosk"]).status.success()
            && daemon.prints(["channel", "kiosk", "--json"]).contains('#')
    });
    daemon.prints(["broadcast", "kiosk", "hello all"]);
    let seen: serde_json::Value = serde_json::from_str(&watcher.line()).unwrap();
    assert_eq!(seen["payload"], "hello all");
}
