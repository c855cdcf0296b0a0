//! The broker as a process: where it listens, who may come in, how it ends.

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
