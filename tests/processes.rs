//! The real binary, in real processes: sockets, permissions, users, signals, exit codes, outputs.
//!
//! What these tests wait for are conditions, never times.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};
use std::time::Duration;

use localhub_protocol::limits::HELLO_BYTES_MAX;
use localhub_protocol::{BrokerFrame, ClientFrame, Code};
use localhub_tests::hello;
use localhub_tests::process::{Daemon, Process, command, private_directory, until};

const LOCALHUB: &str = env!("CARGO_BIN_EXE_localhub");

/// The user that nobody is, whom every Unix has.
const NOBODY: u32 = 65_534;

fn daemon() -> Daemon {
    Daemon::start(LOCALHUB, "")
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A subscriber that is ready: it has printed the retained value that was there before it.
fn subscriber(daemon: &Daemon, filter: &str) -> Process {
    let topic = if filter == "#" { "ready" } else { filter };
    daemon.prints(["pub", "kiosk", topic, "yes", "--retain"]);
    let subscriber = daemon.spawns(["sub", "kiosk", filter, "--json"]);
    assert!(
        subscriber.line().contains("\"yes\""),
        "the retained value comes first"
    );
    subscriber
}

mod broker {
    use super::*;

    #[test]
    fn it_says_where_it_listens_and_stops_on_a_signal() {
        for signal in ["TERM", "INT"] {
            let mut daemon = daemon();
            let socket = daemon.endpoint();
            daemon.process().signal(signal);
            assert_eq!(daemon.process().ends().code(), Some(0), "SIG{signal}");
            assert!(!socket.exists(), "the socket is gone");
        }
    }

    #[test]
    fn the_socket_is_for_one_user_alone() {
        let daemon = daemon();
        let socket = std::fs::symlink_metadata(daemon.endpoint()).unwrap();
        assert!(socket.file_type().is_socket());
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
        let state = daemon.directory().join("state");
        let mut folders = vec![state];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let mode = path.metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o077, 0, "{} is open to others", path.display());
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
    }

    #[test]
    fn a_second_one_names_the_first_and_goes() {
        let mut daemon = daemon();
        let second = daemon.run(["serve"]);
        assert_eq!(second.status.code(), Some(1));
        let pid = daemon.process().pid().to_string();
        assert!(complaint(&second).contains(&pid), "{}", complaint(&second));
        daemon.prints(["status"]);
    }

    #[test]
    fn a_socket_that_a_killed_one_left_is_taken_over() {
        let daemon = daemon().restarts_after_a_kill();
        daemon.prints(["status"]);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let folder = private_directory();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = command(LOCALHUB.as_ref(), folder.path());
        let output = command
            .env("LOCALHUB_ENDPOINT", open.join("hub.sock"))
            .arg("serve")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            complaint(&output).contains(open.to_str().unwrap()),
            "{}",
            complaint(&output)
        );
    }

    #[test]
    fn another_user_is_refused_even_at_an_open_door() {
        if !is_root() {
            eprintln!("only root can become somebody else: nothing was tested");
            return;
        }
        let daemon = daemon();
        // The doors that usually keep others out.
        let open = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(daemon.directory(), 0o755);
        open(&daemon.endpoint(), 0o666);
        let copy = std::env::temp_dir().join(format!("localhub-{}", std::process::id()));
        std::fs::copy(LOCALHUB, &copy).unwrap();
        open(&copy, 0o755);
        use std::os::unix::process::CommandExt;
        let output = std::process::Command::new(&copy)
            .args(["status", "--endpoint"])
            .arg(daemon.endpoint())
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .output()
            .unwrap();
        std::fs::remove_file(&copy).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
        assert!(output.stdout.is_empty());
        assert_eq!(daemon.clients().len(), 0);
    }

    #[test]
    fn a_client_that_is_killed_is_gone() {
        let daemon = daemon();
        let mut client = subscriber(&daemon, "#");
        until("it is listed", || daemon.clients().len() == 1);
        client.kill();
        until("it is not listed any more", || daemon.clients().is_empty());
    }

    #[test]
    fn a_signal_under_load_still_stops_it_in_order() {
        let mut daemon = daemon();
        let mut reader = subscriber(&daemon, "load");
        let mut publisher = daemon.spawns(["pub", "kiosk", "load"]);
        for n in 0..1_000 {
            publisher.reads(&format!("line {n}"));
        }
        reader.line();
        daemon.process().signal("TERM");
        assert_eq!(daemon.process().ends().code(), Some(0));
        reader.kill();
    }

    #[test]
    fn stop_stops_it() {
        let mut daemon = daemon();
        let said = daemon.prints(["stop"]);
        assert!(said.contains(&daemon.process().pid().to_string()), "{said}");
        assert_eq!(daemon.process().ends().code(), Some(0));
        let (_, complaints) = daemon.process().rest();
        assert_eq!(
            complaints, [""; 0],
            "who asks whether it is gone is not worth a line"
        );
        assert_eq!(daemon.run(["status"]).status.code(), Some(3));
    }

    #[test]
    fn a_key_that_it_does_not_know_is_told_with_its_place() {
        let folder = private_directory();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "[limits]\npayload_bites = 7\n").unwrap();
        let mut command = command(LOCALHUB.as_ref(), folder.path());
        let output = command
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
        assert!(
            complaint(&output).contains("line 2"),
            "{}",
            complaint(&output)
        );
    }
}

