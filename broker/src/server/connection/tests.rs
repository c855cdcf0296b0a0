//! Connections whose other end is played by the test.

use std::collections::VecDeque;

use localhub_protocol::{ChannelId, ContentType, Limits, Message, Policy, Retain, Start, Version};

use super::*;
use crate::hub::{Hub, Settings, testing};
use crate::server::VIGILS_MIN;

/// The first channel of the hub.
const KIOSK: ChannelId = ChannelId(1);

/// Enters it.
const JOIN: ClientFrame<'_> = ClientFrame::Join {
    name: "kiosk",
    hidden: false,
    state: &[],
};

/// More than one turn carries out, and than half of what an outbox holds here.
const LARGE: ClientFrame<'_> = ClientFrame::Message(Message::Publish {
    channel: KIOSK,
    retain: Retain::No,
    content: ContentType::BYTES,
    topic: "t",
    payload: &[0; 600 * 1024],
});

/// More than one write takes.
const FIRST: ClientFrame<'_> = ClientFrame::Message(Message::Publish {
    channel: KIOSK,
    retain: Retain::No,
    content: ContentType::BYTES,
    topic: "t",
    payload: &[0; 300 * 1024],
});

/// The last that a client says.
const GOODBYE: ClientFrame<'_> = ClientFrame::Close {
    code: Code::GOODBYE,
    detail: "",
};

/// The other end of a connection.
struct Puppet {
    /// What it says, a read each.
    said: VecDeque<Vec<u8>>,
    takes: Takes,
}

/// What becomes of what is written to it.
enum Takes {
    /// So many bytes at a time arrive.
    Bytes(usize),
    /// It reads nothing.
    Nothing,
    /// It is gone, as the first write shows; the last that it said is read after that, and then the end.
    Broken { shown: bool },
}

impl Puppet {
    fn new(said: impl IntoIterator<Item = Vec<u8>>, takes: Takes) -> Self {
        let said = said.into_iter().collect();
        Self { said, takes }
    }
}

impl AsyncWrite for Puppet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.takes {
            Takes::Bytes(most) => Poll::Ready(Ok(bytes.len().min(*most))),
            Takes::Nothing => Poll::Pending,
            Takes::Broken { shown } => {
                *shown = true;
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Readiness for Puppet {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waits = match self.takes {
            Takes::Broken { shown } => self.said.len() == 1 && !shown,
            _ => self.said.is_empty(),
        };
        if waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_into(
        &mut self,
        _: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let said = self.said.pop_front().unwrap_or_default();
        buffer.extend_from_slice(&said);
        Poll::Ready(Ok(said.len()))
    }
}

fn hub() -> Arc<Hub> {
    let settings = testing::settings();
    let limits = Limits {
        outbox_bytes: 1 << 20,
        ..settings.limits
    };
    Hub::new(Settings {
        limits,
        memory_bytes: 1 << 20,
        ..settings
    })
}

fn hello(name: &str) -> Hello<'_> {
    Hello {
        versions: (Version::CURRENT, Version::CURRENT),
        features: vec![],
        name: Some(name),
        resume: None,
        ttl_ms: None,
    }
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared::new(hub(), Duration::from_secs(5), 10))
}

fn wire(frames: &[ClientFrame<'_>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for frame in frames {
        frame.encode(&mut wire);
    }
    wire
}

/// How many sessions wait for their client, once ana has said this behind its hello, a read each, and is gone.
async fn parked_after(
    shared: &Arc<Shared>,
    said: impl IntoIterator<Item = impl Into<Vec<u8>>>,
) -> u64 {
    let others = shared.hub.status(Duration::ZERO).connected;
    let mut all = VecDeque::from([wire(&[ClientFrame::Hello(hello("ana"))])]);
    all.extend(said.into_iter().map(Into::into));
    let stream = Puppet::new(all, Takes::Broken { shown: false });
    serve(stream, testing::identity(), Counted::new(shared.clone())).await;
    let status = shared.hub.status(Duration::ZERO);
    assert_eq!(status.connected, others);
    status.parked
}

