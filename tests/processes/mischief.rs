//! Clients that do what they may not, or nothing at all.

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