/// A client in a process of its own that hands its connection down to a child, and what it does then.
mod heir {
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
}

mod messages {
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
}

mod history {
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
}

mod values {
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
}

mod services {
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
        let asks =
            |id: &str| daemon.prints(["request", "till", "sell", "bread", "--command-id", id]);
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
}

mod operators {
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
}

mod mischief {
    use super::*;

    /// Says hello, and gives the connection once it is welcomed.
    fn welcomed(daemon: &Daemon) -> UnixStream {
        let mut stream = UnixStream::connect(daemon.endpoint()).unwrap();
        let mut wire = Vec::new();
        ClientFrame::Hello(hello(None, None)).encode(&mut wire);
        stream.write_all(&wire).unwrap();
        let body = frame(&mut stream).expect("a welcome");
        assert!(matches!(
            BrokerFrame::decode(&body),
            Ok(BrokerFrame::Welcome(_))
        ));
        stream
    }

    fn frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut body).ok()?;
        Some(body)
    }

    fn close_code(stream: &mut UnixStream) -> Option<Code> {
        loop {
            let body = frame(stream)?;
            if let Ok(BrokerFrame::Close { code, .. }) = BrokerFrame::decode(&body) {
                return Some(code);
            }
        }
    }

    #[test]
    fn whoever_breaks_the_rules_is_told_the_code_and_nobody_else_notices() {
        let daemon = daemon();
        let witness = subscriber(&daemon, "#");
        for (bytes, code) in [
            (&b"\0\0\0\x01\x80"[..], Code::MALFORMED_FRAME),
            (b"\0\0\0\x04\x82\x02\x18\x01", Code::MALFORMED_FRAME),
            (b"\0\0\0\x03\x81\x18\xf0", Code::UNKNOWN_KIND),
            (b"\0\0\0\x03\x82\x18\x30", Code::OUT_OF_ORDER),
            (b"\xff\xff\xff\xff", Code::FRAME_TOO_LARGE),
            (b"\0\0\0\x03\x82\x02\x09", Code::BAD_POSITION),
        ] {
            let mut stream = welcomed(&daemon);
            stream.write_all(bytes).unwrap();
            assert_eq!(close_code(&mut stream), Some(code), "{bytes:02x?}");
        }
        // What the frames of a stranger may be.
        for (bytes, code) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Code::FRAME_TOO_LARGE),
            (b"\0\0\0\x03\x82\x02\0", Code::OUT_OF_ORDER),
            (b"\0\0\0\x01\x80", Code::MALFORMED_FRAME),
            (
                &(HELLO_BYTES_MAX as u32 + 1).to_be_bytes(),
                Code::FRAME_TOO_LARGE,
            ),
        ] {
            let mut stream = UnixStream::connect(daemon.endpoint()).unwrap();
            stream.write_all(bytes).unwrap();
            assert_eq!(close_code(&mut stream), Some(code), "{bytes:02x?}");
        }
        daemon.prints(["pub", "kiosk", "after", "all that"]);
        assert!(witness.line().contains("all that"));
        let refused = daemon.json(["status"])[0]["connections_refused"]
            .as_u64()
            .unwrap();
        assert_eq!(refused, 10);
    }

    #[test]
    fn whoever_says_nothing_is_sent_away() {
        let daemon = Daemon::start(LOCALHUB, "[timing]\nhello_timeout_ms = 100\n");
        let mut silent = UnixStream::connect(daemon.endpoint()).unwrap();
        assert_eq!(close_code(&mut silent), Some(Code::HELLO_TIMEOUT));
    }

    #[test]
    fn a_client_that_does_not_answer_pings_is_parked() {
        let daemon = Daemon::start(LOCALHUB, "[timing]\nping_interval_ms = 100\n");
        let mut hung = welcomed(&daemon);
        assert_eq!(close_code(&mut hung), Some(Code::PING_TIMEOUT));
        until("its session waits for it", || {
            daemon.json(["status"])[0]["parked"].as_u64() == Some(1)
        });
    }

    #[test]
    fn a_client_that_never_reads_can_be_kicked_and_holds_up_nobody() {
        let daemon = daemon();
        let mut deaf = welcomed(&daemon);
        let mut wire = Vec::new();
        ClientFrame::Join {
            name: "kiosk",
            hidden: false,
            state: b"",
        }
        .encode(&mut wire);
        deaf.write_all(&wire).unwrap();
        let witness = subscriber(&daemon, "#");
        let file = daemon.directory().join("large");
        std::fs::write(&file, vec![b'x'; 4 * 1024 * 1024]).unwrap();
        for _ in 0..12 {
            daemon.prints(["broadcast", "kiosk", "--file", file.to_str().unwrap()]);
        }
        let clients = daemon.clients();
        let view = clients
            .iter()
            .find(|client| client["messages_lost"].as_u64() > Some(0));
        let name = view.expect("the deaf one lost messages")["name"]
            .as_str()
            .unwrap();
        daemon.prints(["pub", "kiosk", "for", "the others"]);
        assert!(witness.line().contains("the others"));
        daemon.prints(["kick", name]);
        until("it is gone", || daemon.clients().len() == 1);
        // The system still holds what was written before; then the connection ends.
        until("its connection has ended", || {
            let mut buffer = vec![0; 1 << 20];
            matches!(deaf.read(&mut buffer), Ok(0) | Err(_))
        });
    }

    #[test]
    fn stopping_does_not_wait_for_who_says_nothing() {
        let mut daemon = Daemon::start(
            LOCALHUB,
            "[timing]\nhello_timeout_ms = 60000\nstop_grace_ms = 60000\n",
        );
        let mut silent = UnixStream::connect(daemon.endpoint()).unwrap();
        let mut polite = welcomed(&daemon);
        daemon.process().signal("TERM");
        let body = frame(&mut polite).expect("a last word");
        assert!(matches!(
            BrokerFrame::decode(&body),
            Ok(BrokerFrame::GoAway {
                code: Code::SHUTTING_DOWN,
                ..
            })
        ));
        assert_eq!(close_code(&mut polite), Some(Code::SHUTTING_DOWN));
        assert_eq!(close_code(&mut silent), Some(Code::SHUTTING_DOWN));
        assert_eq!(daemon.process().ends().code(), Some(0));
    }

    #[test]
    fn there_may_be_so_many_connections_and_no_more() {
        let daemon = Daemon::start(LOCALHUB, "[limits]\nconnections = 2\n");
        let first = welcomed(&daemon);
        let second = welcomed(&daemon);
        let mut third = UnixStream::connect(daemon.endpoint()).unwrap();
        assert_eq!(close_code(&mut third), Some(Code::TOO_MANY_CONNECTIONS));
        drop((first, second));
        until("there is room again", || {
            daemon.run(["status"]).status.success()
        });
    }

    #[test]
    fn a_frame_that_stops_in_the_middle_does_nothing() {
        let daemon = daemon();
        let mut wire = Vec::new();
        ClientFrame::Join {
            name: "kiosk",
            hidden: false,
            state: b"",
        }
        .encode(&mut wire);
        for end in 1..wire.len() {
            let mut stream = welcomed(&daemon);
            stream.write_all(&wire[..end]).unwrap();
        }
        until("they are all gone", || {
            daemon.json(["status"])[0]["connected"].as_u64() == Some(1)
        });
        assert_eq!(
            daemon.run(["channel", "kiosk"]).status.code(),
            Some(1),
            "nobody joined"
        );
    }
}

mod demo {
    use super::*;

    #[test]
    fn it_runs_real_processes_and_leaves_none() {
        let folder = private_directory();
        let mut command = command(LOCALHUB.as_ref(), folder.path());
        let output = command
            .args(["demo", "--seconds", "5", "--json"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let summary: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert!(summary.is_object(), "{text}");
    }
}