/// What came of a client that said this and is gone, beside bo who does not read: how many of its messages were
/// carried out, and how many sessions wait.
async fn beside_bo(said: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> (u64, u64) {
    let shared = shared();
    let _bo = let_bo_in(&shared);
    let before = shared.hub.status(Duration::ZERO).messages_in;
    let parked = parked_after(&shared, said).await;
    let after = shared.hub.status(Duration::ZERO).messages_in;
    (after - before, parked)
}

/// Lets bo into the channel, and makes sure that whoever publishes there has to wait for it, also once bo is
/// about to get the first of what waits.
fn let_bo_in(shared: &Shared) -> Peer {
    let mut wakes = Wakes::default();
    let (token, now) = (ResumeToken([1; 32]), Duration::ZERO);
    let mut bo = shared
        .hub
        .attach(&hello("bo"), testing::identity(), token, now, &mut wakes)
        .unwrap();
    let subscribe = ClientFrame::Subscribe {
        channel: KIOSK,
        filter: "#",
        start: Start::Live,
        policy: Policy::DropOldest,
    };
    // What is said in one turn is written at once, too.
    for turn in [&[JOIN, subscribe, FIRST][..], &[LARGE]] {
        let mut said = BytesMut::from(&wire(turn)[..]);
        let pinned = said.capacity();
        bo.receive(&mut said, pinned, now, &mut wakes).unwrap();
        assert!(said.is_empty(), "it was one turn");
    }
    assert!(wakes.is_stalled(), "its outbox is more than half full");
    bo
}

// protocol.md 16.2
#[tokio::test]
async fn a_slow_client_is_there_as_long_as_it_takes_what_there_is() {
    let shared = shared();
    let bo = let_bo_in(&shared);
    let (slow, wakes) = (Puppet::new([], Takes::Bytes(1)), Wakes::default());
    let mut connection = Connection::new(slow, bo, None, None, Vec::new(), shared, wakes);
    connection.heard -= connection.ping();
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    for _ in 0..=2 * PINGS_MAX {
        assert!(connection.poll_receive(cx).is_ok_and(|read| !read));
        assert!(connection.poll_send(cx).is_ok_and(|taken| taken));
        assert!(connection.look_at_silence().is_ok());
    }
    for _ in 0..PINGS_MAX {
        assert!(connection.look_at_silence().is_ok(), "it is asked");
    }
    let Err(Ending::Closed(close)) = connection.look_at_silence() else {
        panic!("it takes nothing any more, and is still believed in");
    };
    assert_eq!(close.code, Code::PING_TIMEOUT);
}

#[tokio::test]
async fn nobody_waits_for_the_death_of_a_process_whose_session_is_over() {
    let shared = shared();
    let mut wakes = Wakes::default();
    let now = Duration::ZERO;
    let process = shared.processes.watch(std::process::id());
    for _ in 0..4 * VIGILS_MIN {
        // Who comes takes the name of the session that waits, which ends.
        let token = ResumeToken([1; 32]);
        let ana = shared
            .hub
            .attach(&hello("ana"), testing::identity(), token, now, &mut wakes);
        let ana = ana.unwrap();
        let (client, generation) = (ana.client(), ana.generation());
        let lost = Departure::Lost(Code::CONNECTION_LOST);
        let ttl = shared.hub.detach(ana, lost, now, &mut wakes).unwrap();
        if let Some(process) = process.clone() {
            shared.watch_over(client, generation, ttl, process);
        }
    }
    let vigils = shared.vigils.lock().by_client.len();
    assert!(vigils <= VIGILS_MIN, "{vigils} vigils for one session");
    shared.end_vigils();
}

#[test]
fn what_is_little_of_a_buffer_does_not_keep_it() {
    for (length, taken) in [
        (1, false),
        (READ_BYTES / COPY_SHARE - 1, false),
        (READ_BYTES / COPY_SHARE, true),
        (READ_BYTES, true),
    ] {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        buffer.resize(length, 7);
        let read = take(&mut buffer);
        assert_eq!(read, vec![7; length]);
        assert_eq!(read.capacity() == READ_BYTES, taken, "{length} bytes");
        assert!(read.capacity() <= length * COPY_SHARE);
    }
}

// protocol.md 17.7
#[tokio::test]
async fn a_goodbye_counts_though_a_write_fails_before_it_is_read() {
    assert_eq!(parked_after(&shared(), [wire(&[GOODBYE])]).await, 0);
    assert_eq!(
        parked_after(&shared(), [vec![]]).await,
        1,
        "it may come back"
    );
}

// protocol.md 17.7
#[tokio::test]
async fn a_goodbye_counts_though_what_was_said_before_it_fills_an_outbox() {
    let said = wire(&[JOIN, LARGE, GOODBYE]);
    assert_eq!(beside_bo(said.chunks(READ_BYTES)).await, (2, 0));
}

// protocol.md 17.7
#[tokio::test]
async fn a_goodbye_counts_though_its_client_goes_while_it_waits_for_an_outbox() {
    // All of it is read, and the first turn carried out, when the write fails: nothing is left to read.
    let said = wire(&[JOIN, LARGE, LARGE, LARGE, GOODBYE]);
    assert_eq!(beside_bo([said, vec![]]).await, (4, 0));
}

// protocol.md 17.7
#[tokio::test]
async fn a_goodbye_counts_though_its_client_is_to_be_parked() {
    let shared = shared();
    let mut bo = let_bo_in(&shared);
    let subscribe = ClientFrame::Subscribe {
        channel: KIOSK,
        filter: "#",
        start: Start::Live,
        policy: Policy::Park,
    };
    let mut said = BytesMut::from(&wire(&[subscribe, LARGE])[..]);
    let mut wakes = Wakes::default();
    let pinned = said.capacity();
    bo.receive(&mut said, pinned, Duration::ZERO, &mut wakes)
        .unwrap();
    wakes.wait_for_nobody();
    assert_eq!(bo.closing(), Some(Code::SLOW_CONSUMER));
    let stream = Puppet::new([wire(&[GOODBYE])], Takes::Nothing);
    let connection = Connection::new(stream, bo, None, None, Vec::new(), shared.clone(), wakes);
    let mut connection = Box::new(connection);
    let ending = connection.run().await;
    connection.finish(ending).await;
    let status = shared.hub.status(Duration::ZERO);
    assert_eq!(
        (status.connected, status.parked),
        (0, 0),
        "its session is over"
    );
}

// G14: one client can never stop another.
#[tokio::test]
async fn a_client_is_heard_though_others_publish_faster_than_it_reads() {
    let shared = shared();
    let bo = let_bo_in(&shared);
    let mut wakes = Wakes::default();
    let (token, now) = (ResumeToken([2; 32]), Duration::ZERO);
    let mut ana = shared
        .hub
        .attach(&hello("ana"), testing::identity(), token, now, &mut wakes)
        .unwrap();
    ana.receive(&mut BytesMut::from(&wire(&[JOIN])[..]), 0, now, &mut wakes)
        .unwrap();
    let enough = ClientFrame::Unsubscribe {
        channel: KIOSK,
        filter: "#",
    };
    let stream = Puppet::new([wire(&[enough])], Takes::Bytes(100 * 1024));
    let mut connection = Connection::new(
        stream,
        bo,
        None,
        None,
        Vec::new(),
        shared.clone(),
        Wakes::default(),
    );
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    let news = wire(&[ClientFrame::Message(Message::Publish {
        channel: KIOSK,
        retain: Retain::No,
        content: ContentType::BYTES,
        topic: "t",
        payload: &[0; 10 * 1024],
    })]);
    for round in 0..200 {
        // Bo takes 100 KiB; ana says 300 KiB.
        for _ in 0..30 {
            ana.receive(&mut BytesMut::from(&news[..]), 0, now, &mut wakes)
                .unwrap();
        }
        wakes.wait_for_nobody();
        assert!(connection.poll_send(cx).is_ok_and(|taken| taken));
        if round < 20 {
            // What was there at first is gone then.
            continue;
        }
        assert!(connection.poll_receive(cx).is_ok());
        if connection.stream.said.is_empty() {
            return;
        }
    }
    panic!("bo took 20 MB, and was not heard once");
}
