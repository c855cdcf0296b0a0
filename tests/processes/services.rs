//! Requests, and programs that serve them.

use super::*;

/// A program that serves, once it does.
fn served<const N: usize>(daemon: &Daemon, service: &str, arguments: [&str; N]) -> Process {
    let server = daemon.spawns(arguments);
    until("it is served", || {
        let services = daemon.run(["services", "--json"]).stdout;
        let name = format!("\"name\":\"{service}\"");
        String::from_utf8_lossy(&services).contains(&name)
    });
    server
}

#[test]
fn a_program_becomes_a_service() {
    let daemon = daemon();
    let _upper = served(
        &daemon,
        "upper",
        ["serve-with", "upper", "--", "tr", "a-z", "A-Z"],
    );
    let said = daemon.prints(["request", "upper", "any", "hello"]);
    assert_eq!(said, "HELLO\n");
    let object = &daemon.json(["request", "upper", "any", "hello"])[0];
    assert_eq!(object["payload"], "HELLO");
    let services = daemon.prints(["services"]);
    assert!(services.contains("upper"), "{services}");
    let listed = &daemon.json(["services"])[0];
    assert_eq!(
        (&listed["requests"], &listed["failed"]),
        (&2.into(), &0.into())
    );
    let large = daemon.directory().join("large");
    std::fs::write(&large, vec![b'x'; 3 << 20]).unwrap();
    let large = large.to_str().unwrap();
    let said = daemon.prints(["request", "upper", "any", "--file", large, "--raw"]);
    assert_eq!(said, "X".repeat(3 << 20));
}

#[test]
fn what_goes_wrong_is_told_the_caller() {
    let daemon = daemon();
    let script = "echo one >&2; echo \"no $LOCALHUB_METHOD here\" >&2; exit 7";
    let arguments = ["serve-with", "shop", "--", "sh", "-c", script];
    let _shop = served(&daemon, "shop", arguments);
    let failed = daemon.run(["request", "shop", "bread"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(complaint(&failed).contains("shop says: no bread here (exit_7)"));
    let nobody = daemon.run(["request", "elsewhere", "bread"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(complaint(&nobody).contains("nobody serves that now"));
    for wrong in [
        &["request", "shop"][..],
        &["request", "shop", "x", "--command-id", "7"],
        &["request", "shop", "x", "--timeout", "soon"],
        &["serve-with", "shop"],
        &[
            "serve-with",
            "shop",
            "--exclusive",
            "--takeover",
            "--",
            "true",
        ],
    ] {
        let output = daemon.command([]).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_command_is_carried_out_once_and_answered_the_same() {
    let daemon = daemon();
    let count = daemon.directory().join("count");
    let script = format!("echo x >> {0}; wc -l < {0}", count.display());
    let arguments = ["serve-with", "till", "--", "sh", "-c", &script];
    let _till = served(&daemon, "till", arguments);
    let id = "01890000-0000-7000-8000-000000000001";
    let asks = |id: &str| daemon.prints(["request", "till", "sell", "bread", "--command-id", id]);
    let first = asks(id);
    assert_eq!(asks(id), first);
    let reused = daemon.run(["request", "till", "sell", "cake", "--command-id", id]);
    assert!(complaint(&reused).contains("used for another command"));
    asks("new");
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\nx\n");
}

#[test]
fn a_program_whose_caller_is_gone_is_killed() {
    let daemon = daemon();
    let pid = daemon.directory().join("pid");
    let script = format!("echo $$ > {}; exec sleep 600", pid.display());
    let arguments = ["serve-with", "slow", "--", "sh", "-c", &script];
    let _slow = served(&daemon, "slow", arguments);
    let late = daemon.run(["request", "slow", "any", "--timeout", "300ms"]);
    assert!(complaint(&late).contains("no reply in time"));
    let mut caller = daemon.spawns(["request", "slow", "any"]);
    let runs = |pid: &str| std::path::Path::new("/proc").join(pid.trim()).exists();
    let mut seen = String::new();
    until("the program runs", || {
        seen = std::fs::read_to_string(&pid).unwrap_or_default();
        !seen.trim().is_empty() && runs(&seen)
    });
    caller.kill();
    if cfg!(target_os = "linux") {
        until("it is killed", || !runs(&seen));
    }
}

#[test]
fn one_of_two_has_an_exclusive_service_until_it_is_gone() {
    let daemon = daemon();
    let says = |word| ["serve-with", "lead", "--exclusive", "--", "echo", word];
    let mut first = served(&daemon, "lead", says("first"));
    let _second = daemon.spawns(says("second"));
    until("the second waits", || {
        daemon.json(["services"])[0]["servers"]
            .as_array()
            .unwrap()
            .len()
            == 2
    });
    assert_eq!(daemon.prints(["request", "lead", "who"]), "first\n");
    first.kill();
    until("the second leads", || {
        let who = daemon.run(["request", "lead", "who"]).stdout;
        who == b"second\n"
    });
}
